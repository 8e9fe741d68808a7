"""Fine-tuning end to end: after the head, the encoder learns too.

First the head alone, as in the row it is compared with, then all weights together: from a head at random, the
first gradients would spoil what the encoder knows (Kumar et al. 2022, arXiv:2202.10054).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from protemb_train.downstream.common.messages import TYPES
from protemb_train.downstream.sites.batches import ChainTensors, Scaling
from protemb_train.downstream.sites.data import SitesError
from protemb_train.downstream.sites.deepppisp import SiteBatch
from protemb_train.downstream.sites.training import Recipe, Run, train
from protemb_train.network.network import ScoreNetwork

UNFROZEN = Recipe(
    epochs=2,
    patience=2,
    chains_a_batch=2,  # the maps of a chain of 500 and their gradients take 2.5 GB
    residues_a_chain=10_000,  # a chain is embedded once an epoch
    learning_rate=1e-4,  # a fortieth of the encoder's own, a tenth of the head's
)
LONGEST_LEARNT = 300
"""Residues: chains beyond it cost as much as all others together, and are only predicted."""
CLOSE = 1e-3
"""Of the scale of an embedding: by how much PyTorch's may differ from the SDK's."""


class EndToEnd(nn.Module):
    """A head and the encoder below it, mean readout.

    Parameters
    ----------
    encoder : ScoreNetwork
        Is copied.
    sigma : float
        Noise level of its embedding, angstrom.
    head : nn.Module
        Has learnt on scaled embeddings.
    scaling : Scaling
        That scaling.
    """

    def __init__(self, encoder: ScoreNetwork, sigma: float, head: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.encoder, self.head = copy.deepcopy(encoder), head
        self.scaling, self.sigma = scaling, sigma

    def forward(self, batch: SiteBatch) -> Tensor:
        """Return logits, shape (M,)."""
        self.encoder.autocast_blocks = self.training
        extra_RE = batch.coords_R3.new_zeros(len(batch.coords_R3), self.encoder.config.channels)
        protein = []
        for start, length in zip(batch.start_N.tolist(), batch.length_N.tolist(), strict=True):
            place_S = start + torch.isfinite(batch.coords_R3[start : start + length, 0]).nonzero()[:, 0]
            residue_SE = self.embed(batch.coords_R3[place_S], batch.types_RT[place_S], place_S - start)
            extra_RE = extra_RE.index_put((place_S,), self.scaling.scaled("extra_LE", residue_SE))
            protein.append(residue_SE.mean(dim=0))
        protein_NP = self.scaling.scaled("protein_P", torch.stack(protein))
        logit: Tensor = self.head(batch._replace(extra_RE=extra_RE, protein_NP=protein_NP))
        return logit

    def embed(self, coords_S3: Tensor, types_ST: Tensor, index_S: Tensor) -> Tensor:
        """Return residue embeddings of residues with coordinates, shape (S, C)."""
        type_S = torch.where(types_ST.any(dim=1), types_ST.argmax(dim=1), TYPES)
        sigma = coords_S3.new_full((1,), self.sigma)
        pair_BCSS = self.encoder.embed(coords_S3[None], type_S[None], index_S[None], sigma)
        return pair_BCSS[0].mean(dim=2).T


def fine_tuned(
    run: Run,
    encoder: ScoreNetwork,
    sigma: float,
    learning: Sequence[ChainTensors],
    validation: Sequence[ChainTensors],
    test: Sequence[ChainTensors],
    *,
    seed: int,
    recipe: Recipe = UNFROZEN,
) -> Run:
    """Train a run's network and its encoder on, together.

    Parameters
    ----------
    run : Run
        Of the network on embeddings of this encoder, mean readout, on the same chains.
    encoder : ScoreNetwork
        That encoder; stays as it is.
    sigma : float
        Its noise level, angstrom.
    learning, validation, test
        As in `train`, with embeddings.
    seed, recipe
        As in `train`.

    Raises
    ------
    SitesError
        If the embeddings are not those of the encoder.
    """
    made = EndToEnd(encoder, sigma, run.network, run.scaling)
    _check_same(made.eval(), learning)
    made.train()

    def bare(side: Sequence[ChainTensors]) -> list[ChainTensors]:
        scaled = map(run.scaling.applied, side)  # features, where the head saw them so
        return [replace(c, extra_LE=c.extra_LE[:, :0], protein_P=c.protein_P[:0]) for c in scaled]

    short = [chain for chain in learning if len(chain.label_L) <= LONGEST_LEARNT]
    tuned = train(lambda *_: made, bare(short), bare(validation), bare(test), recipe, seed=seed)
    return replace(tuned, curve=[*run.curve, *tuned.curve])


@torch.inference_mode()
def _check_same(made: EndToEnd, chains: Sequence[ChainTensors]) -> None:
    # The shortest: a chain that was cut has another embedding than its first residues alone.
    chain = min(chains, key=lambda c: len(c.label_L))
    seen = torch.isfinite(chain.coords_L3[:, 0])
    expected = chain.extra_LE[seen]
    if expected.shape[1] == made.encoder.config.channels:
        found = made.embed(chain.coords_L3[seen], chain.types_LT[seen], seen.nonzero()[:, 0])
        if float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max()):
            return
    raise SitesError(
        "the embeddings are not those of the network to be fine-tuned; name the model that was exported from "
        "it as encoder, with the mean readout alone"
    )
