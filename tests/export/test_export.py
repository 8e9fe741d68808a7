"""Comparison of exported files in ONNX Runtime with the PyTorch networks."""

import json
import math
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from protemb_export import pack as packing
from protemb_export.errors import ExportError, ParityError
from protemb_export.graph import embedding_graph
from protemb_export.pack import check_bundled, folded_level, pack, register
from protemb_export.verify import TOLERANCE, torch_pair, torch_score
from protemb_sdk._base.errors import OutputError
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._model.models import CONTRACT, beside
from protemb_sdk._structure.chain import ALPHABET
from protemb_train.network.features import BaseFeatures
from protemb_train.network.presets import BASE_1


def session_of(exported):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(exported.path, options, providers=["CPUExecutionProvider"])


def feeds_of(*chains):
    centred = [chain.ca_coords - chain.ca_coords.mean(axis=0) for chain in chains]
    return {
        "ca_coords": np.stack(centred).astype(np.float32),
        "residue_type": np.stack([chain.residue_type for chain in chains]),
        "residue_index": np.stack([chain.residue_index for chain in chains]),
    }


def cut(feeds, length):
    return {name: value[:, :length] for name, value in feeds.items()}


def test_all_levels_equal_pytorch_on_real_chains_and_the_shortest(exported, chains):
    assert [len(chain) for chain in chains[:3]] == [1, 2, 3]
    every = [torch_pair(exported.network, chain, exported.sigma) for chain in chains]
    for chain, wanted in zip(chains, every, strict=True):
        found = exported.embedder.embed_chain(chain, pair=True)
        scale = np.abs(wanted).max()
        assert np.abs(found.pair - wanted).max() < TOLERANCE * scale
        assert np.abs(found.residue - wanted.mean(axis=1)).max() < TOLERANCE * scale
        assert np.abs(found.protein - wanted.mean(axis=(0, 1))).max() < TOLERANCE * scale
    assert exported.parity.worst < TOLERANCE
    assert (exported.parity.chains, exported.parity.shortest) == (len(chains), 1)


def test_pooling_in_the_graph_is_the_mean(exported, chains):
    pair, residue, protein = session_of(exported).run(["pair", "residue", "protein"], feeds_of(chains[3]))
    np.testing.assert_allclose(residue, pair.mean(axis=3).transpose(0, 2, 1), atol=1e-5)
    np.testing.assert_allclose(protein, residue.mean(axis=1), atol=1e-5)


def test_strips_equal_the_whole_map(small, chains):
    session, feeds = session_of(small), feeds_of(chains[3])
    length = len(chains[3])
    assert length > 2 * small.network.radius + 10
    (whole,) = session.run(["pair"], feeds)
    assert whole.shape == (1, 64, length, length)
    scale = np.abs(whole).max()
    for first, past in [
        (0, length),
        (0, 1),
        (length - 1, length),
        (5, 9),
        (0, 30),
        (30, length),
        (-4, 2**40),
    ]:
        rows = np.array([first, past])
        pair, residue, _ = session.run(["pair", "residue", "protein"], feeds | {"rows": rows})
        wanted = whole[:, :, max(first, 0) : past]
        assert pair.shape == wanted.shape
        assert np.abs(pair - wanted).max() <= 1e-6 * scale
        assert residue.shape == (1, wanted.shape[2], 64)


def test_strips_through_the_sdk_equal_the_whole(small, chains):
    narrow = Embedder(small.path, "cpu", threads=1, memory_limit=1)
    here, there = (e.embed_chain(chains[3], pair=True) for e in (small.embedder, narrow))
    np.testing.assert_allclose(here.pair, there.pair, atol=1e-5 * np.abs(here.pair).max())
    np.testing.assert_allclose(here.protein, there.protein, atol=1e-5 * np.abs(here.pair).max())


def test_a_batch_of_any_size_and_length_equals_single_chains(exported, chains):
    session = session_of(exported)
    length = min(len(chain) for chain in chains[3:])
    singles = [cut(feeds_of(chain), length) for chain in chains[3:]]
    batch = {name: np.concatenate([feeds[name] for feeds in singles]) for name in singles[0]}
    (together,) = session.run(["residue"], batch)
    alone = np.concatenate([session.run(["residue"], feeds)[0] for feeds in singles])
    assert np.abs(together - alone).max() < 1e-5 * np.abs(alone).max()


