"""Parts of a graph: what is left out, equal results, and graphs that cannot be divided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from protemb_sdk import Chain, Embedder
from protemb_sdk._model.batches import feeds_of
from protemb_sdk._model.models import find_model
from protemb_sdk._model.parts import MOST, PartSessions
from protemb_sdk._model.subgraph import Parts

OUTPUTS = ("residue", "protein", "profile", "pair", "strip_means_0", "strip_means_2")


def loaded(content: bytes) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def content(states_path: Path) -> bytes:
    return states_path.read_bytes()


def nodes_of(content: bytes) -> list[onnx.NodeProto]:
    return list(onnx.load_from_string(content).graph.node)


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_part_gives_the_same_result_from_fewer_operators(
    content: bytes, chain_1a8o: Chain, output: str
) -> None:
    feeds = feeds_of(chain_1a8o)
    parts = Parts(content)
    assert parts.spares([output])
    part = parts.of(list(feeds), [output])
    assert len(nodes_of(part)) < len(nodes_of(content))
    session = loaded(part)
    assert {value.name for value in session.get_inputs()} <= set(feeds)
    assert [value.name for value in session.get_outputs()] == [output]
    taken = {value.name: feeds[value.name] for value in session.get_inputs()}
    (wanted,), (found,) = loaded(content).run([output], feeds), session.run([output], taken)
    np.testing.assert_allclose(found, wanted, atol=1e-6 * np.abs(wanted).max())


def test_all_outputs_need_the_whole_graph(content: bytes) -> None:
    graph = onnx.load_from_string(content).graph
    assert not Parts(content).spares([value.name for value in graph.output])


def test_every_operator_that_is_executed_is_needed(content: bytes, chain_1a8o: Chain, tmp_path: Path) -> None:
    """ONNX Runtime executes every operator of a graph: those of other outputs must not be in it."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    executed = {}
    feeds = feeds_of(chain_1a8o)
    for name, graph in (("whole", content), ("part", Parts(content).of(list(feeds), ["residue"]))):
        session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        session.run(["residue"], feeds)
        events = json.loads(Path(session.end_profiling()).read_text())
        executed[name] = {e["args"]["op_name"] for e in events if e["name"].endswith("_kernel_time")}
    assert "LogSoftmax" in executed["whole"] - executed["part"]  # of the profile
    assert "Conv" in executed["part"]


def test_one_session_keeps_memory_and_the_ones_used_last_are_kept(content: bytes) -> None:
    sessions = PartSessions(Parts(content), loaded)
    inputs = ("ca_coords", "residue_type", "residue_index")
    first, keeps = sessions.of(inputs, ["residue", "protein"])
    assert keeps
    other, keeps = sessions.of(inputs, ["profile"])
    assert not keeps
    assert sessions.of(inputs, ["residue", "protein"]) == (first, True)
    assert sessions.of(inputs, ["profile"]) == (other, False)
    assert sessions.of(inputs, ["profile"]) == (other, True)  # twice in a row: now it is the usual one
    again, keeps = sessions.of(inputs, ["residue", "protein"])
    assert again is not first and not keeps
    for output in OUTPUTS:
        sessions.of(inputs, [output])
    assert len(sessions._sessions) == MOST


def test_options_of_the_caller_are_for_one_session(states_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    assert Embedder(states_path, "cpu")._session._parts is not None
    assert Embedder(states_path, "cpu", session_options=options)._session._parts is None
    assert Embedder("base-1", "cpu")._session._parts is None  # everything is needed for its residues


@pytest.mark.parametrize("model", ["states", "base", "base-int8"])
@pytest.mark.parametrize("output", ["strip_means_1", "pair"])
def test_what_does_not_depend_on_the_strip_is_computed_once(
    states_path: Path, chain_1a8o: Chain, model: str, output: str
) -> None:
    content = (states_path if model == "states" else find_model(model).path).read_bytes()
    session = loaded(content)
    feeds: dict[str, Any] = {**feeds_of(chain_1a8o), "halo": np.array(30)}
    for k in range(sum(value.name.startswith("strip_means_") for value in session.get_outputs()) - 1):
        (feeds[f"means_{k}"],) = session.run([f"strip_means_{k}"], feeds)
    parts = Parts(content)
    split = PartSessions(parts, loaded).split([*feeds, "rows"], ["rows"], [output])
    assert split is not None and "rows" in split.reads_again and "rows" not in split.reads_once
    shared = split.once.run(list(split.shared), {name: feeds[name] for name in split.reads_once})
    given = dict(zip(split.shared, shared, strict=True))
    given |= {name: feeds[name] for name in split.reads_again if name in feeds}
    for rows in (np.array([0, 9]), np.array([30, 70])):
        (wanted,) = session.run([output], {**feeds, "rows": rows})
        (found,) = split.again.run([output], {**given, "rows": rows})
        np.testing.assert_allclose(found, wanted, atol=1e-5 * np.abs(wanted).max())
    divided = parts.split([*feeds, "rows"], ["rows"], [output])
    assert divided is not None
    types = {value.name: value.type for value in split.once.get_outputs()}
    once, again = (
        {node.op_type for node in nodes_of(graph)}
        for graph in (parts.fixed(divided), parts.changing(divided, types))
    )
    # Neighbours, messages and states in one part, the map in the other.
    assert {"TopK", "Gemm"} <= once and not once & {"Conv", "QLinearConv"}
    assert "TopK" not in again and "LayerNormalization" not in again and again & {"Conv", "QLinearConv"}


def small_graph(nested: bool) -> bytes:
    value = helper.make_tensor_value_info
    node = helper.make_node
    nodes = [node("Relu", ["x"], ["a"]), node("Exp", ["a"], ["b"]), node("Neg", ["x"], ["c"])]
    if nested:
        branches = {
            f"{name}_branch": helper.make_graph(
                [node(kind, ["a"], [name])], name, [], [value(name, TensorProto.FLOAT, ["n"])]
            )
            for name, kind in (("then", "Sin"), ("else", "Cos"))
        }
        nodes.append(node("If", ["yes"], ["d"], **branches))
    inputs = [value("x", TensorProto.FLOAT, ["n"]), *([value("yes", TensorProto.BOOL, [])] if nested else [])]
    outputs = [value(name, TensorProto.FLOAT, ["n"]) for name in ("b", "c", *(["d"] if nested else []))]
    graph = helper.make_graph(nodes, "graph", inputs, outputs)
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10
    ).SerializeToString()


def test_a_graph_within_an_operator_keeps_all_operators() -> None:
    assert Parts(small_graph(nested=False)).spares(["b"])
    parts = Parts(small_graph(nested=True))
    assert not parts.spares(["b"]) and parts.split(["x", "yes"], ["yes"], ["d"]) is None
    assert len(nodes_of(parts.of(["x", "yes"], ["b"]))) == 4


def test_nothing_is_split_if_all_depends_on_what_changes() -> None:
    assert Parts(small_graph(nested=False)).split(["x"], ["x"], ["b"]) is None


def test_a_required_input_that_is_left_out_is_missed(content: bytes) -> None:
    part = Parts(content).of(["ca_coords", "residue_type"], ["residue"])
    with pytest.raises(Exception, match="residue_index"):  # it has no default
        loaded(part)


def test_other_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"protocol buffer|cut off"):
        Parts(b"\xff\xff")
