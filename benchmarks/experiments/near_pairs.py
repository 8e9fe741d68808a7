"""How much of a pair map would be computed if it were restricted to pairs of near residues.

python benchmarks/experiments/near_pairs.py corpus.arrow -o benchmarks/experiments/near_pairs.md
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial.distance import cdist

from protemb_sdk import Embedder
from protemb_train.corpus.corpus import Corpus

NEAR = 25.0
"""Largest distance of a near pair, angstrom."""
CHAINS = 20
DECISION = (
    "Decision of 2026-11-30: not implemented. With tiles of 32, without the pairs around them, at most 1.2 "
    "times as fast at 512 residues and 1.7 times at 1,000, before any loss of accuracy. Of the chains of the "
    "corpus 4% have more than 500 residues."
)
LENGTHS = ((240, 272), (480, 544), (700, 900), (950, 1050), (1050, 1500))


def in_tiles(near_LL: NDArray[np.bool_], size: int) -> float:
    """Return the share of the map that is covered by its tiles with a near pair."""
    length = len(near_LL)
    count = -(-length // size)
    padded = np.zeros((count * size, count * size), dtype=bool)
    padded[:length, :length] = near_LL
    tiles = padded.reshape(count, size, count, size).any(axis=(1, 3))
    covered = np.repeat(np.repeat(tiles, size, axis=0), size, axis=1)
    return float(covered[:length, :length].mean())


def shares(ca_coords: NDArray[np.floating], radius: int) -> tuple[float, ...]:
    """Return the shares of a map: near pairs, tiles of 32 and 64, and what near pairs depend on.

    Parameters
    ----------
    ca_coords : ndarray, shape (L, 3)
        In angstrom.
    radius : int
        Receptive field of the network: residues on either side of a pair that its embedding depends on.
    """
    near_LL = cdist(ca_coords, ca_coords) < NEAR
    reached = maximum_filter(near_LL, size=2 * radius + 1, mode="constant", cval=False)
    return float(near_LL.mean()), in_tiles(near_LL, 32), in_tiles(near_LL, 64), float(reached.mean())


def main(
    corpus: Annotated[Path, typer.Argument(help="Corpus (.arrow).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
) -> None:
    """Measure chains of several lengths, and write the page."""
    chains, radius = Corpus(corpus), int(Embedder("base", "cpu").card["radius"])
    rng = np.random.default_rng(0)
    lines = [
        "# Pair maps restricted to near pairs",
        "",
        "Written by `python benchmarks/experiments/near_pairs.py corpus.arrow`. Shares of the pair map that "
        f"a restricted network would compute, means over at most {CHAINS} chains of the corpus. A pair is "
        f"near below {NEAR:g} angstrom; an exact result requires all pairs within {radius} residues of one.",
        "",
        "| residues | chains | near pairs | in tiles of 32 | in tiles of 64 | for exact near pairs |",
        "|---" * 6 + "|",
    ]
    for low, past in LENGTHS:
        fitting = np.flatnonzero((chains.lengths >= low) & (chains.lengths < past))
        drawn = rng.choice(fitting, min(CHAINS, len(fitting)), replace=False)
        found = np.mean([shares(chains[int(n)].ca_coords, radius) for n in drawn], axis=0)
        cells = [f"{low} to {past - 1}", len(drawn), *(f"{share:.2f}" for share in found)]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    lines += ["", DECISION]
    out.write_text("\n".join(lines) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    typer.run(main)