def test_padding_changes_the_embedding(preset, chains):
    session, feeds = session_of(preset), feeds_of(chains[3])
    length = len(chains[3])
    (alone,) = session.run(["residue"], feeds)
    padded = {
        "ca_coords": np.pad(feeds["ca_coords"], ((0, 0), (0, 20), (0, 0))),
        "residue_type": np.pad(feeds["residue_type"], ((0, 0), (0, 20)), constant_values=20),
        "residue_index": np.pad(feeds["residue_index"], ((0, 0), (0, 20))),
    }
    (pair,) = session.run(["pair"], padded)
    masked = pair[:, :, :length, :length].mean(axis=3).transpose(0, 2, 1)  # even if the mean is masked
    changed = np.abs(masked - alone).max(axis=2)[0] > 1e-4 * np.abs(alone).max()
    assert changed.all()


def test_the_blocks_of_base_consist_of_conv_relu_and_add(base_preset):
    graph = onnx.load(base_preset.path).graph
    made_by = {output: node for node in graph.node for output in node.output}
    first = next(node for node in graph.node if node.op_type == "Conv")
    # Nodes after the first Relu. Before it, the row term and the column term are added.
    after_stem = next(node for node in graph.node if node.op_type == "Relu")
    trunk, todo, seen = [], [made_by["map"]], set()
    while todo:
        node = todo.pop()
        if node.output[0] in seen:
            continue
        seen.add(node.output[0])
        trunk.append(node.op_type)
        if node.output[0] != after_stem.output[0]:
            todo += [made_by[name] for name in node.input if name in made_by]
    blocks = len(base_preset.network.config.dilations)
    assert {op: trunk.count(op) for op in trunk} == {
        "Conv": 3 * blocks,
        "Relu": 3 * blocks + 1,
        "Add": blocks,
    }
    assert first.output[0] not in seen


def test_base_does_not_compute_the_map_of_149_channels(base_preset):
    """The first convolution has pair features only; one-hot types are processed per residue."""
    graph = onnx.load(base_preset.path).graph
    first = next(node for node in graph.node if node.op_type == "Conv")
    weight = next(t for t in graph.initializer if t.name == first.input[1])
    assert list(weight.dims) == [64, BaseFeatures().pair_channels, 1, 1]
    assert not [t.name for t in graph.initializer if 149 in t.dims]


def test_the_score_graph_equals_the_gradient_of_pytorch(small, chains):
    for chain in chains:
        for sigma in (0.01, 0.5, 10.0):
            wanted = torch_score(small.network, chain, sigma)
            found = small.embedder.denoising_gradient(chain, sigma=sigma)
            assert found.shape == (len(chain), 3)
            assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max()


