"""The single representation: one vector for each residue beside the pair map, and its exchange with the map.

As in AlphaFold, the network keeps a state for each residue. The state is read from four means of the pair
map, added back to the rows and columns of the map, and read again after the last block. Residue types enter
the network here, at the last exchange: everything before it sees coordinates and residue indices only, so
that the state of that moment predicts the types of all residues from structure alone.

With `messages` the state starts from messages between neighbours in space, as in ProteinMPNN, and further
messages follow when types are known. They cost a fiftieth of the pair map, so that they can be trained on far
more chains first (`PretrainConfig.pair_map`).

Shapes: B batch, L length, R rows of the map that are computed, C channels of the map, H of the state.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from protemb_train.network.means import mean_readouts
from protemb_train.network.messages import Messages
from protemb_train.network.neighbours import BURIAL, EDGE, Neighbours

MEANS = ("mean", "column", "contact", "column-contact")
"""Readouts of the map that a state is read from, in the order of their channels."""


class States(NamedTuple):
    """What the network computes about single residues.

    Parameters
    ----------
    structure : Tensor, float32, shape (B, L, H)
        State before residue types are known: a function of coordinates and residue indices.
    state : Tensor, float32, shape (B, L, H)
        Single representation after the last block, layer-normalised.
    """

    structure: Tensor
    state: Tensor


def four_means(pair_BCLL: Tensor, coords_BL3: Tensor) -> Tensor:
    """Return the four means of whole pair maps beside each other, shape (B, L, 4 C)."""
    readouts = mean_readouts(pair_BCLL, coords_BL3)
    return torch.cat([readouts[name] for name in MEANS], dim=1).transpose(1, 2)


class Read(nn.Module):
    """An update of the state: a perceptron of the layer-normalised means and of what is known already."""

    def __init__(self, channels: int, known: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(4 * channels)
        self.into = nn.Linear(4 * channels + known, 2 * hidden)
        self.out = nn.Linear(2 * hidden, hidden)

    def silence(self) -> None:
        """Start without influence: the update is zero."""
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, means_BLM: Tensor, known_BLF: Tensor) -> Tensor:
        hidden = F.relu(self.into(torch.cat([self.norm(means_BLM), known_BLF], dim=-1)))
        update: Tensor = self.out(hidden)
        return update


class WriteBack(nn.Module):
    """ReLU(x + A s_i + B s_j): the state of a residue added to its row and to its column of the map."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(hidden)
        self.row = nn.Linear(hidden, channels, bias=False)
        self.column = nn.Linear(hidden, channels, bias=False)

    def silence(self) -> None:
        """Start without influence: the map stays as it is."""
        nn.init.zeros_(self.row.weight)
        nn.init.zeros_(self.column.weight)

    def terms(self, state_BLH: Tensor, rows_R: Tensor) -> tuple[Tensor, Tensor]:
        """Return A s_i, shape (B, C, R, 1), and B s_j, shape (B, C, 1, L)."""
        state = self.norm(state_BLH)
        row = self.row(state.index_select(1, rows_R)).transpose(1, 2)[:, :, :, None]
        column = self.column(state).transpose(1, 2)[:, :, None, :]
        return row, column

    def forward(self, x_BCRL: Tensor, state_BLH: Tensor, rows_R: Tensor) -> Tensor:
        row, column = self.terms(state_BLH, rows_R)
        return F.relu(x_BCRL + row + column)


class SingleRepresentation(nn.Module):
    """The exchanges of a network between map and states, and its prediction of residue types.

    Parameters
    ----------
    channels, hidden : int
        C and H.
    exchanges : int
        How often the state is read and written back before the last blocks. Types enter at the last.
    geometry, types : int
        Features of a residue without its type, and number of types (the unknown type among them).
    messages : tuple of int
        Layers of messages between neighbours before and after residue types are known; empty for none.
    nearest : int
        Neighbours that send messages to a residue.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        exchanges: int,
        geometry: int,
        types: int,
        messages: tuple[int, ...],
        nearest: int,
    ) -> None:
        super().__init__()
        self.nearest = nearest
        before, after = messages or (0, 0)
        self.enter = nn.Linear(geometry + len(BURIAL), hidden) if messages else None
        self.before = nn.ModuleList(Messages(hidden, EDGE) for _ in range(before))
        self.after = nn.ModuleList(Messages(hidden, EDGE) for _ in range(after))
        self.reads = nn.ModuleList(
            Read(channels, geometry if k == 0 and not messages else hidden, hidden) for k in range(exchanges)
        )
        self.types = nn.Sequential(nn.Linear(hidden + types, hidden), nn.ReLU(), nn.Linear(hidden, hidden))
        self.writes = nn.ModuleList(WriteBack(channels, hidden) for _ in range(exchanges))
        self.norm = nn.LayerNorm(hidden)
        self.read_out = Read(channels, hidden, hidden)
        self.norm_out = nn.LayerNorm(hidden)
        self.norm_profile = nn.LayerNorm(hidden)
        self.profile = nn.Linear(hidden, types - 1)
        if messages:
            for write in self.writes:
                assert isinstance(write, WriteBack)
                write.silence()

    def without_map(self) -> list[nn.Module]:
        """Return the parts that are trained where the map is not computed."""
        parts = [self.before, self.after, self.types, self.norm_profile, self.profile]
        return parts if self.enter is None else [self.enter, *parts]

    def silence(self) -> None:
        """Start without influence between states and map, for those that were trained apart."""
        for module in self.modules():
            if isinstance(module, Read | WriteBack):
                module.silence()

    def first(self, geometry_BLG: Tensor, neighbours: Neighbours) -> Tensor:
        """Return the state after the messages from structure alone, before any map is read."""
        assert self.enter is not None  # a network with messages
        state: Tensor = self.enter(torch.cat([geometry_BLG, neighbours.burial_BLD], dim=-1))
        return self._through(self.before, state, neighbours)

    @staticmethod
    def _through(layers: nn.ModuleList, state_BLH: Tensor, neighbours: Neighbours) -> Tensor:
        y_LH = state_BLH.flatten(0, 1)
        for layer in layers:
            y_LH = layer(y_LH, neighbours)
        return y_LH.reshape(state_BLH.shape)

    def structure(self, k: int, means_BLM: Tensor, state_BLH: Tensor | None, geometry_BLG: Tensor) -> Tensor:
        """Return the state after reading at exchange `k`; without residue types."""
        if state_BLH is None:
            first: Tensor = self.reads[k](means_BLM, geometry_BLG)
            return first
        update: Tensor = self.reads[k](means_BLM, self.norm(state_BLH))
        return state_BLH + update

    def with_types(self, state_BLH: Tensor, type_BLT: Tensor, neighbours: Neighbours | None = None) -> Tensor:
        """Return the state with the residue's type known, and with messages that of its neighbours."""
        update: Tensor = self.types(torch.cat([self.norm(state_BLH), type_BLT], dim=-1))
        state_BLH = state_BLH + update
        return state_BLH if neighbours is None else self._through(self.after, state_BLH, neighbours)

    def last(self, means_BLM: Tensor, state_BLH: Tensor) -> Tensor:
        """Return the single representation from the means of the last map."""
        update: Tensor = self.read_out(means_BLM, self.norm(state_BLH))
        normalised: Tensor = self.norm_out(state_BLH + update)
        return normalised

    def log_profile(self, structure_BLH: Tensor) -> Tensor:
        """Return log probabilities of the residue types from the structure alone, shape (B, L, 20)."""
        return torch.log_softmax(self.profile(self.norm_profile(structure_BLH)), dim=-1)
