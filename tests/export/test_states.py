"""Contract 2: comparison of the exported file with PyTorch; float16 and no convolutions."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from protemb_export.card import weights_sha256
from protemb_export.errors import ExportError
from protemb_export.page import as_page, read_card
from protemb_export.products import as_products
from protemb_export.states import StatesNetwork
from protemb_export.states_graph import states_graph
from protemb_export.vectors import read_vectors, vectors_of_graph
from protemb_export.verify import TOLERANCE, measure_parity, measure_score_parity, torch_levels
from protemb_sdk import Chain, Embedder
from protemb_sdk._model.batches import feeds_of
from protemb_sdk._model.models import GraphInfo
from protemb_train.base.arrays import ArrayFileError
from protemb_train.network.config import ConfigError
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE_1
from protemb_train.network.protein import DISTANCES, PARTS
from protemb_train.network.vectors import CONTENTS, ChainVectors

from ..make_states import PROTEIN, SIGMA, states_network

LEVELS = ("pair", "residue", "protein", "profile")


@pytest.fixture(scope="module")
def states(states_path):
    network, vectors = states_network()
    return network, vectors, Embedder(states_path, "cpu", threads=1)


@pytest.fixture(scope="module")
def graph(states_path) -> onnx.ModelProto:
    return onnx.load(states_path)


def session_of(graph):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def deviation(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


def test_the_test_model_is_that_of_the_script(states, states_path):
    network, vectors, embedder = states
    card = embedder.card
    assert card["weights_sha256"] == weights_sha256(network)
    again = vectors_of_graph(onnx.load(states_path), card, network)
    for name in ("matrix", "bias"):
        assert torch.equal(getattr(again, name), getattr(vectors, name))
    assert again.contents == vectors.contents == CONTENTS


def test_all_levels_equal_pytorch_on_real_and_very_short_chains(states, chains):
    network, vectors, embedder = states
    parity = measure_parity(network, embedder, chains, vectors)
    assert parity.worst < TOLERANCE and parity.profile is not None and parity.shortest == 1
    assert measure_score_parity(network, embedder, chains) < TOLERANCE


def test_the_card_contains_widths_contents_and_halos(states, states_path):
    card = read_card(states_path)
    assert card["contract"] == "2.0"
    assert card["widths"] == {"pair": 8, "residue": 12 + 32 + 11, "protein": PROTEIN}
    assert card["radii"] == [1, 3, 4] and card["radius"] == 4
    assert card["residue"] == list(CONTENTS) and len(card["protein"]["map_sha256"]) == 64
    assert card["parity"]["profile"] < TOLERANCE and len(card["golden"]["protein"]) == PROTEIN
    page = as_page(card)
    assert "| residue embedding | state, mean, column, contact, column-contact, surroundings |" in page
    assert (
        "| widths | pair 8, residue 55, protein 16 |" in page
        and "| additional rows per strip | 1, 3, 4 |" in page
    )


def test_inputs_and_outputs_follow_the_contract(graph):
    def axes(value):
        return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]

    inputs = {value.name: axes(value) for value in graph.graph.input}
    assert list(inputs) == [
        "ca_coords", "residue_type", "residue_index", "rows", "halo", "means_0", "means_1", "means_2",
    ]  # fmt: skip
    assert inputs["ca_coords"] == ["batch", "length", 3] and inputs["rows"] == [2] and inputs["halo"] == []
    outputs = {value.name: axes(value) for value in graph.graph.output}
    assert outputs == {
        "pair": ["batch", 8, "rows", "length"],
        "residue": ["batch", "length", 55],
        "protein": ["batch", PROTEIN],
        "profile": ["batch", "length", 20],
        **{f"strip_means_{k}": ["batch", "length", 33] for k in range(3)},
    }
    assert len(graph.graph.sparse_initializer) == 0
    assert not {node.op_type for node in graph.graph.node} & {"If", "Loop", "Scan"}


def test_strips_with_a_sufficient_halo_equal_the_whole_map(graph, chains):
    """The graph is run directly in ONNX Runtime, as in other programming languages."""
    session, feeds = session_of(graph), feeds_of(chains[3])
    length = len(chains[3])
    whole = dict(zip(LEVELS, session.run([name for name in LEVELS], feeds), strict=True))
    borders = [0, 1, 20, 21, length - 1, length]
    for radii in ((1, 3, 4), (None, None, None)):
        means = {}
        for k, radius in enumerate(radii):
            halo = {} if radius is None else {"halo": np.array(radius)}
            strips = [
                session.run([f"strip_means_{k}", "pair"], {**feeds, **means, **halo, "rows": np.array(rows)})
                for rows in zip(borders[:-1], borders[1:], strict=True)
            ]
            means[f"means_{k}"] = sum(part for part, _ in strips)
        pair = np.concatenate([pair for _, pair in strips], axis=2)
        assert deviation(pair, whole["pair"]) < 1e-5
        one = {"rows": np.array([0, 1]), "halo": np.array(0)}
        found = session.run(list(LEVELS[1:]), {**feeds, **means, **one})
        for name, array in zip(LEVELS[1:], found, strict=True):
            assert deviation(array, whole[name]) < 1e-5, name


def test_rows_outside_the_chain_and_negative_halos_are_ignored(graph, chains):
    session, feeds = session_of(graph), feeds_of(chains[3])
    (whole,) = session.run(["residue"], feeds)
    (same,) = session.run(["residue"], feeds | {"rows": np.array([-5, 2**40]), "halo": np.array(-3)})
    np.testing.assert_array_equal(whole, same)


def test_means_of_strips_add_up_to_those_of_the_whole_map(states, chains):
    """In the PyTorch network that is exported, rows contribute to the means once, the halo not at all."""
    network, vectors, _ = states
    folded = StatesNetwork(network, SIGMA, vectors)
    coords, types, index = (torch.from_numpy(x) for x in feeds_of(chains[3]).values())
    length = coords.shape[1]
    used = [torch.ones(1, length, 33) for _ in range(3)]

    def run(first, past, low, high):
        borders = torch.tensor([first]), torch.tensor([past])
        return folded(coords, types, index, torch.arange(low, high), *borders, *used)

    whole = run(0, length, 0, length)
    parts = [run(0, 30, 0, 40), run(30, length, 20, length)]
    for k in range(3, 6):
        assert torch.allclose(parts[0][k] + parts[1][k], whole[k], atol=1e-4)
        assert not parts[0][k][:, 30:, :8].any() and not parts[1][k][:, :30, :8].any()


def test_the_graph_without_convolutions_gives_equal_results(graph, chains):
    products = as_products(graph)
    assert not {node.op_type for node in products.graph.node} & {"Conv", "Identity"}
    one, other = session_of(graph), session_of(products)
    for chain in chains[2:]:
        feeds = feeds_of(chain)
        names = [*LEVELS, "strip_means_1"]
        for a, b in zip(one.run(names, feeds), other.run(names, feeds), strict=True):
            assert deviation(b, a) < 2e-5
        rows = feeds | {"rows": np.array([1, 9])}
        (a,), (b,) = one.run(["strip_means_0"], rows), other.run(["strip_means_0"], rows)
        assert deviation(b, a) < 2e-5


def test_blocks_in_float16_give_similar_results(states, chains, tmp_path):
    network, vectors, exact = states
    card = {"protemb.contract": "2.0", "protemb.card": json.dumps(exact.card)}
    half = as_products(states_graph(network, SIGMA, card, vectors, half=True, padded=True))
    onnx.save(half, tmp_path / "half.onnx")
    of_blocks = [t for t in half.graph.initializer if t.name.startswith("segments.")]
    assert of_blocks and {t.data_type for t in of_blocks} == {onnx.TensorProto.FLOAT16}
    embedder = Embedder(tmp_path / "half.onnx", "cpu")
    short = Chain.from_arrays(chains[3].ca_coords[:65], chains[3].sequence[:65])  # of 70: both padded to 96
    together = embedder.embed_batch([short, chains[3]], pair=True, profile=True)
    for chain, padded in zip((short, chains[3]), together, strict=True):
        wanted, alone = (e.embed_chain(chain, pair=True, profile=True) for e in (exact, embedder))
        for level in LEVELS:
            assert deviation(getattr(alone, level), getattr(wanted, level)) < 0.02, level
            assert deviation(getattr(padded, level), getattr(wanted, level)) < 0.02, level


def test_contents_and_map_can_be_chosen(tmp_path, states, chains):
    network, _, _ = states
    matrix = np.random.default_rng(0).normal(size=(PARTS * 12 + DISTANCES, 5))
    np.savez(tmp_path / "map.npz", matrix=matrix)
    vectors = read_vectors(network, tmp_path / "map.npz", "structure, mean")
    assert (vectors.residue_width, vectors.protein_width) == (12 + 8, 5) and vectors.bias is None
    levels = torch_levels(network, chains[3], SIGMA, vectors)
    assert levels["residue"].shape == (len(chains[3]), 20) and levels["protein"].shape == (5,)
    plain = read_vectors(network, None, None)
    assert plain.contents == CONTENTS and plain.protein_width == 12
    assert np.linalg.norm(torch_levels(network, chains[3], SIGMA, plain)["protein"]) == pytest.approx(1)


def test_invalid_contents_and_maps_are_refused(tmp_path, states):
    network, _, _ = states
    with pytest.raises(ConfigError, match="consists of different ones of state, structure, mean"):
        read_vectors(network, None, "state,state")
    with pytest.raises(ConfigError, match="consists of different ones of"):
        read_vectors(network, None, "middle")
    np.savez(tmp_path / "narrow.npz", matrix=np.zeros((7, 3)))
    with pytest.raises(ConfigError, match=r"has shape \(7, 3\); this network needs \(115, any width\)"):
        read_vectors(network, tmp_path / "narrow.npz", None)
    np.savez(tmp_path / "bias.npz", matrix=np.zeros((115, 3)), bias=np.zeros(4))
    with pytest.raises(ConfigError, match=r"bias of the protein vector has shape \(4,\)"):
        read_vectors(network, tmp_path / "bias.npz", None)
    np.savez(tmp_path / "nan.npz", matrix=np.full((115, 3), np.nan))
    with pytest.raises(ArrayFileError, match="its matrix must contain finite numbers"):
        read_vectors(network, tmp_path / "nan.npz", None)
    old = ScoreNetwork(replace(BASE_1, dilations=(1,))).eval()
    assert read_vectors(old, None, None) is None
    with pytest.raises(ExportError, match="require a network with a single representation"):
        read_vectors(old, None, "state")


def test_a_card_without_exchanges_is_refused(states, states_path):
    from protemb_sdk._base.errors import ModelError
    from protemb_sdk._model.models import read_graph_info

    fields = {field.key: field.value for field in onnx.load(states_path).metadata_props}
    info = read_graph_info("embedding", fields, "0" * 64, states_path)
    assert isinstance(info, GraphInfo) and info.radii == (1, 3, 4) and info.radius == 4
    broken = fields | {"protemb.card": fields["protemb.card"].replace('"radii": [1, 3, 4]', '"radii": [4]')}
    with pytest.raises(ModelError, match="radii must be of an exchange and of the pair map"):
        read_graph_info("embedding", broken, "0" * 64, states_path)


def test_a_bias_without_a_matrix_is_refused():
    with pytest.raises(ConfigError, match="bias"):
        ChainVectors(8, 12, bias=torch.zeros(3))
