"""Redraw figures 1 and 2 of the paper from a real chain with the bundled network (`make figures`).

Figure 1 shows pre-training and inference, figure 2 the use of the embedding in the two tasks of the paper.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from protemb_sdk import Embedder, clip_windows, read_chain
from protemb_sdk.plot import principal_colours

HERE = Path(__file__).parent
STRUCTURE = HERE.parents[1] / "tests" / "structures" / "1orc.pdb"
SIGMA = 1.0  # angstrom
RESIDUE, HALF, NEIGHBOURS, RADIUS = 30, 3, 3, 10.0  # of figure 2
INK, GREY, WARM, COOL = "#22303c", "#b5bec6", "#c0392b", "#2b6ca3"


def flat(coords: NDArray[np.float64], axes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coordinates projected on two axes."""
    return np.asarray((coords - coords.mean(axis=0)) @ axes)


def bare(ax: Axes, title: str) -> Axes:
    """Remove the ticks and set a title."""
    ax.set_xticks([]), ax.set_yticks([])
    ax.set_title(title, fontsize=8, color=INK)
    return ax


def trace(ax: Axes, points: NDArray[np.float64], colour: str = INK) -> None:
    """Draw a chain."""
    ax.plot(*points.T, color=colour, lw=1, marker="o", ms=2)
    ax.set_aspect("equal")


def matrix(ax: Axes, coords: NDArray[np.float64]) -> None:
    """Draw the distance matrix."""
    ax.imshow(np.linalg.norm(coords[:, None] - coords, axis=-1), cmap="bone", vmax=40)


def pre_training(embedder: Embedder) -> Figure:
    """Figure 1: noise, distances, estimated and true gradients; below, inference."""
    chain = read_chain(STRUCTURE)
    coords = chain.ca_coords - chain.ca_coords.mean(axis=0)
    view = np.linalg.svd(coords, full_matrices=False)[2][:2].T
    noisy = coords + SIGMA * np.random.default_rng(1).normal(size=coords.shape)
    estimated = embedder.denoising_gradient((noisy, chain.sequence, chain.residue_index), sigma=SIGMA)
    true = (coords - noisy) / SIGMA**2
    true -= true.mean(axis=0)  # distances do not determine a shift of the whole chain
    cosine = (estimated * true).sum() / np.linalg.norm(estimated) / np.linalg.norm(true)
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    rows = figure.subplots(2, 5)
    trace(bare(rows[0, 0], "coordinates X"), flat(coords, view))
    ax = bare(rows[0, 1], f"with noise of {SIGMA:g} Å: X̃")
    trace(ax, flat(coords, view), GREY)
    trace(ax, flat(noisy, view))
    matrix(bare(rows[0, 2], "distances D̃"), noisy)
    for ax, arrows, title, colour in (
        (rows[0, 3], estimated, "estimated gradients", COOL),
        (rows[0, 4], true, f"true gradients (cosine {cosine:.2f})", WARM),
    ):
        trace(bare(ax, title), flat(noisy, view), GREY)
        ax.quiver(*flat(noisy, view).T, *(arrows @ view).T, color=colour, angles="xy", scale_units="xy",
                  scale=0.6, width=0.006)  # fmt: skip
    embedding = embedder.embed_chain(chain, pair=True)
    length, channels = len(embedding), embedder.channels
    trace(bare(rows[1, 0], "coordinates X"), flat(coords, view))
    matrix(bare(rows[1, 1], "distances D"), coords)
    assert embedding.pair is not None
    colours = principal_colours(embedding.pair.reshape(-1, channels)).reshape(length, length, 3)
    bare(rows[1, 2], f"pair embedding, {length} x {length} x {channels}").imshow(colours)
    ax = bare(rows[1, 3], f"residue embedding, {length} x {channels}")
    ax.imshow(embedding.residue, aspect="auto", cmap="viridis")
    bare(rows[1, 4], f"protein embedding, {channels}").imshow(
        embedding.protein[None], aspect=channels / 6, cmap="viridis"
    )
    rows[0, 0].set_ylabel("pre-training", color=INK), rows[1, 0].set_ylabel("inference", color=INK)
    return figure


def tasks(embedder: Embedder) -> Figure:
    """Figure 2: edges and nodes for model quality, windows and the protein vector for interface sites."""
    embedding = embedder.embed(STRUCTURE, pair=True)
    assert embedding.pair is not None
    length, channels = len(embedding), embedder.channels
    coords = embedding.chain.ca_coords
    distance = np.linalg.norm(coords[:, None] - coords, axis=-1)
    edges = np.argwhere((distance < RADIUS) & (distance > 0))
    colours = principal_colours(embedding.pair.reshape(-1, channels)).reshape(length, length, 3)
    figure = Figure(figsize=(10, 4.8), layout="constrained")
    rows = figure.subplots(2, 3, width_ratios=[1, 1.6, 1.6])
    ax = bare(rows[0, 0], f"edges: pairs within {RADIUS:g} Å")
    ax.imshow(colours, alpha=0.5)
    ax.scatter(edges[:, 1], edges[:, 0], s=1, color=INK)
    picked = edges[np.linspace(0, len(edges) - 1, 40).astype(int)]
    bare(rows[0, 1], f"edge features: {len(edges)} x {channels} (40 shown)").imshow(
        embedding.pair[tuple(picked.T)], aspect="auto", cmap="viridis"
    )
    bare(rows[0, 2], f"node features: row means, {length} x {channels}").imshow(
        embedding.residue, aspect="auto", cmap="viridis"
    )
    ax = bare(rows[1, 0], f"residue {RESIDUE}: mean over its row")
    ax.imshow(colours)
    ax.axhspan(RESIDUE - 0.5, RESIDUE + 0.5, color=WARM)
    window = clip_windows(embedding.residue, 2 * HALF + 1)[RESIDUE]
    ax = bare(rows[1, 1], f"local features: a window of {2 * HALF + 1} residues x {channels}")
    ax.imshow(window, aspect="auto", cmap="viridis")
    ax.axhline(HALF - 0.5, color=WARM), ax.axhline(HALF + 0.5, color=WARM)
    bare(rows[1, 2], f"global features: mean of the map, {channels}").imshow(
        embedding.protein[None], aspect=channels / 8, cmap="viridis"
    )
    rows[0, 0].set_ylabel("model quality", color=INK), rows[1, 0].set_ylabel("interface sites", color=INK)
    return figure


def main() -> None:
    """Write both figures."""
    embedder = Embedder("base-1", device="cpu")  # the network of the paper has no states
    for name, draw in (("pretraining", pre_training), ("tasks", tasks)):
        draw(embedder).savefig(HERE / f"{name}.png", dpi=110)
        print(HERE / f"{name}.png")


if __name__ == "__main__":
    main()
