"""Labelled chains as tensors, and batches of their residues."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from protemb_sdk._structure.chain import encode_sequence
from protemb_train.downstream.common.embeddings import Embedded
from protemb_train.downstream.common.messages import TYPES
from protemb_train.downstream.common.neighbour_graph import (
    Graph,
    end_to_end,
    joined,
    neighbour_graph,
    no_graph,
    starts_of,
)
from protemb_train.downstream.sites.data import SiteChain, SitesError
from protemb_train.downstream.sites.deepppisp import GAP, SiteBatch

CHAINS_PER_BATCH = 4
RESIDUES_PER_CHAIN = 128


@dataclass(frozen=True, slots=True, eq=False)
class ChainTensors:
    """One chain, cut to the residues used; names as in `SiteBatch`, without the batch axis."""

    types_LT: Tensor
    other_LF: Tensor
    extra_LE: Tensor
    protein_P: Tensor
    label_L: Tensor
    coords_L3: Tensor
    graph: Graph


def as_tensors(
    chains: Sequence[SiteChain], embedded: Sequence[Embedded], *, features: bool = True, graph: bool = False
) -> list[ChainTensors]:
    """Return chains and their embeddings as tensors, for the first `SiteChain.cut` residues of each.

    Without `features`, PSSM and DSSP are omitted; without `graph`, the neighbours.

    Raises
    ------
    SitesError
        If an embedding has another length than its chain, or a feature is not finite.
    """
    found = []
    for chain, vectors in zip(chains, embedded, strict=True):
        if len(vectors.residue) != len(chain):
            raise SitesError(
                f"{len(vectors.residue)} embeddings for {len(chain)} residues; embed it again", chain.id
            )
        other = chain.features[:, : None if features else 0]
        if not all(np.isfinite(array).all() for array in (other, vectors.residue, vectors.protein)):
            raise SitesError("a feature or an embedding is not finite; fix or remove the chain", chain.id)
        types = torch.from_numpy(encode_sequence(chain.sequence)[: chain.cut])
        coords = torch.from_numpy(centred(chain.ca_coords).astype(np.float32)[: chain.cut])
        found.append(
            ChainTensors(
                # X is all zeros.
                torch.nn.functional.one_hot(types, TYPES + 1)[:, :TYPES].float(),
                torch.from_numpy(other[: chain.cut]),
                torch.from_numpy(vectors.residue[: chain.cut]),
                torch.from_numpy(vectors.protein),
                torch.from_numpy(chain.label[: chain.cut].astype(np.float32)),
                coords,
                neighbour_graph(coords) if graph else no_graph(chain.cut),
            )
        )
    return found


def centred(ca_coords: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return centred coordinates; missing ones (NaN) stay NaN."""
    seen = np.isfinite(ca_coords[:, 0])
    return ca_coords - ca_coords[seen].mean(axis=0) if seen.any() else ca_coords


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Mean and standard deviation over training chains of residue and protein embeddings, and features.

    Embeddings of different encoders then have the same scale; inputs of the published network are not scaled.

    Parameters
    ----------
    means, spreads : dict of str to Tensor
        Keys "extra_LE", "protein_P", and "other_LF" if features are scaled too. A constant channel has an
        infinite spread: divided by its rounding errors it would appear informative.
    """

    means: dict[str, Tensor]
    spreads: dict[str, Tensor]

    @classmethod
    def of(cls, chains: Sequence[ChainTensors], *, features: bool = False) -> Scaling:
        """Return mean and standard deviation over chains, without residues that have no embedding (zeros)."""
        seen = {
            "extra_LE": torch.cat([c.extra_LE for c in chains]),
            "protein_P": torch.stack([c.protein_P for c in chains]),
        }
        if seen["extra_LE"].shape[1]:
            seen["extra_LE"] = seen["extra_LE"][(seen["extra_LE"] != 0).any(dim=1)]
        if features:
            seen["other_LF"] = torch.cat([c.other_LF for c in chains])
        means = {name: of.mean(dim=0) for name, of in seen.items()}
        squares = {name: (of - means[name]).square().mean(dim=0) for name, of in seen.items()}
        return cls(means, {n: torch.where(s > 1e-12, s.sqrt(), torch.inf) for n, s in squares.items()})

    def scaled(self, name: str, values: Tensor) -> Tensor:
        """Return values of one kind with mean 0 and standard deviation 1."""
        return (values - self.means[name]) / self.spreads[name]

    def applied(self, chain: ChainTensors) -> ChainTensors:
        """Return the chain with all values scaled; residues without an embedding stay zero."""
        scaled: dict[str, Any] = {name: self.scaled(name, getattr(chain, name)) for name in self.means}
        there = (chain.extra_LE != 0).any(dim=1, keepdim=True)
        scaled["extra_LE"] = torch.where(there, scaled["extra_LE"], 0.0)
        return replace(chain, **scaled)


def collate(chains: Sequence[ChainTensors], wanted: Sequence[Tensor], pad_to: int = 0) -> SiteBatch:
    """Return a batch of the given residues (indices per chain).

    `pad_to` pads shorter chains with zeros to that length, which the published one-hot layer requires.
    """
    lengths = [max(len(chain.label_L), pad_to) for chain in chains]
    places = [length + GAP for length in lengths]
    starts = starts_of(places)
    return SiteBatch(
        end_to_end([c.types_LT for c in chains], places),
        end_to_end([c.other_LF for c in chains], places),
        end_to_end([c.extra_LE for c in chains], places),
        torch.stack([c.protein_P for c in chains]),
        torch.tensor(starts),
        torch.tensor(lengths),
        torch.cat([torch.full((len(w),), n) for n, w in enumerate(wanted)]),
        torch.cat([w + start for w, start in zip(wanted, starts, strict=True)]),
        torch.cat([c.label_L[w] for c, w in zip(chains, wanted, strict=True)]),
        end_to_end([c.coords_L3 for c in chains], places, float("nan")),
        joined([c.graph for c in chains], places),
    )


def whole(chain: ChainTensors, pad_to: int = 0) -> SiteBatch:
    """Return a batch of all residues of one chain."""
    return collate([chain], [torch.arange(len(chain.label_L))], pad_to)


class ResidueBatches(IterableDataset[SiteBatch]):
    """Every residue once per epoch, in batches of some residues of some chains.

    The published code draws 32 residues of nearly as many chains, and applies its convolutions to a whole
    chain for each. Here up to `residues_a_chain` residues of a chain share them.

    Parameters
    ----------
    chains : sequence of ChainTensors
        Training chains.
    seed : int
        Seed; it and the number of previous epochs determine an epoch.
    pad_to : int, default 0
        As in `collate`.
    chains_a_batch, residues_a_chain : int
        Size of a batch.
    """

    def __init__(
        self,
        chains: Sequence[ChainTensors],
        seed: int,
        pad_to: int = 0,
        *,
        chains_a_batch: int = CHAINS_PER_BATCH,
        residues_a_chain: int = RESIDUES_PER_CHAIN,
    ) -> None:
        self.chains, self.seed, self.pad_to, self.epoch = list(chains), seed, pad_to, 0
        self.chains_a_batch, self.residues_a_chain = chains_a_batch, residues_a_chain

    def __len__(self) -> int:
        groups = sum(-(-len(chain.label_L) // self.residues_a_chain) for chain in self.chains)
        return -(-groups // self.chains_a_batch)

    def __iter__(self) -> Iterator[SiteBatch]:
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        groups = [
            (n, torch.from_numpy(part))
            for n, chain in enumerate(self.chains)
            for part in np.array_split(
                rng.permutation(len(chain.label_L)), -(-len(chain.label_L) // self.residues_a_chain)
            )
        ]
        order = rng.permutation(len(groups))
        for first in range(0, len(order), self.chains_a_batch):
            drawn = [groups[k] for k in order[first : first + self.chains_a_batch]]
            yield collate([self.chains[n] for n, _ in drawn], [wanted for _, wanted in drawn], self.pad_to)


def validation_split(families: Sequence[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return indices of the training chains and of the validation chains.

    Parameters
    ----------
    families : sequence of int
        Family of each chain; a family is not divided.
    share : float
        Share of the chains used for validation; the last family drawn may exceed it.
    seed : int
        The same seed gives the same chains.
    """
    groups: dict[int, list[int]] = {}
    for position, family in enumerate(families):
        groups.setdefault(family, []).append(position)
    names, held_out = list(groups), list[int]()
    for n in np.random.default_rng(seed).permutation(len(names)).tolist():
        if len(held_out) >= max(1, round(len(families) * share)):
            break
        held_out += groups[names[n]]
    return sorted(set(range(len(families))) - set(held_out)), sorted(held_out)
