"""Structures of two chains that touch each other, embedded together and alone; for `complexes.py`."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import Chain, Embedder, Embedding, ProtembError, join_chains, read_chains

CONTACT = 10.0
"""Angstrom below which two C-alphas are in contact."""
SHORTEST, LONGEST = 30, 400
"""Residues of the shorter chain, and of both together."""
TOUCHING = 15
"""Contacts between two chains that make a dimer."""


@dataclass(frozen=True, slots=True, eq=False)
class Dimer:
    """Two chains in contact, embedded together (also in the other order) and alone."""

    name: str
    chains: tuple[Chain, Chain]
    together: Embedding
    swapped: Embedding
    alone: tuple[Embedding, Embedding]

    @property
    def border(self) -> int:
        """Residues of the first chain."""
        return len(self.chains[0])

    @property
    def contacts(self) -> NDArray[np.bool_]:
        """Contacts between residues of the first and of the second chain."""
        return contacts_of(self.chains)


def contacts_of(chains: tuple[Chain, Chain]) -> NDArray[np.bool_]:
    """Return which residues of two chains are in contact, shape (L1, L2)."""
    one, other = chains
    return np.asarray(np.linalg.norm(one.ca_coords[:, None] - other.ca_coords, axis=-1) < CONTACT)


def dimers_of(folders: Iterable[Path]) -> Iterator[tuple[str, tuple[Chain, Chain]]]:
    """Give name and chains of each structure of two chains that touch each other."""
    for folder in folders:
        for path in sorted(folder.iterdir()):
            try:
                if path.name.endswith("_r_b.pdb.gz"):
                    mate = path.with_name(path.name.replace("_r_b", "_l_b"))
                    found = [*read_chains(path).chains, *(read_chains(mate).chains if mate.exists() else ())]
                elif path.name.endswith(".cif.gz"):
                    found = read_chains(path).chains
                else:
                    continue
            except ProtembError as error:
                print(f"skipped: {error}", file=sys.stderr)
                continue
            if len(found) != 2 or min(map(len, found)) < SHORTEST or sum(map(len, found)) > LONGEST:
                continue
            chains = found[0], found[1]
            if contacts_of(chains).sum() >= TOUCHING:
                yield path.name.split(".")[0].removeprefix("db5_").removesuffix("_r_b"), chains


def same_residues(chains: tuple[Chain, Chain]) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """Return the rows of equal residues of two copies of a protein; None for two different proteins."""
    first, second = (chain.sequence for chain in chains)
    blocks = SequenceMatcher(None, first, second, autojunk=False).get_matching_blocks()
    one, other = (np.concatenate([np.arange(b[side], b[side] + b.size) for b in blocks]) for side in (0, 1))
    return (one, other) if len(one) >= 0.8 * max(map(len, chains)) else None


def embedded(embedder: Embedder, name: str, chains: tuple[Chain, Chain]) -> Dimer:
    """Embed two chains together, in both orders, and alone."""
    one, other = (embedder.embed(chain, pair=True) for chain in chains)
    together, swapped = (embedder.embed(join_chains(c), pair=True) for c in (chains, chains[::-1]))
    return Dimer(name, chains, together, swapped, (one, other))
