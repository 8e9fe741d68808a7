"""Draw the figure of the README, a small protein and its embeddings (`make picture`)."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from protemb_sdk import Chain, Embedder, Embedding
from protemb_sdk._structure.fold import fold_of
from protemb_sdk.plot import principal_colours

HERE = Path(__file__).parent
STRUCTURE = HERE.parent / "protemb_sdk" / "bundled" / "1a8o.cif"
COLOURS = ("#d1495b", "#edae49", "#3c8dad", "#66a182", "#7d5ba6")
LOOP, INK, ALPHA = "#8a949e", "#22303c", "\N{GREEK SMALL LETTER ALPHA}"
STEPS = 12  # points of the smooth trace between two residues


def helices_of(chain: Chain) -> list[tuple[int, int]]:
    """Return first and last residue of each helix, counted from 0, as `protemb plot` draws them."""
    letters = fold_of(chain.ca_coords, np.append(np.diff(chain.residue_index) > 1, False))
    return [(found.start(), found.end() - 1) for found in re.finditer("H+", letters)]


def smooth(coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return points of a Catmull-Rom spline through the C-alphas, (STEPS * (L - 1) + 1, 3)."""
    ends = np.concatenate([2 * coords[:1] - coords[1:2], coords, 2 * coords[-1:] - coords[-2:-1]])
    before, start, stop, after = (ends[i : len(ends) - 3 + i, None] for i in range(4))
    t = np.linspace(0, 1, STEPS, endpoint=False)[:, None]
    points = start + 0.5 * t * (
        stop
        - before
        + t * (2 * before - 5 * start + 4 * stop - after + t * (3 * (start - stop) + after - before))
    )
    return np.concatenate([points.reshape(-1, 3), coords[-1:]])


