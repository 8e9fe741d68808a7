"""The module of a quality scorer: the calibrated mean of trained networks of one or several kinds.

Shapes: L residues, K readouts, C their channels, E = K C, H networks.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_linear_bn_eval

from protemb_train.downstream.common.calibration import calibration_features
from protemb_train.downstream.common.neighbour_graph import Graph, neighbour_graph
from protemb_train.downstream.quality.calibration import LIMIT, Weights
from protemb_train.downstream.quality.compatibility import (
    PROFILE,
    CompatibilityHead,
    compatibility_features,
    whole_features,
)
from protemb_train.downstream.quality.decoys import GLOBAL, LOCAL
from protemb_train.downstream.quality.graphqa import GraphQA, Layer
from protemb_train.downstream.quality.graphs import edges_in, geometry_of
from protemb_train.downstream.quality.head import QualityHead
from protemb_train.downstream.quality.naming import Namer, single
from protemb_train.network.checkpoint import round_weights

QualityNetwork = QualityHead | GraphQA | CompatibilityHead


def smoothed(values_LQ: Tensor) -> Tensor:
    """Return means of each residue (half of the weight) and its neighbours in the chain (a quarter each).

    Errors of neighbours in the chain are alike. The rank correlation with the lDDT in a model is
    higher by .005 to .011 on three sets of validation models; with wider means it is not.
    """
    before_LQ = torch.cat([values_LQ[:1], values_LQ[:-1]])
    after_LQ = torch.cat([values_LQ[1:], values_LQ[-1:]])
    return (before_LQ + 2 * values_LQ + after_LQ) / 4


@dataclass(frozen=True, slots=True, eq=False)
class Inputs:
    """Inputs of all networks for one model; None where no network needs them."""

    types_L: Tensor
    alone_L: Tensor
    graph: Graph | None
    names_LF: Tensor | None
    edges_2E: Tensor | None
    geometry_E4: Tensor | None
    compatible_LF: Tensor | None
    whole_1W: Tensor | None


class QualityModel(nn.Module):
    """Expected lDDT of residues, and lDDT and GDT_TS of the chain: the calibrated mean of several networks.

    Values of residues are `smoothed`.

    Parameters
    ----------
    heads : sequence of QualityHead, GraphQA or CompatibilityHead
        GraphQA without embeddings of pairs.
    means, spreads : sequence of Tensor, shape (E,)
        Mean and standard deviation of the readouts for each network; not used if it has no embedding.
    namer : Namer, optional
        The namer that all networks were trained with.
    weights : list of tuple of float, optional
        Calibration, of `fit_calibration`; none by default.
    shares : sequence of float, optional
        Weight of each network in the mean; equal by default.
    """

    mean_HE: Tensor
    spread_HE: Tensor
    weights_34: Tensor
    share_H: Tensor

    def __init__(
        self,
        heads: Sequence[QualityNetwork],
        means: Sequence[Tensor],
        spreads: Sequence[Tensor],
        namer: Namer | None = None,
        weights: Weights | None = None,
        shares: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.namer = namer
        for head in heads:
            if not isinstance(head, CompatibilityHead):
                head.namer = None  # stored once, in this module
        self.heads = nn.ModuleList(heads)
        self.register_buffer("mean_HE", torch.stack(list(means)))
        self.register_buffer("spread_HE", torch.stack(list(spreads)))
        self.register_buffer("weights_34", torch.tensor(weights or [(1.0, 0.0, 0.0, 0.0)] * 3))
        self.register_buffer("share_H", torch.tensor(shares or [1 / len(heads)] * len(heads)))

    def forward(
        self, features_LKC: Tensor, residue_type_L: Tensor, ca_coords_L3: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return lDDT of residues (L,), lDDT () and GDT_TS ().

        Parameters
        ----------
        features_LKC : Tensor, float32, shape (L, K, C)
            Residue readouts in the order used in training.
        residue_type_L : Tensor, int64, shape (L,)
            Positions in `ALPHABET`.
        ca_coords_L3 : Tensor, float32, shape (L, 3)
            C-alpha coordinates in angstrom, centred.
        """
        flat_LE = features_LKC.flatten(1)
        inputs = self._inputs(flat_LE, residue_type_L, ca_coords_L3)
        values = []
        for head, mean_E, spread_E in zip(self.heads, self.mean_HE, self.spread_HE, strict=True):
            scaled_LE = (flat_LE - mean_E) / spread_E
            values.append(_scores(cast(QualityNetwork, head), scaled_LE, inputs))
        residues_HL = torch.stack([local[:, LOCAL.index("lddt")] for local, _ in values])
        whole_H5 = torch.stack([whole for _, whole in values])
        whole = self.share_H @ whole_H5
        length = torch.ones_like(flat_LE[:, 0]).sum()
        return (
            self._calibrated(smoothed(self.share_H @ residues_HL), length, 0),
            self._calibrated(whole[GLOBAL.index("lddt")], length, 1),
            self._calibrated(whole[GLOBAL.index("gdt_ts")], length, 2),
        )

    def _inputs(self, flat_LE: Tensor, types_L: Tensor, coords_L3: Tensor) -> Inputs:
        kinds = {type(head) for head in self.heads}
        graph = names_LF = edges_2E = geometry_E4 = compatible_LF = whole_1W = None
        if QualityHead in kinds or self.namer is not None:
            graph = single(neighbour_graph(coords_L3))
            names_LF = None if self.namer is None else self.namer.features(types_L, graph)
        if GraphQA in kinds:
            edges_2E = edges_in(coords_L3)
            if torch.compiler.is_exporting():
                # A single residue has no edges, which ONNX Runtime supports.
                torch._check(edges_2E.shape[1] > 0)  # type: ignore[no-untyped-call]
            geometry_E4 = geometry_of(coords_L3, edges_2E)
        if CompatibilityHead in kinds:
            compatible_LF = compatibility_features(flat_LE[:, :PROFILE], types_L, coords_L3)
            whole_1W = whole_features(coords_L3)
        alone_L = torch.zeros_like(types_L)
        return Inputs(types_L, alone_L, graph, names_LF, edges_2E, geometry_E4, compatible_LF, whole_1W)

    def _calibrated(self, value: Tensor, length: Tensor, output: int) -> Tensor:
        features = calibration_features(torch.logit(value.clamp(LIMIT, 1 - LIMIT)), length)
        weights = self.weights_34[output]
        return torch.sigmoid(features @ weights[:-1] + weights[-1])


