"""Batches of the auxiliary objectives: pieces of cut chains, whole chains and damaged structures.

Eq. 5 uses one number per pair and trains no residue vectors. Three self-supervised objectives do: the residue
types, predicted from structure alone; the residues of a piece that were in contact with the removed part of
its chain; and the lDDT of each residue in a damaged structure. Like the crops, a batch is a function of
seed and step.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_train.corpus.corpus import Corpus, CorpusError, Trace
from protemb_train.corpus.cuts import CutRule, cut_chains
from protemb_train.network.config import PretrainConfig
from protemb_train.network.noise import perturb
from protemb_train.pretrain.crops import Batch, CropBatches, show_types

SIGMA = (0.1, 1.0)
"""Noise levels in angstrom, drawn log-uniformly: the range used for embeddings."""
SHORTEST = 40  # residues of a whole chain
PER_CLUSTER = 2  # number of chains per cluster that are cut
_SEED = 1_000_003  # makes the random numbers independent of those of the crops


class StepBatches(CropBatches):
    """Crops, together with the batches of the auxiliary objectives.

    Parameters are those of `CropBatches`, and `damaged` as in `AuxiliaryBatches`.
    """

    def __init__(
        self, corpus: Corpus, *arguments: Any, damaged: Sequence[Damaged] = (), **named: Any
    ) -> None:
        super().__init__(corpus, *arguments, **named)
        self._auxiliary = AuxiliaryBatches(corpus, self.config, self.seed, self.rank, damaged)

    def batch(self, step: int) -> Batch:
        """Return the crops of a step, if the pair map is trained, and `AuxiliaryBatches.batch`."""
        crops = super().batch(step) if self.config.pair_map else {}
        return crops | self._auxiliary.batch(step)


class _Piece(NamedTuple):
    position: int
    first: int
    behind: int
    touching: NDArray[np.bool_]


class Damaged(NamedTuple):
    """A damaged structure.

    Parameters
    ----------
    ca_coords : ndarray, float32, shape (L, 3)
        C-alpha coordinates in angstrom.
    residue_type : ndarray, int64, shape (L,)
        Residue types as in `Trace`.
    lddt : ndarray, float32, shape (L,)
        lDDT of each residue, 0 to 1; NaN where unknown.
    """

    ca_coords: NDArray[np.float32]
    residue_type: NDArray[np.int64]
    lddt: NDArray[np.float32]


class AuxiliaryBatches:
    """Pieces, whole chains and damaged structures for each step.

    Parameters
    ----------
    corpus : Corpus
        Source of chains.
    config : PretrainConfig
        Numbers of pieces and chains, their largest length, shares of masked and swapped types.
    seed : int
        Seed; it and the step determine a batch completely.
    rank : int
        Index of the process in distributed training.
    damaged : sequence of Damaged
        Damaged structures of the same corpus.

    Raises
    ------
    CorpusError
        If pieces, chains or damaged structures are required but none is short enough.
    """

    def __init__(
        self,
        corpus: Corpus,
        config: PretrainConfig,
        seed: int,
        rank: int = 0,
        damaged: Sequence[Damaged] = (),
    ) -> None:
        self.corpus, self.config, self.seed, self.rank = corpus, config, seed, rank
        self._damaged = [model for model in damaged if len(model.lddt) <= config.longest]
        self._pieces: list[_Piece] = []
        self._clusters: list[NDArray[np.int64]] = []
        if config.pieces:
            rule = CutRule(longest=config.longest)
            self._pieces = [
                _Piece(position, cut.first, cut.behind, cut.touching)
                for position, _, cuts in cut_chains(corpus, rule, per_cluster=PER_CLUSTER)
                for cut in cuts
            ]
            # Sorted by length, so that the pieces of a step take similar time.
            self._pieces.sort(key=lambda piece: (piece.behind - piece.first, piece.position))
        if config.chains:
            fits = np.flatnonzero((corpus.lengths >= SHORTEST) & (corpus.lengths <= config.longest))
            fits = fits[np.argsort(corpus.clusters[fits], kind="stable")]
            borders = np.flatnonzero(np.diff(corpus.clusters[fits])) + 1
            self._clusters = np.split(fits, borders) if fits.size else []
        if config.damaged and not self._damaged:
            raise CorpusError(
                f"damaged is {config.damaged}, but there is no damaged structure of at most {config.longest} "
                "residues; pass a file of protemb-train quality decoys, or set it to 0"
            )
        for name, asked, found in (
            ("piece of a cut chain", config.pieces, self._pieces),
            ("chain", config.chains, self._clusters),
        ):
            if asked and not found:
                raise CorpusError(
                    f"{corpus.path}: split {', '.join(corpus.splits)} has no {name} of at most "
                    f"{config.longest} residues; use a larger corpus, or set {name.split()[0]}s to 0"
                )

    def batch(self, step: int) -> dict[str, Any]:
        """Return the batches of a step: lists `pieces`, `chains` and `damaged` of batches of one chain.

        Entries are those of `CropBatches.batch`; a piece also has `touching`, bool, shape (1, L), and a
        damaged structure `lddt`, float32, shape (1, L).
        """
        rng = np.random.default_rng([self.seed, step, _SEED, self.rank])
        pieces, chains = [], []
        if self.config.pieces:
            start = int(rng.integers(0, max(1, len(self._pieces) - self.config.pieces + 1)))
            for piece in self._pieces[start : start + self.config.pieces]:
                trace, part = self.corpus[piece.position], slice(piece.first, piece.behind)
                made = self._batch(_cut(trace, part), 1.0, rng)
                chosen = torch.from_numpy(np.ascontiguousarray(piece.touching))
                pieces.append(made | {"touching": chosen[None]})
        for _ in range(self.config.chains):
            members = self._clusters[int(rng.integers(len(self._clusters)))]
            trace = self.corpus[int(rng.choice(members))]
            # The noise is weaker than the level passed to the network, down to none: embeddings are computed
            # from unperturbed coordinates.
            chains.append(self._batch(trace, float(rng.random()), rng))
        damaged = []
        for _ in range(self.config.damaged):
            model = self._damaged[int(rng.integers(len(self._damaged)))]
            index = np.arange(len(model.lddt))
            trace = Trace("damaged", model.ca_coords, model.residue_type, index)
            made = self._batch(trace, float(rng.random()), rng)
            damaged.append(made | {"lddt": torch.from_numpy(np.array(model.lddt))[None]})
        return {"pieces": pieces, "chains": chains, "damaged": damaged}

    def _batch(self, trace: Trace, noise: float, rng: np.random.Generator) -> Batch:
        types = trace.residue_type
        if rng.random() < self.config.hidden_chains:
            shown, asked = show_types(types, 1.0, 0.0, rng)
        else:
            shown, asked = show_types(types, self.config.mask_types, self.config.swap_types, rng)
        coords = trace.ca_coords
        coords_BL3 = torch.from_numpy(coords - coords.mean(axis=0))[None]
        sigma_B = torch.tensor([math.exp(rng.uniform(math.log(SIGMA[0]), math.log(SIGMA[1])))])
        generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
        return {
            "coords": coords_BL3,
            "noisy": perturb(coords_BL3, sigma_B * noise, generator),
            "types": torch.from_numpy(shown)[None],
            "true_types": torch.from_numpy(np.array(types))[None],
            "asked": torch.from_numpy(asked)[None],
            "index": torch.from_numpy(np.array(trace.residue_index))[None],
            "sigma": sigma_B,
        }


def _cut(trace: Trace, part: slice) -> Trace:
    return Trace(trace.id, trace.ca_coords[part], trace.residue_type[part], trace.residue_index[part])
