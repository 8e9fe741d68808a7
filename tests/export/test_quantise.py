"""Blocks in 8-bit integers and in float16: similarity, strips, and graphs that are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from protemb_export import pack
from protemb_export.errors import ExportError, ParityError
from protemb_export.graph import embedding_graph
from protemb_export.page import as_page, read_card
from protemb_export.quantise import Int8Blocks
from protemb_sdk import Embedder
from protemb_sdk._model.batches import feeds_of
from protemb_sdk._model.models import find_model
from protemb_train.network.checkpoint import load_network
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE_1

RESULTS = Path(__file__).parents[2] / "train" / "results"


@pytest.fixture(scope="module")
def quantised(chains, tmp_path_factory):
    out = tmp_path_factory.mktemp("int8") / "base-int8.onnx"
    long = [chain for chain in chains if len(chain) > 20]
    return out, pack.pack_int8(find_model("base-1"), out, long, long)


def test_embeddings_are_similar_and_the_card_records_the_cosine(quantised):
    out, alike = quantised
    assert min(alike.protein_least, alike.residue_least) > 0.999
    card = Embedder(out, "cpu").card
    assert card["quantised"]["from"] == "base" and card["quantised"]["cosine_to_float32"] == alike.as_dict()
    assert card["weights_sha256"] == Embedder("base-1", "cpu").card["weights_sha256"]
    assert "parity" not in card


def test_strips_are_exactly_equal(quantised, chains):
    out, _ = quantised
    whole, strips = Embedder(out, "cpu"), Embedder(out, "cpu", memory_limit=1)
    for chain in chains:
        np.testing.assert_array_equal(
            whole.embed_chain(chain, pair=True).pair, strips.embed_chain(chain, pair=True).pair
        )


def test_every_convolution_of_the_blocks_is_in_int8(quantised):
    kinds = [node.op_type for node in onnx.load(quantised[0]).graph.node]
    exact = [node.op_type for node in onnx.load(find_model("base-1").path).graph.node]
    # The stem has two convolutions; one of them is the identity and is removed.
    assert kinds.count("Conv") == 1 and kinds.count("QLinearConv") == exact.count("Conv") - 2
    assert kinds.count("Relu") == 0


def test_a_model_that_differs_from_float32_is_not_written(chains, tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "LEAST_COSINE", 1.0)
    with pytest.raises(ParityError, match=r"in 8-bit integers the embeddings of .* have a mean cosine"):
        pack.pack_int8(find_model("base-1"), tmp_path / "x.onnx", chains[-1:], chains[-1:])
    assert not list(tmp_path.iterdir())


def test_other_graphs_and_empty_sets_are_refused(quantised, chains):
    for model in (find_model("paper-c100").path, quantised[0]):
        with pytest.raises(ExportError, match="only graphs of float32 networks of the family base"):
            Int8Blocks(onnx.load(model))
    with pytest.raises(ExportError, match="no chain to calibrate on"):
        Int8Blocks(onnx.load(find_model("base-1").path)).ranges([])


def test_an_untrained_network_can_be_quantised(chains):
    untrained = ScoreNetwork(BASE_1).eval()  # the biases are zero and not in the graph
    blocks = Int8Blocks(embedding_graph(untrained, 1.0, {}))
    made = blocks.quantised(blocks.ranges(map(feeds_of, chains[:2])))
    assert sum(node.op_type == "QLinearConv" for node in made.graph.node) == 3 * len(BASE_1.dilations)


@pytest.mark.parametrize(("model", "additions", "perceptrons"), [("base-1", 8, 0), ("base", 9, 9)])
def test_onnx_runtime_fuses_additions_with_convolutions(tmp_path, model, additions, perceptrons):
    """Maps keep the NCHWc layout, and additions and ReLU of the blocks are fused with convolutions."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    onnxruntime.InferenceSession(find_model(model).path, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimised.onnx").graph.node
    if not any(node.domain == "com.microsoft.nchwc" for node in nodes):
        pytest.skip("ONNX Runtime keeps no blocks of channels on this processor")
    kinds = [node.op_type for node in nodes]
    sums = [node for node in nodes if node.domain == "com.microsoft.nchwc" and len(node.input) == 4]
    assert len(sums) == additions  # one per block, and that of the exchange
    assert kinds.count("Relu") == perceptrons  # those of residues
    assert kinds.count("ReorderInput") <= 2 and kinds.count("ReorderOutput") <= 2


def test_the_page_describes_the_comparison(quantised):
    page = as_page(read_card(quantised[0]))
    assert "made from the graph of base" in page and "cosine to float32" in page
    assert "deviation from PyTorch" not in page


def test_blocks_in_float16_are_similar_and_other_checkpoints_refused(chains, tmp_path):
    network, _ = load_network(RESULTS / "base-1.ckpt")
    out = tmp_path / "half.onnx"
    alike = pack.pack_half(network, find_model("base-1"), out, chains[:3])
    assert min(alike.protein_least, alike.residue_least) > 0.99999
    card = read_card(out)
    assert card["quantised"]["blocks"] == "float16" and "in float16, made from the graph of base" in as_page(
        card
    )
    of_blocks = [t for t in onnx.load(out).graph.initializer if t.name.startswith("blocks.")]
    assert len(of_blocks) >= 24 and {t.data_type for t in of_blocks} == {onnx.TensorProto.FLOAT16}
    with pytest.raises(ExportError, match="is not the graph of that checkpoint"):
        pack.pack_half(network, find_model("small-1"), tmp_path / "no.onnx", chains[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.onnx"]