def test_metadata_of_the_embedding_graph(exported):
    model = onnx.load(exported.path)
    fields = {field.key: field.value for field in model.metadata_props}
    assert fields["protemb.contract"] == CONTRACT
    card = json.loads(fields["protemb.card"])
    assert card == exported.embedder.card
    assert card["kind"] == "embedding" and card["alphabet"] == ALPHABET and card["licence"] == "MIT"
    assert card["channels"] == 64 and card["radius"] == exported.network.radius
    assert card["sigma"] == exported.sigma and card["sigma_range"] == [0.01, 10.0]
    assert card["network"] == exported.network.config.as_dict()
    assert card["training"]["record"]["corpus_sha256"] == "0" * 64 and card["training"]["steps"] == 7
    assert card["parity"]["pair"] < TOLERANCE and card["parity"]["chains"] == 7
    assert len(card["golden"]["protein"]) == 64 and card["exported_by"]["version"]
    shapes = {
        v.name: [d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input
    }
    assert shapes["ca_coords"] == ["batch", "length", 3] and shapes["rows"] == [2]
    assert shapes["residue_type"] == shapes["residue_index"] == ["batch", "length"]
    assert [output.name for output in model.graph.output] == ["pair", "residue", "protein"]


def test_metadata_of_the_score_graph(small):
    model = onnx.load(beside(small.path, "score"))
    card = json.loads({field.key: field.value for field in model.metadata_props}["protemb.card"])
    assert card["kind"] == "score" and "sigma" not in card and card["parity"]["score"] < TOLERANCE
    assert [value.name for value in model.graph.input] == [
        "ca_coords",
        "residue_type",
        "residue_index",
        "sigma",
    ]


def test_files_contain_no_local_paths(exported):
    for path in exported.path.parent.glob("*.onnx"):
        content = path.read_bytes()
        for trace in (b"/work", b"/tmp", b"site-packages", b"protemb_train", b".py"):
            assert trace not in content, trace


def test_no_files_are_written_if_verification_fails(small, chains, tmp_path, monkeypatch):
    monkeypatch.setattr(packing, "embedding_graph", lambda *_, **__: onnx.load(small.path))
    score = onnx.load(beside(small.path, "score"))
    monkeypatch.setattr(packing, "score_graph", lambda *_: score)
    arguments = dict(name="x", sigma=small.sigma, record={}, licence="MIT", chains=chains[2:4])
    pack(small.network, tmp_path / "x.onnx", **arguments)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x-score.onnx", "x.onnx"]
    (tmp_path / "empty").mkdir()

    def refused(reason):
        with pytest.raises(ParityError, match=reason):
            pack(small.network, tmp_path / "empty" / "x.onnx", **arguments)
        assert not list((tmp_path / "empty").iterdir())

    with monkeypatch.context() as patch:
        patch.setattr(packing, "TOLERANCE", 0.0)
        refused("the embedding differs")
    with monkeypatch.context() as patch:
        patch.setattr(packing, "measure_score_parity", lambda *_: math.nan)
        refused("the score differs")
    with torch.no_grad():
        weight = small.network.blocks[0].conv1.weight
        kept = weight.clone()
        weight.fill_(math.nan)
        try:
            refused("not finite")
        finally:
            weight.copy_(kept)
    arguments["chains"] = []
    refused("no chain to verify on")


def test_noise_levels_are_limited_to_those_of_the_network(small, tmp_path):
    network = small.network
    for sigma in (0.009, 11.0, 0.0, -1.0, math.nan):
        with pytest.raises(ExportError, match=r"outside the trained range, 0\.01 to 10 angstrom"):
            folded_level(network, sigma)
    assert folded_level(network, 0.01) == 0.01 and folded_level(network, 10.0) == 10.0
    levels = network.levels_K
    if network.config.family == "base":
        assert folded_level(network, 0.5) == 0.5
    else:
        assert folded_level(network, 0.5) in [pytest.approx(level) for level in levels.tolist()]
        assert folded_level(network, levels[7].item() * 1.05) == pytest.approx(levels[7].item(), rel=1e-6)


def test_unwritable_outputs_are_refused(small, chains, tmp_path):
    arguments = dict(name="x", sigma=small.sigma, record={}, licence="MIT", chains=chains)
    with pytest.raises(OutputError, match="does not exist"):
        pack(small.network, tmp_path / "no" / "x.onnx", **arguments)
    with pytest.raises(OutputError, match="is a folder"):
        pack(small.network, tmp_path, **arguments)


def test_only_files_in_the_folder_of_the_sdk_can_be_bundled(small, tmp_path, monkeypatch):
    with pytest.raises(ExportError, match=r"only .* can be bundled"):
        register(small.path, "a summary")
    monkeypatch.setattr(packing, "BUNDLED", small.path.parent)
    assert check_bundled(small.path) == small.path
    register(small.path, "a summary")
    path = small.path.with_name("registry.json")
    entry = json.loads(path.read_text())[small.path.stem]
    score = f"{small.path.stem}-score.onnx"
    other = entry | {"embedding": "other.onnx", "sha256": {"other.onnx": "1", score: "2"}}
    path.write_text(json.dumps({"other": other}))
    register(small.path, "a summary")
    found = json.loads(path.read_text())
    path.unlink()
    assert found["other"]["sha256"] == {"other.onnx": "1", score: entry["sha256"][score]}
    assert entry["embedding"] == small.path.name and entry["score"] == f"{small.path.stem}-score.onnx"
    assert entry["summary"] == "a summary" and len(entry["sha256"]) == 2


def test_export_prints_nothing_and_is_reproducible(capfd, recwarn, randomised):
    network = randomised(replace(BASE_1, dilations=(1,)))
    first, second = (embedding_graph(network, 0.1, {"a": "b"}).SerializeToString() for _ in range(2))
    printed = capfd.readouterr()
    assert printed.out == printed.err == "" and not recwarn.list
    assert first == second
