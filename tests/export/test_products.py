"""The graph for GPUs has no convolutions and gives the results of the graph that it is made from."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import onnx
import onnxruntime
import pytest

from protemb_export.errors import ExportError
from protemb_export.pack import pack_gpu
from protemb_export.products import as_products
from protemb_sdk import Embedder, read_chain
from protemb_sdk._base.errors import ModelError
from protemb_sdk._model.models import beside, check_equal, find_model, read_graph_info
from protemb_sdk._model.session import Graph, Session


def feeds(chain_of, length, count):
    made = [chain_of(length, seed) for seed in range(count)]
    return {
        "ca_coords": np.stack([coords for coords, _ in made]).astype(np.float32),
        "residue_type": np.stack([np.arange(length) % 21 for _ in made]),
        "residue_index": np.stack([np.arange(length) for _ in made]),
    }


def run(model, inputs):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(["pair", "residue", "protein"], inputs)


def random_walk(length, seed):
    rng = np.random.default_rng(seed)
    return np.cumsum(rng.normal(size=(length, 3)) * 2.2, axis=0), "A" * length


@pytest.mark.parametrize("name", ["base-1", "small-1", "paper-c30"])
@pytest.mark.parametrize(("length", "count", "rows"), [(5, 1, None), (70, 2, None), (90, 1, (20, 41))])
def test_the_graph_without_convolutions_gives_equal_results(name, length, count, rows):
    model = onnx.load(find_model(name).path)
    products = as_products(model)
    assert not {node.op_type for node in products.graph.node} & {"Conv", "Identity"}
    inputs = feeds(random_walk, length, count)
    if rows:
        inputs["rows"] = np.array(rows)
    for found, wanted in zip(run(products, inputs), run(model, inputs), strict=True):
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).max() <= 2e-6 * np.abs(wanted).max()


def test_other_convolutions_are_refused():
    model = onnx.load(find_model("base-1").path)
    wide = next(node for node in model.graph.node if node.op_type == "Conv" and len(node.input) > 2)
    next(a for a in wide.attribute if a.name == "strides").ints[:] = [2, 2]
    with pytest.raises(ExportError, match="cannot be written as a product"):
        as_products(model)


def test_bundled_graphs_for_gpus_give_the_results_of_the_models(structures):
    chain = read_chain(structures / "1a8o.pdb")
    for name in ("base", "base-1", "small", "small-1"):
        model = find_model(name)
        exact, other = Embedder(name, "cpu"), Embedder(model.gpu_path, "cpu")
        assert exact.provenance["model_sha256"] == other.provenance["model_sha256"]
        wanted, found = exact.embed_chain(chain), other.embed_chain(chain)
        assert np.abs(wanted.residue - found.residue).max() <= 1e-5 * np.abs(wanted.residue).max()
        assert other.card["convolutions"]["deviation"]["chains"] >= 50


@pytest.fixture
def twin(tmp_path, structures):
    """A model in a user's folder, with a graph for GPUs next to it."""
    path = tmp_path / "mine.onnx"
    shutil.copy(find_model("small-1").path, path)
    pack_gpu(find_model(path), [read_chain(structures / "1a8o.pdb")])
    return find_model(path)


def test_the_graph_for_gpus_is_not_used_on_the_cpu(twin):
    assert twin.gpu_path == beside(twin.path, "gpu")
    seen = []

    def read(fields, digest, path):
        seen.append(path)
        return read_graph_info("embedding", fields, digest, path)

    Session(twin, twin.path, read, "cpu", None, None, None, gpu_path=twin.gpu_path)
    assert seen == [twin.path]


def test_the_graph_for_gpus_of_another_model_is_refused(twin):
    shutil.copy(find_model("base-1").path, twin.path)
    graph = Graph.of(twin, twin.gpu_path)
    fields = {p.key: p.value for p in onnx.load(twin.gpu_path).metadata_props}
    with pytest.raises(ModelError, match="not equal to"):
        check_equal(twin, read_graph_info("embedding", fields, graph.sha256, graph.path))


def test_a_new_export_removes_the_old_graph_for_gpus(twin, structures):
    from protemb_export.pack import pack
    from protemb_train.network.network import ScoreNetwork
    from protemb_train.network.presets import PRESETS

    config = dataclasses.replace(PRESETS["base-1"][0], channels=8)
    pack(
        ScoreNetwork(config).eval(), twin.path, name="mine", sigma=1.0, record={}, licence="MIT",
        chains=[read_chain(structures / "1a8o.pdb")], score=False,
    )  # fmt: skip
    assert not twin.gpu_path.exists()
