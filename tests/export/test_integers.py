"""Pair maps in 8-bit integers: similarity, tables, strips, and networks that are refused."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from protemb_export import pack
from protemb_export.errors import ExportError, ParityError
from protemb_export.integer_states import PairTables
from protemb_export.integers import STEPS, Grid
from protemb_export.page import as_page, read_card
from protemb_export.states import StatesNetwork
from protemb_export.verify import chain_tensors
from protemb_sdk import Embedder
from protemb_sdk._model.models import find_model
from protemb_train.network.checkpoint import load_network
from protemb_train.network.features import centred
from protemb_train.network.network import ScoreNetwork

from ..make_states import CONFIG, SIGMA, states_network

RESULTS = Path(__file__).parents[2] / "train" / "results"


@pytest.fixture(scope="module")
def long(chains):
    return [chain for chain in chains if len(chain) > 20]


@pytest.fixture(scope="module")
def quantised(states_path, long, tmp_path_factory):
    out = tmp_path_factory.mktemp("int8") / "states-int8.onnx"
    return out, pack.pack_int8(states_network()[0], find_model(states_path), out, long, long)


def test_embeddings_are_similar_and_the_card_records_the_cosine(quantised, states_path):
    out, alike = quantised
    assert min(alike.protein_least, alike.residue_least) > 0.99
    card = Embedder(out, "cpu").card
    assert card["quantised"]["from"] == "states" and card["quantised"]["cosine_to_float32"] == alike.as_dict()
    assert card["weights_sha256"] == Embedder(states_path, "cpu").card["weights_sha256"]
    assert "parity" not in card


def test_the_bundled_model_is_similar_to_its_float32_graph(long):
    exact, narrow = Embedder("base", "cpu"), Embedder("base-int8", "cpu")
    for chain in long:
        wanted, found = exact.embed_chain(chain, pair=True, profile=True), narrow.embed_chain(
            chain, pair=True, profile=True
        )  # fmt: skip
        assert wanted.protein @ found.protein > 0.9999
        for level, least in (("residue", 0.999), ("pair", 0.997)):
            a, b = getattr(wanted, level).ravel(), getattr(found, level).ravel()
            assert (a @ b) / np.sqrt((a @ a) * (b @ b)) > least, level
        np.testing.assert_allclose(found.profile, wanted.profile, atol=0.01)


def test_strips_are_nearly_equal(quantised, long):
    whole, strips = (Embedder(quantised[0], "cpu", memory_limit=n) for n in (2**31, 1))
    for chain in long:
        found, again = (x.embed_chain(chain, pair=True, profile=True) for x in (whole, strips))
        for level in ("pair", "residue", "protein", "profile"):  # a rounding may change an integer
            a, b = getattr(found, level), getattr(again, level)
            assert np.abs(a - b).max() < 0.02 * np.abs(a).max(), level


def test_every_convolution_is_in_integers_and_no_map_is_transposed(quantised):
    graph = onnx.load(quantised[0]).graph
    kinds = Counter(node.op_type for node in graph.node)
    # The stem, and three convolutions in each block.
    assert kinds["Conv"] == 0 and kinds["QLinearConv"] == 1 + 3 * len(CONFIG.dilations)
    assert kinds["MatMulInteger"] == 2 * (len(CONFIG.exchanges) + 1)
    assert kinds["DequantizeLinear"] == 1  # of the output pair


@pytest.mark.parametrize("model", ["base-int8", "small-int8", "states"])
def test_every_set_of_operators_is_named_once(quantised, model):
    path = quantised[0] if model == "states" else find_model(model).path
    named = [imported.domain for imported in onnx.load(path).opset_import]
    assert sorted(named) == ["", "com.microsoft"]


def test_features_in_tables_are_those_of_the_network(long):
    network, vectors = states_network()
    stem = StatesNetwork(network, SIGMA, vectors).stem
    tables = PairTables(stem)
    coords, _, index = chain_tensors(long[0])
    coords = centred(coords)
    rows = torch.arange(index.shape[1])
    geometry = stem.padded(stem.features.geometry(coords, index))
    wanted = torch.cat(stem.features.pair(coords, index, stem.sigma, rows), dim=1).permute(0, 2, 3, 1)
    place = (coords[:, :, None] - coords[:, None]).square().sum(-1).clamp(min=1).log()
    near = tables.of_distance.float()[
        (place * 8192 / 12 + 0.5).long() + (index[:, :, None] - index[:, None]).abs().eq(1) * 8192
    ]
    width, low = tables.width[: near.shape[-1]], tables.low[: near.shape[-1]]
    found = near / STEPS * width + low
    # Half a step of the integers, and half a step of the table at the steepest slope.
    assert (found - wanted[..., : near.shape[-1]]).abs().max() < 0.02
    gaps = tables.of_gap.float()[(index[:, :, None] - index[:, None]).abs()] / STEPS
    assert (gaps - wanted[..., 35:46]).abs().max() < 0.003
    assert geometry.shape[-1] == 6 and wanted.shape[-1] == 52


def test_zero_is_an_integer_of_every_grid():
    for low, high in ((-1.0, 3.0), (0.5, 2.0), (-2.0, -1.0), (0.0, 0.0)):
        grid = Grid(low, high)
        assert 0 <= int(grid.zero) <= STEPS and float(grid.scale) > 0


def test_a_model_that_differs_from_float32_is_not_written(states_path, long, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LEAST_COSINE", 1.0)
    with pytest.raises(ParityError, match=r"in 8-bit integers the embeddings of .* have a mean cosine"):
        pack.pack_int8(
            states_network()[0], find_model(states_path), tmp_path / "x.onnx", long[-1:], long[-1:]
        )
    assert not list(tmp_path.iterdir())


def test_other_networks_and_empty_sets_are_refused(states_path, long, tmp_path):
    network = load_network(RESULTS / "base-1.ckpt")[0]
    with pytest.raises(ExportError, match="only networks with a single representation"):
        pack.pack_int8(network, find_model("base-1"), tmp_path / "x.onnx", long, long)
    with pytest.raises(ExportError, match="is not the graph of that checkpoint"):
        pack.pack_int8(network, find_model(states_path), tmp_path / "x.onnx", long, long)
    with pytest.raises(ExportError, match="no chain to calibrate on"):
        pack.pack_int8(states_network()[0], find_model(states_path), tmp_path / "x.onnx", [], long)


def test_an_untrained_network_can_be_quantised(chains):
    from protemb_export.states_graph import integer_graph
    from protemb_train.network.vectors import ChainVectors

    untrained = ScoreNetwork(CONFIG).eval()
    vectors = ChainVectors(CONFIG.channels, CONFIG.single_channels)
    made = integer_graph(untrained, 1.0, {}, vectors, map(chain_tensors, chains[-1:]))
    assert sum(node.op_type == "QLinearConv" for node in made.graph.node) == 1 + 3 * len(CONFIG.dilations)


def test_the_page_describes_the_comparison(quantised):
    page = as_page(read_card(quantised[0]))
    assert "otherwise the network of states" in page and "cosine to float32" in page
    assert "deviation from PyTorch" not in page
