"""Training batches: a pure function of seed and step, so that a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from protemb_train.corpus import Corpus
from protemb_train.features import UNKNOWN
from protemb_train.noise import geometric_levels, perturb, stratified_levels
from protemb_train.presets import NetworkConfig, PretrainConfig

Batch = dict[str, Tensor]


def window(length: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of a random contiguous crop."""
    start = rng.integers(0, length - size + 1)
    return np.arange(start, start + size)


def two_windows(length: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of two random windows of half the size that do not overlap.

    The crop holds the off-diagonal blocks between them, and eq. 4 still closes on it.
    """
    half = size // 2
    first, second = np.sort(rng.integers(0, length - size + 1, size=2))
    return np.concatenate([np.arange(first, first + half), np.arange(second + half, second + size)])


class CropBatches(IterableDataset[Batch]):
    """An endless stream of noisy crops, one batch a step.

    Chains are drawn by cluster, so that a thousand antibodies weigh as much as one orphan; the crop size
    is drawn per step, with as many chains as keep the number of residue pairs at that of the smallest.

    Parameters
    ----------
    corpus : Corpus
        Training chains.
    network, config : NetworkConfig, PretrainConfig
        Noise levels; batch, crop sizes and augmentation.
    seed : int
        With the step it determines a batch completely.
    start : int
        First step.
    """

    def __init__(
        self, corpus: Corpus, network: NetworkConfig, config: PretrainConfig, seed: int, start: int = 0
    ) -> None:
        self.corpus, self.config, self.seed, self.start = corpus, config, seed, start
        self.levels = geometric_levels(network.noise_levels, network.sigma_max, network.sigma_min)
        self._members: dict[int, list[NDArray[np.int64]]] = {}
        for size in config.crops:
            eligible = np.flatnonzero(corpus.lengths >= size)
            if not eligible.size:
                raise ValueError(f"no chain of the corpus is as long as a crop of {size} residues")
            eligible = eligible[np.argsort(corpus.clusters[eligible], kind="stable")]
            borders = np.flatnonzero(np.diff(corpus.clusters[eligible])) + 1
            self._members[size] = np.split(eligible, borders)

    def __iter__(self) -> Iterator[Batch]:
        step = self.start
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        """Return the batch of one step: coords, noisy (B, L, 3), types, index (B, L), sigma (B,)."""
        rng = np.random.default_rng([self.seed, step])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        size = int(rng.choice(self.config.crops))
        smallest = min(self.config.crops)
        count = max(1, round(self.config.batch * smallest**2 / size**2))
        clusters = self._members[size]
        # With fewer clusters than samples (tiny corpora) repeats are unavoidable.
        drawn = rng.choice(len(clusters), size=count, replace=len(clusters) < count)
        coords, types, index = [], [], []
        for position in drawn:
            trace = self.corpus[int(rng.choice(clusters[position]))]
            crop = two_windows if rng.random() < self.config.two_window else window
            keep = crop(len(trace.residue_type), size, rng)
            centre = trace.ca_coords[keep].mean(axis=0)
            coords.append(trace.ca_coords[keep] - centre)
            types.append(
                np.where(rng.random(size) < self.config.mask_types, UNKNOWN, trace.residue_type[keep])
            )
            index.append(trace.residue_index[keep])
        coords_BL3 = torch.from_numpy(np.stack(coords))
        sigma_B = stratified_levels(count, self.levels, generator)
        return {
            "coords": coords_BL3,
            "noisy": perturb(coords_BL3, sigma_B, generator),
            "types": torch.from_numpy(np.stack(types)),
            "index": torch.from_numpy(np.stack(index)),
            "sigma": sigma_B,
        }
