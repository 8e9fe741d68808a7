"""Storage of weights as float16."""

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis.extra.numpy import array_shapes, arrays
from hypothesis.strategies import floats
from onnx import TensorProto, helper, numpy_helper

from protemb_export.storage import LEAST, as_half, load_graph, save_graph


def product(weight):
    """Return a graph that multiplies its input by a matrix."""
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "product",
        [value("x", TensorProto.FLOAT, ["L", weight.shape[0]])],
        [value("y", TensorProto.FLOAT, ["L", weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def result(path, x):
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("exact", [True, False])
def test_a_graph_gives_the_same_numbers_after_storage(exact, tmp_path):
    rng = np.random.default_rng(0)
    weight = rng.normal(size=(LEAST // 64, 64)).astype(np.float16).astype(np.float32)
    if not exact:
        weight[3, 5] = np.float32(0.1)  # has no float16
    x = rng.normal(size=(7, LEAST // 64)).astype(np.float32)
    onnx.save(product(weight), tmp_path / "plain.onnx")
    save_graph(product(weight), tmp_path / "stored.onnx")
    sizes = [(tmp_path / name).stat().st_size for name in ("stored.onnx", "plain.onnx")]
    assert sizes[0] < 0.6 * sizes[1] if exact else sizes[0] == sizes[1]
    onnx.checker.check_model(tmp_path / "stored.onnx", full_check=True)
    found, wanted = (result(tmp_path / name, x) for name in ("stored.onnx", "plain.onnx"))
    np.testing.assert_array_equal(found, wanted)
    assert load_graph(tmp_path / "stored.onnx") == product(weight)


def test_small_weights_are_stored_as_they_are(tmp_path):
    small = product(np.ones((3, 4), dtype=np.float32))
    save_graph(small, tmp_path / "small.onnx")
    assert onnx.load(tmp_path / "small.onnx") == small


@given(arrays(np.float32, array_shapes(max_dims=2), elements=floats(width=32, allow_nan=False)))
def test_half_precision_is_used_only_if_no_value_changes(values):
    half = as_half(values)
    if half is not None:
        np.testing.assert_array_equal(half.astype(np.float32), values)
    else:
        with np.errstate(over="ignore"):
            assert (values.astype(np.float16) != values).any()
