"""Pictures of embeddings (extra `plot`): what the network sees beside what it makes of it."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import EmbeddingError
from protemb_sdk._output import figures, picture_kind, written_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from protemb_sdk._quality import QualityScore
    from protemb_sdk._sites import SitePrediction

INK, LINE, SITE = "#22303c", "#2b6ca3", "#c0392b"


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
    """
    centred = features_NC.astype(np.float64) - features_NC.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    axes = axes[:, ::-1][:, :3]
    axes = axes * np.where(axes.sum(axis=0) < 0, -1.0, 1.0)  # eigenvectors have no sign of their own
    components = centred @ axes
    low, high = np.percentile(components, [2, 98], axis=0)
    return np.asarray(np.clip((components - low) / np.maximum(high - low, 1e-12), 0, 1))


def picture(
    embedding: Embedding, sites: SitePrediction | None = None, quality: QualityScore | None = None
) -> Figure:
    """Draw the distance map beside the pair embedding, and the residue embedding along the chain.

    Colours of an embedding are its first three principal components. Axes are numbered as the authors number
    residues.

    Parameters
    ----------
    embedding : Embedding
        With its pair level (`pair=True`).
    sites : SitePrediction, optional
        Of the same chain: a profile of the probability to touch another protein.
    quality : QualityScore, optional
        Of the same chain: a profile of expected lDDT.

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    EmbeddingError
        If the pair embedding was not kept, or a profile is another chain's.
    OutputError
        If matplotlib is not installed.
    """
    if embedding.pair is None:
        raise EmbeddingError(f"{embedding.id}: the picture shows the pair embedding; embed with pair=True")
    for profile in (sites, quality):
        if profile is not None and profile.structure.sequence != embedding.sequence:
            raise EmbeddingError(f"{embedding.id}: the profile is of another chain, {profile.structure.id}")
    length, _, channels = embedding.pair.shape
    coords = embedding.structure.ca_coords
    distance = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    pair = principal_colours(embedding.pair.reshape(-1, channels)).reshape(length, length, 3)
    profiles = [key for key, profile in (("s", sites), ("q", quality)) if profile is not None]

    figure = figures()(
        figsize=(9.6, 5.2 + 1.2 * len(profiles)), dpi=150, layout="constrained", facecolor="white"
    )
    maps = figure.subplot_mosaic(
        "\n".join(["dp", "rr", *(2 * key for key in profiles)]),
        height_ratios=[10, 1, *(2 for _ in profiles)],
    )
    shade = maps["d"].imshow(distance, cmap="bone", vmax=50)
    maps["p"].imshow(pair)
    maps["r"].imshow(principal_colours(embedding.residue)[None], aspect="auto", interpolation="nearest")
    maps["r"].set_yticks([])
    titles = {
        "d": f"{embedding.id}: distances between {length} C-alphas",
        "p": f"pair embedding, {channels} channels as 3 principal components",
        "r": "residue embedding along the chain, in 3 principal components of its own",
    }
    if sites is not None:
        titles["s"] = f"probability to touch another protein; {sites.threshold:.2f} and above: a site"
        _profile(maps["s"], sites.probability, sites.threshold)
    if quality is not None:
        titles["q"] = f"expected lDDT, {quality.lddt:.2f} on average"
        _profile(maps["q"], quality.residue_lddt, None)
    for key, axes in maps.items():
        axes.set_title(titles[key], fontsize=9.5, color=INK, loc="left", parse_math=False)
        axes.tick_params(labelsize=8, colors=INK, length=2)
        axes.spines[:].set_visible(False)
        _number(axes.xaxis, embedding)
    for key in "dp":
        _number(maps[key].yaxis, embedding)
    bar = figure.colorbar(shade, ax=maps["d"], shrink=0.8, pad=0.02, extend="max")
    bar.set_label("angstrom", fontsize=8.5, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def _profile(axes: Axes, values: NDArray[np.float32], threshold: float | None) -> None:
    places = np.arange(len(values))
    axes.fill_between(places, values, step="mid", color=LINE, alpha=0.35, linewidth=0)
    if threshold is not None:
        above = np.where(values >= threshold, values, 0)
        axes.fill_between(places, above, step="mid", color=SITE, alpha=0.8, linewidth=0)
        axes.axhline(threshold, color=SITE, linewidth=0.6, linestyle=":")
    axes.set(xlim=(-0.5, len(values) - 0.5), ylim=(0, 1), yticks=(0, 0.5, 1))


def _number(axis: Any, embedding: Embedding) -> None:
    """Label an axis by author numbers, at residues."""
    numbers, codes = embedding.auth_seq, embedding.insertion_code

    def label(place: float, _: int) -> str:
        at = round(place)
        return f"{numbers[at]}{codes[at]}" if 0 <= at < len(numbers) and abs(place - at) < 1e-6 else ""

    axis.set_major_locator(_locator())
    axis.set_major_formatter(label)


def _locator() -> Any:
    from matplotlib.ticker import MaxNLocator

    return MaxNLocator(nbins=8, integer=True)


def save_picture(
    embedding: Embedding,
    path: str | PathLike[str],
    sites: SitePrediction | None = None,
    quality: QualityScore | None = None,
) -> Path:
    """Write `picture` to an image file, whole or not at all.

    Raises
    ------
    OutputError
        If the file cannot be written, or its ending is no picture's.
    """
    target = Path(path)
    kind = picture_kind(target)
    figure = picture(embedding, sites, quality)
    with written_whole(target) as part:
        figure.savefig(part, format=kind)
    return target
