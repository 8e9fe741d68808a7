"""The picture of an embedding: distance map, pair embedding, residue embedding, profiles along the chain."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import EmbeddingError
from protemb_sdk._base.output import figures
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.fold import HELIX, STRAND, fold_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from protemb_sdk._base.figure import Picture

INK, LINE, SITE = "#22303c", "#2b6ca3", "#c0392b"
FOLDS = {HELIX: ("helix", "#c0392b"), STRAND: ("strand", "#dea028")}
FARTHEST = 50
"""Distance in angstrom from which on a distance map is white."""
LETTERS = 100
"""Residues of a chain up to which its strip has letters."""


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """Values in [0, 1] of the residues of a chain; those at or above the threshold have another colour."""

    title: str
    values: NDArray[np.float32]
    threshold: float | None = None


def principal_colours(features_NC: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the first three principal components as red, green and blue in [0, 1].

    Parameters
    ----------
    features_NC : ndarray, shape (N, C)
        One embedding a row.

    Returns
    -------
    ndarray, float64, shape (N, 3)
        Each component cut at its 2nd and 98th percentile.

    Raises
    ------
    EmbeddingError
        If `features_NC` has not two axes, or is empty.

    Examples
    --------
    >>> from protemb_sdk import Embedder, plot
    >>> plot.principal_colours(Embedder(device="cpu").embed("1a8o.cif").residue).shape
    (70, 3)
    """
    if np.ndim(features_NC) != 2 or not np.size(features_NC):
        raise EmbeddingError(f"colours need embeddings of shape (N, C), not {np.shape(features_NC)}")
    centred = features_NC.astype(np.float64) - features_NC.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :3]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)  # eigenvectors have no sign of their own
    components = centred @ axes
    low, high = np.percentile(components, [2, 98], axis=0)
    return np.asarray(np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1))


def draw(
    chain: Chain,
    residue: NDArray[np.float32],
    pair: NDArray[np.float32] | None,
    profiles: Sequence[Profile] = (),
) -> Figure:
    """Draw a chain; see `protemb_sdk.plot.picture`.

    Raises
    ------
    EmbeddingError
        If the pair embedding was not kept.
    OutputError
        If matplotlib is not installed.
    """
    if pair is None:
        raise EmbeddingError("the picture shows the pair embedding; embed with pair=True", chain.id)
    length, _, channels = pair.shape
    coords = chain.ca_coords
    distance = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    colours = principal_colours(pair.reshape(-1, channels)).reshape(length, length, 3)
    keys = [str(number) for number in range(len(profiles))]

    figure = figures()(
        figsize=(9.6, 5.5 + 1.2 * len(profiles)), dpi=150, layout="constrained", facecolor="white"
    )
    maps = figure.subplot_mosaic(
        "\n".join(["dp", "rr", *(2 * key for key in keys)]),
        height_ratios=[10, 1.3, *(2 for _ in keys)],
    )
    most = float(distance.max())
    shade = maps["d"].imshow(distance, cmap="bone", vmin=0, vmax=min(FARTHEST, 5 * np.ceil(max(most, 1) / 5)))
    maps["p"].imshow(colours)
    _strip(maps["r"], chain, principal_colours(residue))
    titles = {
        "d": f"{chain.id}: distances between {length} C-alphas",
        "p": f"pair embedding, {channels} channels as 3 principal components",
        "r": f"residue embedding, {residue.shape[1]} channels as 3 principal components; "
        "equal colours: similar vectors",
    }
    for key, profile in zip(keys, profiles, strict=True):
        titles[key] = profile.title
        _profile(maps[key], profile.values, profile.threshold)
    for key, axes in maps.items():
        axes.set_title(titles[key], fontsize=9.5, color=INK, loc="left", parse_math=False)
        axes.tick_params(labelsize=8, colors=INK, length=2)
        axes.spines[:].set_visible(False)
        _number(axes.xaxis, chain, most=8 if key in "dp" else 16)
    for key in "dp":
        _number(maps[key].yaxis, chain)
        for last in np.flatnonzero(chain.is_last_of_chain[:-1]):
            maps[key].axhline(last + 0.5, color="white", linewidth=0.8)
            maps[key].axvline(last + 0.5, color="white", linewidth=0.8)
    named: dict[str, Any] = {"size": 8.5, "color": INK}
    for key in ("d", "p", list(maps)[-1]):  # the last strip; those above it have its numbers
        maps[key].set_xlabel("residue number", **named)
    maps["d"].set_ylabel("residue number", **named)
    bar = figure.colorbar(
        shade, ax=maps["d"], shrink=0.8, pad=0.02, extend="max" if most > FARTHEST else "neither"
    )
    bar.set_label("angstrom", **named)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set(edgecolor=INK, linewidth=0.4)
    return figure


# Residues of a side of a small map; more are thinned out.
SMALL = 256


