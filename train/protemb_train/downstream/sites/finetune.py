"""End-to-end fine-tuning of a network without states: the encoder is trained after the head.

The head is trained alone first, as in the row it is compared with, then all weights: the gradients of a
random head would damage the encoder (Kumar et al. 2022, arXiv:2202.10054).
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
    residues_a_chain=10_000,  # a chain is embedded once per epoch
    learning_rate=1e-4,  # 1/40 of the rate of the encoder, 1/10 of that of the head
)
LONGEST_TRAINED = 300
"""Residues; longer chains, which cost as much as all others together, are only predicted."""
CLOSE = 1e-3
"""Largest difference between PyTorch and the SDK, relative to the scale of the embedding."""


class EndToEnd(nn.Module):
    """A head and its encoder.

    Residue vectors are means of the pair map over columns, and the protein vector is their mean.

    Parameters
    ----------
    encoder : ScoreNetwork
        Encoder; it is copied.
    sigma : float
        Noise level of its embedding, angstrom.
    head : nn.Module
        Network trained on scaled embeddings.
    scaling : Scaling
        Scaling of these embeddings.
    """

    def __init__(self, encoder: ScoreNetwork, sigma: float, head: nn.Module, scaling: Scaling) -> None:
        super().__init__()
        self.encoder, self.head = copy.deepcopy(encoder), head
        self.scaling, self.sigma = scaling, sigma

    def forward(self, batch: SiteBatch) -> Tensor:
        """Return logits, shape (M,)."""
        self.encoder.autocast_blocks = self.training
        width = len(self.scaling.means["extra_LE"])
        extra_RE = batch.coords_R3.new_zeros(len(batch.coords_R3), width)
        protein = []
        for start, place_S in batch.seen():
            residue_SE = self.embed(batch.coords_R3[place_S], batch.types_RT[place_S], place_S - start)
            extra_RE = extra_RE.index_put((place_S,), self.scaling.scaled("extra_LE", residue_SE))
            protein.append(residue_SE.mean(dim=0))
        protein_NP = self.scaling.scaled("protein_P", torch.stack(protein))
        logit: Tensor = self.head(batch._replace(extra_RE=extra_RE, protein_NP=protein_NP))
        return logit

    def embed(self, coords_S3: Tensor, types_ST: Tensor, index_S: Tensor) -> Tensor:
        """Return residue embeddings of residues with coordinates, shape (S, C)."""
        type_S = torch.where(types_ST.any(dim=1), types_ST.argmax(dim=1), TYPES)
        inputs = coords_S3[None], type_S[None], index_S[None], coords_S3.new_full((1,), self.sigma)
        return self.encoder.embed(*inputs)[0].mean(dim=2).T


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
    """Train the network of a run together with its encoder.

    Parameters
    ----------
    run : Run
        Run of the network on the vectors of this encoder (`EndToEnd`), on the same chains.
    encoder : ScoreNetwork
        The encoder; it is not modified.
    sigma : float
        Its noise level, angstrom.
    learning, validation, test
        As in `train`, with embeddings.
    seed, recipe
        As in `train`.

    Raises
    ------
    SitesError
        If the embeddings are not from the encoder.
    """
    made = EndToEnd(encoder, sigma, run.network, run.scaling)
    _check_same(made.eval(), learning)
    made.train()

    def bare(side: Sequence[ChainTensors]) -> list[ChainTensors]:
        scaled = map(run.scaling.applied, side)  # features, if they were scaled for the head
        return [replace(c, extra_LE=c.extra_LE[:, :0], protein_P=c.protein_P[:0]) for c in scaled]

    short = [chain for chain in learning if len(chain.label_L) <= LONGEST_TRAINED]
    tuned = train(lambda *_: made, bare(short), bare(validation), bare(test), recipe, seed=seed)
    return replace(tuned, curve=[*run.curve, *tuned.curve])


@torch.inference_mode()
def _check_same(made: EndToEnd, chains: Sequence[ChainTensors]) -> None:
    # The shortest chain: the embedding of a chain that was cut differs from that of its first residues.
    chain = min(chains, key=lambda c: len(c.label_L))
    seen = torch.isfinite(chain.coords_L3[:, 0])
    expected = chain.extra_LE[seen]
    found = made.embed(chain.coords_L3[seen], chain.types_LT[seen], seen.nonzero()[:, 0])
    alike = found.shape == expected.shape
    if alike and float((found - expected).abs().max()) <= CLOSE * float(expected.abs().max()):
        return
    raise SitesError(
        "the embeddings are not from the network to be fine-tuned; pass the model exported from it as "
        "encoder, with the readout mean only"
    )
