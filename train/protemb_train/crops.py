"""Training batches: a pure function of seed and step, so that a resumed run continues exactly."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from protemb_train.corpus import Corpus, CorpusError
from protemb_train.features import UNKNOWN
from protemb_train.noise import geometric_levels, perturb, stratified_levels
from protemb_train.presets import NetworkConfig, PretrainConfig

Batch = dict[str, Tensor]


def window(length: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of a random contiguous crop, int64, shape (size,)."""
    start = rng.integers(0, length - size + 1)
    return np.arange(start, start + size)


def two_windows(length: int, size: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return the positions of two random windows of half the size that do not overlap, shape (size,).

    They are in order and may touch. The crop holds the off-diagonal blocks between them, and eq. 4 still
    closes on it.
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

    Raises
    ------
    CorpusError
        If no chain is as long as a crop.
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
                longest = corpus.lengths.max(initial=0)
                raise CorpusError(
                    f"{corpus.path}: no chain of {', '.join(corpus.splits)} is as long as a crop of {size} "
                    f"residues (the longest has {longest}); use a larger corpus or smaller crops"
                )
            eligible = eligible[np.argsort(corpus.clusters[eligible], kind="stable")]
            borders = np.flatnonzero(np.diff(corpus.clusters[eligible])) + 1
            self._members[size] = np.split(eligible, borders)

    def __iter__(self) -> Iterator[Batch]:
        step = self.start
        while True:
            yield self.batch(step)
            step += 1

    def batch(self, step: int) -> Batch:
        """Return the batch of one step.

        Returns
        -------
        dict of Tensor
            `coords` and `noisy` (before and after eq. 1, centred before it), float32, shape (B, L, 3),
            angstrom; `types` and `index`, int64, shape (B, L); `sigma`, float32, shape (B,), angstrom.
        """
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
