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

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from protemb_sdk._base.figure import Picture

INK, LINE, SITE = "#22303c", "#2b6ca3", "#c0392b"


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

    Examples
    --------
    >>> from protemb_sdk import Embedder, plot
    >>> plot.principal_colours(Embedder(device="cpu").embed("1a8o.cif").residue).shape
    (70, 3)
    """
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
        figsize=(9.6, 5.2 + 1.2 * len(profiles)), dpi=150, layout="constrained", facecolor="white"
    )
    maps = figure.subplot_mosaic(
        "\n".join(["dp", "rr", *(2 * key for key in keys)]),
        height_ratios=[10, 1, *(2 for _ in keys)],
    )
    shade = maps["d"].imshow(distance, cmap="bone", vmax=50)
    maps["p"].imshow(colours)
    maps["r"].imshow(principal_colours(residue)[None], aspect="auto", interpolation="nearest")
    maps["r"].set_yticks([])
    titles = {
        "d": f"{chain.id}: distances between {length} C-alphas",
        "p": f"pair embedding, {channels} channels as 3 principal components",
        "r": "residue embedding along the chain, in 3 principal components of its own",
    }
    for key, profile in zip(keys, profiles, strict=True):
        titles[key] = profile.title
        _profile(maps[key], profile.values, profile.threshold)
    for key, axes in maps.items():
        axes.set_title(titles[key], fontsize=9.5, color=INK, loc="left", parse_math=False)
        axes.tick_params(labelsize=8, colors=INK, length=2)
        axes.spines[:].set_visible(False)
        _number(axes.xaxis, chain)
    for key in "dp":
        _number(maps[key].yaxis, chain)
        for last in np.flatnonzero(chain.is_last_of_chain[:-1]):
            maps[key].axhline(last + 0.5, color="white", linewidth=0.8)
            maps[key].axvline(last + 0.5, color="white", linewidth=0.8)
    bar = figure.colorbar(shade, ax=maps["d"], shrink=0.8, pad=0.02, extend="max")
    bar.set_label("angstrom", fontsize=8.5, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
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
    maps = figure.subplot_mosaic("\n".join(["".join(shown), "r" * len(shown)]), height_ratios=[10, 1])
    for key, image in shown.items():
        maps[key].imshow(image, cmap="bone", vmax=50)
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


def _profile(axes: Axes, values: NDArray[np.float32], threshold: float | None) -> None:
    places = np.arange(len(values))
    axes.fill_between(places, values, step="mid", color=LINE, alpha=0.35, linewidth=0)
    if threshold is not None:
        above = np.where(values >= threshold, values, 0)
        axes.fill_between(places, above, step="mid", color=SITE, alpha=0.8, linewidth=0)
        axes.axhline(threshold, color=SITE, linewidth=0.6, linestyle=":")
    axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(0, 1), yticks=(0, 0.5, 1))


def _number(axis: Any, chain: Chain) -> None:
    """Label an axis by author numbers, at residues."""
    labels = chain.residue_labels

    def label(place: float, _: int) -> str:
        at = round(place)
        return labels[at] if 0 <= at < len(labels) and abs(place - at) < 1e-6 else ""

    axis.set_major_locator(_locator())
    axis.set_major_formatter(label)


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=8, integer=True)
