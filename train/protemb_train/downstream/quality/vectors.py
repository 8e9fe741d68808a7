"""Embeddings of many models: of their residues, and of the pairs at the edges of their graphs.

They are cached in a folder in half precision and read in parts, because all together take gigabytes.

Shapes: L residues, E edges, N channels of residues, C of pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from torch import Tensor

from protemb_sdk import OutputError
from protemb_train.downstream.common.embeddings import (
    Encoder,
    LanguageEncoder,
    NoEncoder,
    ResidueEncoder,
    StructureEncoder,
)
from protemb_train.downstream.quality.cache import digest_of
from protemb_train.downstream.quality.decoys import Decoy, DecoyError
from protemb_train.downstream.quality.graphs import edges_of

SAMPLE = 400  # number of models whose embeddings determine the scale


@dataclass(frozen=True, slots=True, eq=False)
class Vectors:
    """Embeddings of models, in their order.

    Parameters
    ----------
    node : ndarray, float16, shape (residues of all, N)
        Vectors of residues.
    edge : ndarray, float16, shape (edges of all, C)
        Embedding of the pair (receiver, sender); width 0 for a sequence model.
    nodes, edges : ndarray, int64, shape (models + 1,)
        First index of each model.
    """

    node: NDArray[np.float16]
    edge: NDArray[np.float16]
    nodes: NDArray[np.int64]
    edges: NDArray[np.int64]

    def __getitem__(self, n: int) -> tuple[Tensor, Tensor]:
        """Return embeddings of residues and of pairs of one model, float32."""
        edge = self.edge[self.edges[n] : self.edges[n + 1]].astype(np.float32)
        return self.of_nodes(n), torch.from_numpy(edge)

    def of_nodes(self, n: int) -> Tensor:
        """Return embeddings of the residues of one model, float32."""
        return torch.from_numpy(self.node[self.nodes[n] : self.nodes[n + 1]].astype(np.float32))


@dataclass(frozen=True, slots=True, eq=False)
class Scales:
    """Mean and standard deviation of embeddings; a constant channel is scaled to zero."""

    node_mean: Tensor
    node_spread: Tensor
    edge_mean: Tensor
    edge_spread: Tensor

    @classmethod
    def of(cls, vectors: Vectors, models: Sequence[int], seed: int = 0) -> Scales:
        """Return mean and standard deviation over a sample of models."""
        drawn = np.random.default_rng(seed).permutation(models)[:SAMPLE]
        parts = [vectors[int(n)] for n in drawn]
        found: list[Tensor] = []
        for side in zip(*parts, strict=True):
            every = torch.cat(side)
            squares = every.var(dim=0, correction=0) if every.shape[1] else every.new_zeros(0)
            found += [every.mean(dim=0), torch.where(squares > 1e-8, squares.sqrt(), torch.inf)]
        return cls(*found)

    @classmethod
    def none(cls, width: int) -> Scales:
        """Return scales that leave embeddings of residues of this width as they are."""
        return cls(torch.zeros(width), torch.ones(width), torch.zeros(0), torch.ones(0))

    def scaled(self, node: Tensor, edge: Tensor) -> tuple[Tensor, Tensor]:
        """Return both with mean 0 and standard deviation 1."""
        return self.scaled_nodes(node), (edge - self.edge_mean) / self.edge_spread

    def scaled_nodes(self, node: Tensor) -> Tensor:
        """Return embeddings of residues with mean 0 and standard deviation 1."""
        return (node - self.node_mean) / self.node_spread


def embed_decoys(encoder: Encoder, decoys: Sequence[Decoy], cache: Path, *, pairs: bool = True) -> Vectors:
    """Embed models, with a cache in a folder.

    Parameters
    ----------
    encoder : Encoder
        A structure network, a sequence model, or none.
    decoys : sequence of Decoy
        Models, in the order of the result.
    cache : Path
        Folder; it has one subfolder per set of models and encoder, named by a hash of both.
    pairs : bool, default True
        Whether embeddings of pairs are needed; they take most of the space.

    Raises
    ------
    OutputError
        If the folder cannot be written.
    DecoyError
        If embeddings are not finite, or too large for half precision.
    """
    counts = [edges_of(d.ca_coords).shape[1] if pairs else 0 for d in decoys]
    nodes, edges = np.cumsum([0, *map(len, decoys)]), np.cumsum([0, *counts])
    if isinstance(encoder, NoEncoder):
        none = [np.zeros((int(of[-1]), 0), dtype=np.float16) for of in (nodes, edges)]
        return Vectors(none[0], none[1], nodes, edges)
    full = cache / f"{encoder.about['encoder']}-{digest_of(decoys, encoder.about)}"
    folder = full if pairs or (full / "done").exists() else full.with_name(f"{full.name}-residues")
    if not (folder / "done").exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _fill(folder, _Embedding(encoder, pairs), decoys, nodes, edges)
            (folder / "done").touch()
        except OSError as error:
            raise OutputError(f"embeddings cannot be written ({error.strerror})", folder) from error
    node = _mapped(folder / "node.npy")
    edge = _mapped(folder / "edge.npy") if pairs else np.zeros((0, 0), dtype=np.float16)
    return Vectors(node, edge, nodes, edges)


def _mapped(path: Path) -> NDArray[np.float16]:
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, _ = np.lib.format.read_array_header_1_0(file)
    # An empty array cannot be memory-mapped.
    return np.load(path, mmap_mode="r") if 0 not in shape else np.zeros(shape, dtype=np.float16)


def _fill(
    folder: Path,
    made: _Embedding,
    decoys: Sequence[Decoy],
    nodes: NDArray[np.int64],
    edges: NDArray[np.int64],
) -> None:
    first = made(decoys[0])
    maps = [
        open_memmap(folder / f"{name}.npy", "w+", np.float16, (int(of[-1]), values.shape[1]))
        for name, of, values in zip(("node", "edge"), (nodes, edges), first, strict=True)
    ]
    for n, decoy in enumerate(decoys):
        for where, of, values in zip(maps, (nodes, edges), made(decoy), strict=True):
            if not np.abs(values).max(initial=0) < np.finfo(np.float16).max:
                raise DecoyError(f"{decoy.target}, {decoy.id}: its embedding is not finite or too large")
            where[of[n] : of[n + 1]] = values
    for where in maps:
        where.flush()


class _Embedding:
    """Embeds one model; each sequence is embedded only once by a sequence model."""

    def __init__(self, encoder: Encoder, pairs: bool) -> None:
        self.encoder, self.pairs = encoder, pairs
        self.of_sequence: dict[str, NDArray[np.float32]] = {}

    def __call__(self, decoy: Decoy) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        sender, receiver = edges_of(decoy.ca_coords) if self.pairs else np.zeros((2, 0), dtype=np.int64)
        if isinstance(self.encoder, LanguageEncoder):
            if decoy.sequence not in self.of_sequence:
                self.of_sequence[decoy.sequence] = self.encoder.model.embed(decoy.sequence)
            return self.of_sequence[decoy.sequence], np.zeros((len(sender), 0), dtype=np.float32)
        if isinstance(self.encoder, ResidueEncoder):
            return self.encoder.embed(decoy).residue, np.zeros((len(sender), 0), dtype=np.float32)
        if not isinstance(self.encoder, StructureEncoder):
            raise DecoyError("not an encoder of structures or sequences", self.encoder.about["encoder"])
        found = self.encoder.embedding((decoy.ca_coords, decoy.sequence), pair=self.pairs)
        node = self.encoder.vectors(found)
        if found.pair is None:
            return node, np.zeros((0, 0), dtype=np.float32)
        return node, found.pair[receiver, sender]
