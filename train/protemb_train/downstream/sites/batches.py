"""Labelled chains as tensors, and batches of residues drawn from them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from protemb_sdk._chain import encode_sequence
from protemb_train.downstream.sites.data import SiteChain, SitesError
from protemb_train.downstream.sites.deepppisp import GAP, TYPES, SiteBatch
from protemb_train.downstream.sites.embeddings import Embedded

CHAINS_A_BATCH = 4
RESIDUES_A_CHAIN = 128


@dataclass(frozen=True, slots=True, eq=False)
class ChainTensors:
    """One chain cut to what is seen; names as in `SiteBatch`, without the batch axis."""

    types_LT: Tensor
    other_LF: Tensor
    extra_LE: Tensor
    protein_P: Tensor
    label_L: Tensor


def as_tensors(
    chains: Sequence[SiteChain], embedded: Sequence[Embedded], *, features: bool = True
) -> list[ChainTensors]:
    """Return chains and their embeddings as tensors, the first `SiteChain.cut` residues of each.

    Without `features`, PSSM and DSSP are left out.

    Raises
    ------
    SitesError
        If an embedding has another length than its chain, or a feature is not finite.
    """
    found = []
    for chain, vectors in zip(chains, embedded, strict=True):
        if len(vectors.residue) != len(chain):
            raise SitesError(
                f"{chain.id}: {len(vectors.residue)} embeddings for {len(chain)} residues; embed it again"
            )
        other = chain.features[:, : None if features else 0]
        if not all(np.isfinite(array).all() for array in (other, vectors.residue, vectors.protein)):
            raise SitesError(f"{chain.id}: a feature or an embedding is not finite; repair or drop the chain")
        types = torch.from_numpy(encode_sequence(chain.sequence)[: chain.cut])
        found.append(
            ChainTensors(
                # X is one of none.
                torch.nn.functional.one_hot(types, TYPES + 1)[:, :TYPES].float(),
                torch.from_numpy(other[: chain.cut]),
                torch.from_numpy(vectors.residue[: chain.cut]),
                torch.from_numpy(vectors.protein),
                torch.from_numpy(chain.label[: chain.cut].astype(np.float32)),
            )
        )
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Mean and spread of the embeddings of the chains learnt from.

    Embeddings of different makers then start alike; what the published network sees beside them stays.

    Parameters
    ----------
    residue_mean_E, residue_spread_E, protein_mean_P, protein_spread_P : Tensor
        A channel that never varies has an infinite spread: it says nothing, and divided by its rounding
        errors it would seem to.
    """

    residue_mean_E: Tensor
    residue_spread_E: Tensor
    protein_mean_P: Tensor
    protein_spread_P: Tensor

    @classmethod
    def of(cls, chains: Sequence[ChainTensors]) -> Scaling:
        """Return mean and spread over chains; residues without an embedding (zeros) do not count."""
        residue = torch.cat([c.extra_LE for c in chains])
        if residue.shape[1]:
            residue = residue[(residue != 0).any(dim=1)]
        protein = torch.stack([c.protein_P for c in chains])
        means = [of.mean(dim=0) for of in (residue, protein)]
        squares = [(of - m).square().mean(dim=0) for of, m in zip((residue, protein), means, strict=True)]
        residue_spread, protein_spread = (torch.where(s > 1e-12, s.sqrt(), torch.inf) for s in squares)
        return cls(means[0], residue_spread, means[1], protein_spread)

    def applied(self, chain: ChainTensors) -> ChainTensors:
        """Return the chain with embeddings of mean 0 and spread 1; zeros stay where there is no embedding."""
        there = (chain.extra_LE != 0).any(dim=1, keepdim=True)
        residue = (chain.extra_LE - self.residue_mean_E) / self.residue_spread_E
        protein = (chain.protein_P - self.protein_mean_P) / self.protein_spread_P
        return replace(chain, extra_LE=torch.where(there, residue, 0.0), protein_P=protein)


def collate(chains: Sequence[ChainTensors], wanted: Sequence[Tensor], pad_to: int = 0) -> SiteBatch:
    """Return a batch of the wanted residues (positions per chain).

    `pad_to` fills shorter chains with zeros to that many residues, which the published one-hot layer needs.
    """
    lengths = [max(len(chain.label_L), pad_to) for chain in chains]
    starts = np.cumsum([0, *(length + GAP for length in lengths)])[:-1].tolist()

    def row(parts: list[Tensor]) -> Tensor:
        filled = [
            torch.nn.functional.pad(part, (0, 0, 0, length + GAP - len(part)))
            for part, length in zip(parts, lengths, strict=True)
        ]
        return torch.cat(filled)

    return SiteBatch(
        row([c.types_LT for c in chains]),
        row([c.other_LF for c in chains]),
        row([c.extra_LE for c in chains]),
        torch.stack([c.protein_P for c in chains]),
        torch.tensor(starts),
        torch.tensor(lengths),
        torch.cat([torch.full((len(w),), n) for n, w in enumerate(wanted)]),
        torch.cat([w + start for w, start in zip(wanted, starts, strict=True)]),
        torch.cat([c.label_L[w] for c, w in zip(chains, wanted, strict=True)]),
    )


def whole(chain: ChainTensors, pad_to: int = 0) -> SiteBatch:
    """Return a batch of all residues of one chain."""
    return collate([chain], [torch.arange(len(chain.label_L))], pad_to)


class ResidueBatches(IterableDataset[SiteBatch]):
    """Every residue once an epoch, in batches of `RESIDUES_A_CHAIN` residues of `CHAINS_A_BATCH` chains.

    The published code draws 32 residues of nearly as many chains, and runs its convolutions over a whole
    chain for each. The residues of a chain share them here, up to `RESIDUES_A_CHAIN` at a time.

    Parameters
    ----------
    chains : sequence of ChainTensors
        To learn from.
    seed : int
        An epoch is a function of it and of how many came before.
    pad_to : int, default 0
        As in `collate`.
    """

    def __init__(self, chains: Sequence[ChainTensors], seed: int, pad_to: int = 0) -> None:
        self.chains, self.seed, self.pad_to, self.epoch = list(chains), seed, pad_to, 0

    def __len__(self) -> int:
        groups = sum(-(-len(chain.label_L) // RESIDUES_A_CHAIN) for chain in self.chains)
        return -(-groups // CHAINS_A_BATCH)

    def __iter__(self) -> Iterator[SiteBatch]:
        rng = np.random.default_rng((self.seed, self.epoch))
        self.epoch += 1
        groups = [
            (n, torch.from_numpy(part))
            for n, chain in enumerate(self.chains)
            for part in np.array_split(
                rng.permutation(len(chain.label_L)), -(-len(chain.label_L) // RESIDUES_A_CHAIN)
            )
        ]
        order = rng.permutation(len(groups))
        for first in range(0, len(order), CHAINS_A_BATCH):
            drawn = [groups[k] for k in order[first : first + CHAINS_A_BATCH]]
            yield collate([self.chains[n] for n, _ in drawn], [wanted for _, wanted in drawn], self.pad_to)


def validation_split(count: int, share: float, seed: int) -> tuple[list[int], list[int]]:
    """Return positions of the chains to learn from and of those held out, whole, for validation."""
    order = np.random.default_rng(seed).permutation(count).tolist()
    held_out = max(1, round(count * share))
    return sorted(order[held_out:]), sorted(order[:held_out])
