"""Fine-tuning of the states: our head on frozen vectors and on states of messages that are trained with it.

These states need no pair map, so that an epoch costs little more than one of the head alone.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from protemb_train.downstream.sites.data import SitesError
from protemb_train.downstream.sites.deepppisp import SiteBatch
from protemb_train.downstream.sites.graph import GraphHead
from protemb_train.network.network import ScoreNetwork, states_of_messages
from protemb_train.network.stems import BaseStem

NOISE = 0.1
"""Standard deviation of the noise on coordinates in training, angstrom."""


class MessageStates(nn.Module):
    """The states that a network computes by messages alone, with weights of its own.

    Parameters
    ----------
    network : ScoreNetwork
        A network with messages; its weights are copied.

    Raises
    ------
    SitesError
        If it has none.
    """

    def __init__(self, network: ScoreNetwork) -> None:
        super().__init__()
        if network.single is None or network.config.messages is None:
            raise SitesError("only the states of a network with messages are trained with a head")
        assert isinstance(network.stem, BaseStem)
        self.features, self.single = copy.deepcopy((network.stem.features, network.single))
        # Parts that belong to the pair map and to other objectives.
        self.single.reads, self.single.writes = nn.ModuleList(), nn.ModuleList()
        del self.single.read_out, self.single.norm_profile, self.single.profile
        self.width = network.config.single_channels
        self.train()

    def forward(self, coords_L3: Tensor, types_LT: Tensor, index_L: Tensor) -> Tensor:
        """Return the states of the residues of a chain, shape (L, H).

        Parameters
        ----------
        coords_L3 : Tensor, float32, shape (L, 3)
            C-alpha coordinates in angstrom, all finite.
        types_LT : Tensor, float32, shape (L, 20)
            Residue types as one-hot; zeros for X.
        index_L : Tensor, int64, shape (L,)
            Residue indices.
        """
        unknown_L1 = 1 - types_LT.sum(dim=1, keepdim=True)
        types_BLT = torch.cat([types_LT, unknown_L1], dim=1)[None]
        inputs = coords_L3[None], types_BLT, index_L[None]
        return states_of_messages(self.features, self.single, *inputs).state[0]


class HeadOnTrainedStates(nn.Module):
    """A head, and states that are trained with it.

    Parameters
    ----------
    network : ScoreNetwork
        Network with the initial weights of the states.
    other, extra, protein : int
        As in `GraphHead`, whose residue embeddings are followed by the states.
    """

    def __init__(self, network: ScoreNetwork, other: int, extra: int, protein: int) -> None:
        super().__init__()
        self.encoder = MessageStates(network)
        self.head = GraphHead(other, extra + self.encoder.width, protein)

    def forward(self, batch: SiteBatch) -> Tensor:
        """Return logits, shape (M,)."""
        states_RH = batch.extra_RE.new_zeros(len(batch.extra_RE), self.encoder.width)
        for start, place_S in batch.seen():
            coords_S3 = batch.coords_R3[place_S]
            if self.training:
                coords_S3 = coords_S3 + NOISE * torch.randn_like(coords_S3)
            states_SH = self.encoder(coords_S3, batch.types_RT[place_S], place_S - start)
            states_RH = states_RH.index_put((place_S,), states_SH)
        logit: Tensor = self.head(batch._replace(extra_RE=torch.cat([batch.extra_RE, states_RH], dim=1)))
        return logit
