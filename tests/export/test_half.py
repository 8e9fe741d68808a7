"""Blocks in float16, and what ONNX Runtime fuses."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest

from protemb_export import pack
from protemb_export.errors import ExportError
from protemb_export.page import as_page, read_card
from protemb_sdk._model.models import find_model
from protemb_train.network.checkpoint import load_network

RESULTS = Path(__file__).parents[2] / "train" / "results"


@pytest.mark.parametrize(("model", "additions", "perceptrons"), [("base-1", 8, 0), ("base", 9, 3)])
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


def test_blocks_in_float16_are_similar_and_other_checkpoints_refused(chains, tmp_path):
    network, _ = load_network(RESULTS / "base-1.ckpt")
    out = tmp_path / "half.onnx"
    alike = pack.pack_half(network, find_model("base-1"), out, chains[:3])
    assert min(alike.protein_least, alike.residue_least) > 0.99999
    card = read_card(out)
    assert card["quantised"][
        "blocks"
    ] == "float16" and "in float16; otherwise the network of base" in as_page(card)
    of_blocks = [t for t in onnx.load(out).graph.initializer if t.name.startswith("blocks.")]
    assert len(of_blocks) >= 24 and {t.data_type for t in of_blocks} == {onnx.TensorProto.FLOAT16}
    with pytest.raises(ExportError, match="is not the graph of that checkpoint"):
        pack.pack_half(network, find_model("small-1"), tmp_path / "no.onnx", chains[:1])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["half.onnx"]
