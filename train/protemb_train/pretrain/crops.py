"""Training batches as a pure function of seed and step, so that a resumed run continues exactly."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset, IterableDataset, get_worker_info

from protemb_train.corpus.corpus import Corpus, CorpusError, Trace
from protemb_train.network.config import NetworkConfig, PretrainConfig
from protemb_train.network.features import UNKNOWN
from protemb_train.network.noise import geometric_levels, perturb, stratified_levels

Batch = dict[str, Any]
"""Tensors by name; with the auxiliary objectives also lists of batches."""


def window(length: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of a random contiguous crop, int64, shape (size,)."""
    start = rng.integers(0, length - size + 1)
    return np.arange(start, start + size)


def two_windows(length: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of two random non-overlapping windows of half the size, shape (size,).

    They are in order and may be adjacent. The crop includes the off-diagonal blocks between them, and eq. 4
    still holds on it.
    """
    half = size // 2
    first, second = np.sort(rng.integers(0, length - size + 1, size=2))
    return np.concatenate([np.arange(first, first + half), np.arange(second + half, second + size)])


def sphere(ca_coords: NDArray[np.float32], size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the indices of the residues nearest to a random one, in order, int64, shape (size,)."""
    centre = ca_coords[rng.integers(0, len(ca_coords))]
    nearest = np.argpartition(np.square(ca_coords - centre).sum(axis=1), size - 1)[:size]
    return np.sort(nearest)


def show_types(
    types: NDArray[np.int64], mask: float, swap: float, rng: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return types as input of a network, and a mask of those to predict.

    Parameters
    ----------
    types : ndarray, int64, shape (L,)
        True types.
    mask, swap : float
        Shares of residues shown as X, and as another type. As many residues as are swapped are unchanged but
        predicted too, so that the network must decide whether a type is correct.
    rng : Generator
        Source of random numbers.
    """
    fate = rng.random(len(types))
    shown = np.where(fate < mask, UNKNOWN, types)
    if swap:
        others = (types + rng.integers(1, UNKNOWN, len(types))) % UNKNOWN  # always another type
        swapped = (fate >= mask) & (fate < mask + swap) & (types != UNKNOWN)
        shown = np.where(swapped, others, shown)
    return shown, (fate < mask + 2 * swap) & (types != UNKNOWN)


class CropBatches(IterableDataset[Batch]):
    """An endless stream of noisy crops, one batch per step.

    If clusters are drawn, large families (such as antibodies) and single chains have equal weight. The crop
    size is drawn per step, with the number of chains that keeps the number of residue pairs constant.

    Parameters
    ----------
    corpus : Corpus
        Training chains.
    network, config : NetworkConfig, PretrainConfig
        Noise levels; batch, crop sizes and augmentation.
    seed : int
        Seed; it and the step determine a batch completely.
    start : int
        First step.
    rank : int
        Index of the process in distributed training; each draws its own batches.

    Raises
    ------
    CorpusError
        If no chain is as long as a crop.
    """

    def __init__(
        self,
        corpus: Corpus,
        network: NetworkConfig,
        config: PretrainConfig,
        seed: int,
        start: int = 0,
        rank: int = 0,
    ) -> None:
        self.corpus, self.config, self.seed, self.start, self.rank = corpus, config, seed, start, rank
        self.levels = geometric_levels(network.noise_levels, network.sigma_max, network.sigma_min)
        self._groups: dict[int, list[NDArray[np.int64]]] = {}
        for size in config.crops:
            eligible = np.flatnonzero(corpus.lengths >= size)
            if not eligible.size:
                longest = corpus.lengths.max(initial=0)
                raise CorpusError(
                    f"no chain of {', '.join(corpus.splits)} is as long as a crop of {size} "
                    f"residues (the longest has {longest}); use a larger corpus or smaller crops",
                    corpus.path,
                )
            if config.draw == "chain":
                borders = np.arange(1, len(eligible))
            else:
                eligible = eligible[np.argsort(corpus.clusters[eligible], kind="stable")]
                borders = np.flatnonzero(np.diff(corpus.clusters[eligible])) + 1
            self._groups[size] = np.split(eligible, borders)

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()  # workers alternate, so that the order does not depend on their number
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        return (self.batch(step) for step in itertools.count(self.start + first, stride))

    def batch(self, step: int) -> Batch:
        """Return the batch of one step.

        Returns
        -------
        dict of Tensor
            `coords` and `noisy` (before and after eq. 1, centred before it), float32, shape (B, L, 3),
            angstrom; `types` (some masked or swapped), `true_types` and `index`, int64, shape (B, L);
            `asked`, bool, shape (B, L), residues whose type is predicted; `sigma`, float32, shape (B,),
            angstrom.
        """
        rng = np.random.default_rng([self.seed, step] + [self.rank] * bool(self.rank))
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        size = int(rng.choice(self.config.crops))
        smallest = min(self.config.crops)
        count = max(1, round(self.config.batch * smallest**2 / size**2))
        groups = self._groups[size]
        # With fewer groups than samples (tiny corpora) repeats are unavoidable.
        drawn = rng.choice(len(groups), size=count, replace=len(groups) < count)
        coords, types, shown, asked, index = [], [], [], [], []
        for position in drawn:
            trace = self.corpus[int(rng.choice(groups[position]))]
            keep = self._crop(trace, size, rng)
            coords.append(trace.ca_coords[keep] - trace.ca_coords[keep].mean(axis=0))
            types.append(trace.residue_type[keep])
            part, named = show_types(types[-1], self.config.mask_types, self.config.swap_types, rng)
            shown.append(part)
            asked.append(named)
            index.append(trace.residue_index[keep])
        coords_BL3 = torch.from_numpy(np.stack(coords))
        sigma_B = stratified_levels(count, self.levels, generator)
        return {
            "coords": coords_BL3,
            "noisy": perturb(coords_BL3, sigma_B, generator),
            "types": torch.from_numpy(np.stack(shown)),
            "true_types": torch.from_numpy(np.stack(types)),
            "asked": torch.from_numpy(np.stack(asked)),
            "index": torch.from_numpy(np.stack(index)),
            "sigma": sigma_B,
        }

    def _crop(self, trace: Trace, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
        length, kind = len(trace.residue_type), rng.random()
        if kind < self.config.two_windows:
            return two_windows(length, size, rng)
        if kind < self.config.two_windows + self.config.sphere:
            return sphere(trace.ca_coords, size, rng)
        return window(length, size, rng)


class WholeChains(Dataset[Batch]):
    """Whole chains for validation, always with the same noise; every level is equally frequent.

    Parameters
    ----------
    corpus : Corpus
        Source of the chains, one per cluster.
    network : NetworkConfig
        Noise levels.
    chains : int
        Largest number of chains.
    lengths : tuple of int
        Shortest and longest chain used, in residues.
    """

    copies = 8  # noisy copies per chain, each at another level

    def __init__(
        self, corpus: Corpus, network: NetworkConfig, chains: int = 16, lengths: tuple[int, int] = (50, 160)
    ) -> None:
        self.corpus = corpus
        self.levels = geometric_levels(network.noise_levels, network.sigma_max, network.sigma_min)
        self.positions = corpus.one_per_cluster(chains, lengths)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, position: int) -> Batch:
        trace = self.corpus[self.positions[position]]
        generator = torch.Generator().manual_seed(position)
        stride = max(1, len(self.levels) // self.copies)
        sigma_B = self.levels[position % stride :: stride]
        coords_BL3 = torch.from_numpy(np.array(trace.ca_coords)).expand(len(sigma_B), -1, -1)
        types_BL = torch.from_numpy(trace.residue_type).expand(len(sigma_B), -1)
        return {
            "coords": coords_BL3,
            "noisy": perturb(coords_BL3, sigma_B, generator),
            "types": types_BL,
            "true_types": types_BL,
            "asked": torch.zeros_like(types_BL, dtype=torch.bool),
            "index": torch.from_numpy(trace.residue_index).expand(len(sigma_B), -1),
            "sigma": sigma_B,
        }
