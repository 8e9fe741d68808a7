"""Batches of masked sequences, and the settings of the language model."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset

from protemb_sdk import ALPHABET
from protemb_sdk._structure.chain import encode_sequence
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.pretrain.crops import Batch

# As in ESM-2, in its order.
VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)
CLS, PAD, EOS, MASK, X = (VOCABULARY.index(token) for token in ("<cls>", "<pad>", "<eos>", "<mask>", "X"))
_TOKEN_OF_TYPE = np.array([VOCABULARY.index(letter) for letter in ALPHABET])
RESIDUES = _TOKEN_OF_TYPE[:-1]  # tokens of the 20
IGNORED = -100  # label of positions that are not predicted

Tokens = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """Shape and training settings of the model.

    Parameters
    ----------
    layers, channels, heads : int
        Size of the transformer; its inner layers are four times as wide.
    crop : int
        Largest number of residues of a chain per sample.
    batch : int
        Clusters per step, with one chain of each.
    hidden : float
        Share of the known residues to be predicted. As in ESM, 80% of these are shown as <mask>, 10% as a
        random residue and 10% unchanged, because embeddings are computed from sequences without <mask>.
    learning_rate, weight_decay : float
        Settings of AdamW.
    warmup_steps : int
        Number of steps of linear increase; a cosine to a tenth follows.
    """

    layers: int = 4  # with 128 channels 0.8 million parameters, for 1.4 million residues of the corpus
    channels: int = 128
    heads: int = 4
    crop: int = 256  # the whole chain in 70% of cases
    batch: int = 16
    hidden: float = 0.15
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100


def tokens(corpus: Corpus) -> list[Tokens]:
    """Return the tokens of every chain, without <cls> and <eos>: int64, shape (L,) each."""
    return [_TOKEN_OF_TYPE[encode_sequence(sequence)] for sequence in corpus.table["sequence"].to_pylist()]


def assemble(shown: Sequence[Tokens], true: Sequence[Tokens], hidden: Sequence[NDArray[np.bool_]]) -> Batch:
    """Combine chains into one batch, with <cls> and <eos> and padded to the longest.

    Parameters
    ----------
    shown, true : sequence of ndarray, int64, shape (L,)
        Input tokens of the model, and true tokens.
    hidden : sequence of ndarray, bool, shape (L,)
        Mask of the residues to predict.

    Returns
    -------
    dict of Tensor
        `input_ids`, `attention_mask` and `labels`, int64, shape (B, longest + 2).
    """
    shape = len(shown), max(map(len, shown)) + 2
    ids, labels = np.full(shape, PAD), np.full(shape, IGNORED)
    for row, (seen, real, named) in enumerate(zip(shown, true, hidden, strict=True)):
        ids[row, : len(seen) + 2] = [CLS, *seen, EOS]
        labels[row, 1 : len(seen) + 1] = np.where(named, real, IGNORED)
    arrays = {"input_ids": ids, "attention_mask": (ids != PAD).astype(np.int64), "labels": labels}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


class MaskedBatches(IterableDataset[Batch]):
    """An endless stream of masked crops, a pure function of seed and step.

    Parameters
    ----------
    corpus : Corpus
        Training chains. Clusters are drawn, then a chain of each, so that large families (antibodies) and
        single chains have equal weight.
    config : LanguageConfig
        Batch, crop and masking.
    seed : int
        Seed; it and the step determine a batch completely.

    Raises
    ------
    CorpusError
        If there is no chain.
    """

    def __init__(self, corpus: Corpus, config: LanguageConfig, seed: int) -> None:
        if not len(corpus):
            raise CorpusError(f"no chain of {', '.join(corpus.splits)} to train on", corpus.path)
        self.config, self.seed, self.tokens = config, seed, tokens(corpus)
        order = np.argsort(corpus.clusters, kind="stable")
        self._groups = np.split(order, np.flatnonzero(np.diff(corpus.clusters[order])) + 1)

    def __iter__(self) -> Iterator[Batch]:
        return (self.batch(step) for step in itertools.count())

    def batch(self, step: int) -> Batch:
        """Return the batch of one step; see `assemble`."""
        rng = np.random.default_rng([self.seed, step])
        count = self.config.batch
        drawn = rng.choice(len(self._groups), size=count, replace=len(self._groups) < count)
        true = [crop(self.tokens[rng.choice(self._groups[g])], self.config.crop, rng) for g in drawn]
        hidden = [self._hidden(chain, rng) for chain in true]
        shown = [_disguised(chain, where, rng) for chain, where in zip(true, hidden, strict=True)]
        return assemble(shown, true, hidden)

    def _hidden(self, chain: Tokens, rng: np.random.Generator) -> NDArray[np.bool_]:
        known = np.flatnonzero(chain != X)
        chosen = rng.permutation(known)[: max(1, round(self.config.hidden * len(known)))]
        return np.isin(np.arange(len(chain)), chosen)


def crop(chain: Tokens, size: int, rng: np.random.Generator) -> Tokens:
    """Return a random contiguous crop, or the whole chain if it is not longer."""
    start = rng.integers(0, max(len(chain) - size, 0) + 1)
    return chain[start : start + size]


def _disguised(chain: Tokens, hidden: NDArray[np.bool_], rng: np.random.Generator) -> Tokens:
    kind = rng.random(len(chain))
    disguise = np.where(kind < 0.8, MASK, np.where(kind < 0.9, rng.choice(RESIDUES, len(chain)), chain))
    return np.where(hidden, disguise, chain)