def for_export(model: QualityModel) -> QualityModel:
    """Return a copy with batch normalisation folded into the linear layers before it, rounded to float16.

    An exporter folds them, too, but the result could not be stored as float16 without loss.
    """
    model = copy.deepcopy(model).eval()
    for head in model.heads:
        if isinstance(head, GraphQA):
            for layer in cast(Iterable[Layer], head.layers):
                layer.to_whole = _folded(layer.to_whole, layer.after_whole)
                if layer.whole_node is None:  # otherwise a sum is normalised
                    layer.to_node = _folded(layer.to_node, layer.after_node)
    round_weights(model)
    return model


def _folded(linear: nn.Linear, after: nn.Sequential) -> nn.Linear:
    place = next(n for n, module in enumerate(after) if isinstance(module, nn.BatchNorm1d))
    norm = cast(nn.BatchNorm1d, after[place])
    after[place] = nn.Identity()
    return fuse_linear_bn_eval(linear, norm)


def _scores(head: QualityNetwork, scaled_LE: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
    """Return scores of residues (L, 2) and of the model (5,) by one network."""
    if isinstance(head, CompatibilityHead):
        assert inputs.compatible_LF is not None and inputs.whole_1W is not None
        further_LE = scaled_LE[:, PROFILE:]
        local_L2, whole_15 = head.scores(inputs.compatible_LF, inputs.whole_1W, further_LE, inputs.alone_L, 1)
        return local_L2, whole_15[0]
    if isinstance(head, GraphQA):
        assert inputs.edges_2E is not None and inputs.geometry_E4 is not None
        local_L2, whole_15 = head.scores(
            inputs.types_L,
            inputs.edges_2E,
            inputs.geometry_E4,
            inputs.names_LF,
            scaled_LE if head.config.node_embedding else None,
            None,
            inputs.alone_L,
            1,
        )
        return local_L2, whole_15[0]
    assert inputs.graph is not None
    y_LH, local_L2 = head.residues(inputs.types_L, scaled_LE, inputs.graph, inputs.names_LF)
    mean, square, local = (v.mean(dim=0, keepdim=True) for v in (y_LH, y_LH.square(), local_L2))
    count_11 = torch.ones_like(scaled_LE[:, :1]).sum(dim=0, keepdim=True)
    return local_L2, head.whole(mean, square, local, count_11)[0]