def thumbnail(chain: Chain, residue: NDArray[np.float32], pair: NDArray[np.float32] | None) -> Picture:
    """Draw a small picture of an embedding without numbers: its maps, and colours along the chain.

    Raises
    ------
    OutputError
        If matplotlib is not installed.
    """
    step = -(-len(chain) // SMALL)
    coords = chain.ca_coords[::step]
    shown = {"d": np.linalg.norm(coords[:, None] - coords[None], axis=-1)}
    if pair is not None:
        some = pair[::step, ::step]
        shown["p"] = principal_colours(some.reshape(-1, some.shape[-1])).reshape(*some.shape[:2], 3)
    figure = _small(figures()(figsize=(1.7 * len(shown), 1.95)))
    strip = ["r" * len(shown)] if residue.size else []  # it may not have been kept
    maps = figure.subplot_mosaic("\n".join(["".join(shown), *strip]), height_ratios=[10, *(1 for _ in strip)])
    for key, image in shown.items():
        maps[key].imshow(image, cmap="bone", vmax=FARTHEST)
    if strip:
        maps["r"].imshow(principal_colours(residue)[None], aspect="auto", interpolation="nearest")
    for axes in maps.values():
        axes.set_axis_off()
    return figure


def small_profile(chain: Chain, values: NDArray[np.float32], threshold: float | None = None) -> Picture:
    """Draw values in [0, 1] along a chain, small.

    Raises
    ------
    OutputError
        If matplotlib is not installed.
    """
    figure = _small(figures()(figsize=(4.2, 1.2)))
    axes = figure.subplots()
    _profile(axes, values, threshold)
    axes.tick_params(labelsize=7, colors=INK, length=2)
    axes.spines[:].set_visible(False)
    _number(axes.xaxis, chain)
    return figure


def _small(figure: Picture) -> Picture:
    figure.set(dpi=120, layout_engine="constrained", facecolor="white")
    return figure


def _strip(axes: Axes, chain: Chain, colours_L3: NDArray[np.float64]) -> None:
    """Draw residues as colours, with letters where they fit; above them helices and strands."""
    from matplotlib.patches import Patch

    length = len(chain)
    axes.imshow(colours_L3[None], aspect="auto", interpolation="nearest")
    broken = np.append(np.diff(chain.residue_index) > 1, False)
    fold = np.array(list(fold_of(chain.ca_coords, broken)))
    for kind, (_, colour) in FOLDS.items():
        axes.bar(np.flatnonzero(fold == kind), 0.3, width=1, bottom=-0.9, color=colour, linewidth=0)
    if length <= LETTERS:
        lightness = colours_L3 @ (0.3, 0.59, 0.11)
        for place, (letter, light) in enumerate(zip(chain.sequence, lightness, strict=True)):
            axes.text(
                place, 0, letter, fontsize=7, ha="center", va="center", color=INK if light > 0.5 else "white"
            )
    shown = [
        Patch(color=colour, label=name) for kind, (name, colour) in FOLDS.items() if (fold == kind).any()
    ]
    axes.set(xlim=(-0.5, length - 0.5), ylim=(0.5, -0.95), yticks=())
    if shown:
        axes.legend(
            handles=shown, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize=8, frameon=False,
            labelcolor=INK, handlelength=1.2, borderaxespad=0.1,
        )  # fmt: skip


def _profile(axes: Axes, values: NDArray[np.float32], threshold: float | None) -> None:
    edges = np.arange(len(values) + 1) - 0.5
    axes.stairs(values, edges, fill=True, color=LINE, alpha=0.35, linewidth=0)
    if threshold is not None:
        axes.stairs(
            np.where(values >= threshold, values, 0), edges, fill=True, color=SITE, alpha=0.8, linewidth=0
        )
        axes.axhline(threshold, color=SITE, linewidth=0.6, linestyle=":")
    axes.set(xlim=(edges[0], edges[-1]), ylim=(0, 1), yticks=(0, 0.5, 1))


def _number(axis: Any, chain: Chain, most: int = 8) -> None:
    """Label residues with about `most` round author numbers; in a complex also the first of each chain."""
    labels, places = chain.residue_labels, _ticks(chain, most)
    axis.set_ticks(places, [labels[place] for place in places], parse_math=False)


def _ticks(chain: Chain, most: int = 8) -> list[int]:
    """Return the residues that have a tick, at least one, without ticks that are too close together."""
    length = len(chain)
    numbers = round_numbers(0, length, most)
    step = int(numbers[1] - numbers[0])
    first = np.flatnonzero(np.append(True, chain.is_last_of_chain[:-1])).tolist() if chain.is_complex else []
    whole = np.flatnonzero((chain.auth_seq % step == 0) & (chain.insertion_code == "")).tolist()
    found: list[int] = []
    for place in [*first, *whole]:
        if all(abs(place - other) >= length / 14 for other in found):
            found.append(place)
    return sorted(found) or [0]


def round_numbers(low: float, high: float, most: int = 8) -> NDArray[np.float64]:
    """Return evenly spaced whole numbers for the ticks of an axis, at least two."""
    from matplotlib.ticker import MaxNLocator

    return np.asarray(MaxNLocator(nbins=most, integer=True, steps=[1, 2, 5, 10]).tick_values(low, high))