def draw_fold(ax: Axes, coords: NDArray[np.float64], helices: list[tuple[int, int]]) -> None:
    """Draw the chain from the back to the front: helices as thick ribbons, loops as thin lines."""
    centred = coords - coords.mean(axis=0)
    view = np.linalg.svd(centred, full_matrices=False)[2].T
    view[:, 2] *= np.sign(np.linalg.det(view))  # a rotation, not the mirror image
    trace = smooth(centred @ view)
    helix_of = {i: n for n, (first, last) in enumerate(helices) for i in range(first, last)}
    depth = (trace[:-1, 2] + trace[1:, 2]) / 2
    near = (depth - depth.min()) / np.ptp(depth)
    for i in np.argsort(depth):
        helix = helix_of.get(int(i) // STEPS)
        width = (2.0 if helix is None else 6.0) * (0.7 + 0.5 * near[i])
        piece = trace[i : i + 2, :2].T
        ax.plot(*piece, color="white", lw=width + 2.4, solid_capstyle="butt")
        ax.plot(*piece, color=LOOP if helix is None else COLOURS[helix], lw=width,
                solid_capstyle="round")  # fmt: skip
    for number, (first, last) in enumerate(helices, 1):
        middle = trace[first * STEPS : last * STEPS].mean(axis=0)
        ax.text(middle[0], middle[1], f"{ALPHA}{number}", fontsize=9, color=INK, ha="center", va="center",
                bbox={"boxstyle": "round,pad=0.1", "fc": "white", "ec": "none", "alpha": 0.8})  # fmt: skip
    around = 2 * np.pi * np.arange(24) / 24
    circle = np.stack([np.cos(around), np.sin(around)], axis=1)
    for end, name in ((0, "N"), (-1, "C")):  # as near to the end as there is room for the letter
        places = trace[end, :2] + (np.arange(2, 8, 0.5)[:, None, None] * circle).reshape(-1, 2)
        room = np.linalg.norm(places[:, None] - trace[:, :2], axis=2).min(axis=1)
        x, y = places[np.argmax(room > 1.9)]
        ax.plot(*zip(trace[end, :2], (x, y), strict=True), color=INK, lw=0.8)
        ax.text(x, y, name, fontsize=9, weight="bold", color=INK, ha="center", va="center",
                bbox={"boxstyle": "circle,pad=0.2", "fc": "white", "ec": INK, "lw": 0.8})  # fmt: skip
    ax.set_aspect("equal")
    ax.axis("off")


def mark(ax: Axes, numbers: NDArray[np.int32], helices: list[tuple[int, int]], sides: str) -> None:
    """Draw the helices as bars along the top (`t`) and the left (`l`) of a map of residues."""
    across, along = ax.get_xaxis_transform(), ax.get_yaxis_transform()
    size = 0.03 if "l" in sides else 0.085
    for number, (colour, (first, last)) in enumerate(zip(COLOURS, helices, strict=False), 1):
        low, high = numbers[first] - 0.5, numbers[last] + 0.5
        ax.add_patch(Rectangle((low, 1 + size / 2), high - low, size, transform=across, color=colour,
                               clip_on=False, lw=0))  # fmt: skip
        ax.text((low + high) / 2, 1 + 2 * size, f"{ALPHA}{number}", transform=across, fontsize=8, color=INK,
                ha="center")  # fmt: skip
        if "l" in sides:
            ax.add_patch(Rectangle((-1.5 * size, low), size, high - low, transform=along, color=colour,
                                   clip_on=False, lw=0))  # fmt: skip


def overview(embedding: Embedding, helices: list[tuple[int, int]]) -> Figure:
    """Return the figure: fold, distance map, pair embedding and residue embedding of one chain."""
    assert embedding.pair is not None  # asked for
    numbers, channels, width = embedding.auth_seq, embedding.pair.shape[2], embedding.residue.shape[1]
    edges = (numbers[0] - 0.5, numbers[-1] + 0.5)
    coords = embedding.chain.ca_coords
    distances = np.linalg.norm(coords[:, None] - coords, axis=-1)
    pair = embedding.pair.reshape(-1, channels)
    colours = principal_colours(pair).reshape(len(numbers), len(numbers), 3)

    figure = Figure(figsize=(10, 5.8))
    axes = {
        "fold": figure.add_axes((0.01, 0.50, 0.29, 0.42)),
        "distance": figure.add_axes((0.375, 0.45, 0.26, 0.448)),
        "pair": figure.add_axes((0.725, 0.45, 0.26, 0.448)),
        "residue": figure.add_axes((0.075, 0.085, 0.84, 0.17)),
    }
    titles = {
        "fold": "Structure: 1A8O, C-alpha trace",
        "distance": "Input: C-alpha distances",
        "pair": f"Pair embedding, {len(numbers)} x {len(numbers)} x {channels}",
        "residue": f"Residue embedding, {len(numbers)} x {width}",
    }
    for name, ax in axes.items():
        ax.set_title(titles[name], fontsize=11, color=INK, pad=6 if name == "fold" else 24)
        ax.tick_params(labelsize=8)
    draw_fold(axes["fold"], coords, helices)
    handles = [Line2D([], [], color=colour, lw=6, label=f"helix {ALPHA}{number}, {numbers[a]}-{numbers[b]}")
               for number, (colour, (a, b)) in enumerate(zip(COLOURS, helices, strict=False), 1)]  # fmt: skip
    handles.append(Line2D([], [], color=LOOP, lw=2, label="loop"))
    figure.legend(handles=handles, fontsize=8, frameon=False, ncols=2, loc="upper center",
                  bbox_to_anchor=(0.17, 0.50))  # fmt: skip

    extent = (*edges, *edges[::-1])
    shade = axes["distance"].imshow(distances, extent=extent, cmap="bone", vmin=0, vmax=40)
    axes["pair"].imshow(colours, extent=extent)
    for name in ("distance", "pair"):
        mark(axes[name], numbers, helices, "tl")
        axes[name].tick_params(axis="y", pad=9)
        axes[name].set_xlabel("residue number", fontsize=9)
    axes["distance"].set_ylabel("residue number", fontsize=9)
    axes["pair"].text(0.97, 0.97, "equal colours:\nsimilar vectors", transform=axes["pair"].transAxes,
                      fontsize=8, color="white", ha="right", va="top")  # fmt: skip
    bar = figure.colorbar(shade, cax=figure.add_axes((0.645, 0.45, 0.008, 0.448)))
    bar.ax.set_title("Å", fontsize=8)
    bar.ax.tick_params(labelsize=7)

    scaled = (embedding.residue - embedding.residue.mean(0)) / embedding.residue.std(0)
    first, second = np.linalg.svd(scaled, full_matrices=False)[2][:2]
    order = np.argsort(np.arctan2(second, first))  # similar channels beside each other
    ax = axes["residue"]
    shade = ax.imshow(scaled[:, order].T, extent=(*edges, width, 0), aspect="auto", cmap="RdBu_r",
                      vmin=-2.5, vmax=2.5, interpolation="nearest")  # fmt: skip
    mark(ax, numbers, helices, "t")
    ax.set_yticks([])
    ax.set_xlabel("residue number", fontsize=9), ax.set_ylabel(f"{width} channels", fontsize=9)
    bar = figure.colorbar(shade, cax=figure.add_axes((0.93, 0.085, 0.008, 0.17)))
    bar.ax.set_title("SD", fontsize=8)
    bar.ax.tick_params(labelsize=7)
    return figure


def main() -> None:
    """Write the figure."""
    embedding = Embedder(device="cpu").embed(STRUCTURE, pair=True)
    figure = overview(embedding, helices_of(embedding.chain))
    figure.savefig(HERE / "overview.png", dpi=125)
    print(HERE / "overview.png")


if __name__ == "__main__":
    main()
