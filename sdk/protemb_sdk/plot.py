"""Pictures of embeddings (extra `plot`): what the network sees beside what it makes of it.

Run it as `python -m protemb_sdk.plot STRUCTURE -o picture.png [--chain A]`.
"""

from __future__ import annotations

import argparse
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._embedder import Embedder
from protemb_sdk._embedding import Embedding
from protemb_sdk._errors import EmbeddingError, ProtembError
from protemb_sdk._output import figures, written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#22303c"


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


def picture(embedding: Embedding) -> Figure:
    """Draw the distance map beside the pair embedding, and the residue embedding along the chain.

    Colours of an embedding are its first three principal components.

    Parameters
    ----------
    embedding : Embedding
        With its pair level (`pair=True`).

    Returns
    -------
    matplotlib.figure.Figure

    Raises
    ------
    EmbeddingError
        If the pair embedding was not kept.
    OutputError
        If matplotlib is not installed.
    """
    if embedding.pair is None:
        raise EmbeddingError(f"{embedding.id}: the picture shows the pair embedding; embed with pair=True")
    length, _, channels = embedding.pair.shape
    coords = embedding.structure.ca_coords
    distance = np.linalg.norm(coords[:, None] - coords[None], axis=-1)
    pair = principal_colours(embedding.pair.reshape(-1, channels)).reshape(length, length, 3)
    residue = principal_colours(embedding.residue)[None]

    figure = figures()(figsize=(9.6, 5.2), dpi=150, layout="constrained", facecolor="white")
    maps = figure.subplot_mosaic([["d", "p"], ["r", "r"]], height_ratios=[10, 1])
    shade = maps["d"].imshow(distance, cmap="bone", vmax=50)
    maps["p"].imshow(pair)
    maps["r"].imshow(residue, aspect="auto", interpolation="nearest")
    titles = {
        "d": f"{embedding.id}: distances between {length} C-alphas",
        "p": f"pair embedding, {channels} channels as 3 principal components",
        "r": "residue embedding along the chain",
    }
    for key, axes in maps.items():
        axes.set_title(titles[key], fontsize=9.5, color=INK, loc="left")
        axes.tick_params(labelsize=8, colors=INK, length=2)
        axes.spines[:].set_visible(False)
    maps["r"].set_yticks([])
    bar = figure.colorbar(shade, ax=maps["d"], shrink=0.8, pad=0.02, extend="max")
    bar.set_label("angstrom", fontsize=8.5, color=INK)
    bar.ax.tick_params(labelsize=8, colors=INK)
    bar.outline.set_visible(False)
    return figure


def save_picture(embedding: Embedding, path: str | PathLike[str]) -> Path:
    """Write `picture` to an image file, whole or not at all."""
    target = Path(path)
    figure = picture(embedding)
    with written_whole(target) as part:
        figure.savefig(part)
    return target


def main() -> None:
    """Draw one structure's picture from the command line."""
    parser = argparse.ArgumentParser(prog="python -m protemb_sdk.plot", description=__doc__.splitlines()[0])
    parser.add_argument("structure", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--chain")
    parser.add_argument("--model", default="base")
    options = parser.parse_args()
    try:
        embedding = Embedder(options.model).embed(options.structure, options.chain, pair=True)
        print(save_picture(embedding, options.out))
    except ProtembError as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
