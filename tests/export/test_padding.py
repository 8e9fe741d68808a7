"""Padded chains of different lengths in one batch give the results of the single chains."""

from __future__ import annotations

import shutil
from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from protemb_export import cli
from protemb_export.errors import ExportError
from protemb_export.pack import pack_gpu
from protemb_export.padding import Padded
from protemb_export.states import PaddedStatesNetwork, StatesNetwork
from protemb_sdk import Embedder
from protemb_sdk._model.bound import CHAIN_INPUTS
from protemb_sdk._model.models import beside, find_model
from protemb_sdk._model.subgraph import Parts
from protemb_train.network.checkpoint import save_network
from protemb_train.network.protein import ordered_parts
from protemb_train.network.vectors import ChainVectors

from ..make_states import CONFIG, SIGMA, states_network
from .conftest import corpus_of

MAPS = len(CONFIG.exchanges) + 1
SPECIAL = (1, 2, 3, 24, 25)  # ends of frames and torsions, number of neighbours
LENGTHS = st.lists(st.sampled_from(SPECIAL) | st.integers(1, 40), min_size=1, max_size=4)


@pytest.fixture(scope="module", params=["linear map", "mean"])
def networks(request):
    network, vectors = states_network()
    if request.param == "mean":
        vectors = ChainVectors(CONFIG.channels, CONFIG.single_channels)
    return StatesNetwork(network, SIGMA, vectors), PaddedStatesNetwork(network, SIGMA, vectors)


def random_chain(length, seed):
    """Return a random walk with gaps in its residue indices, as tensors."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(length, 3))
    steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
    index = np.cumsum(rng.choice([1, 1, 1, 1, 6], size=length)) + rng.integers(-50, 50)
    coords = torch.from_numpy((steps.cumsum(axis=0) + 30).astype(np.float32))
    return coords, torch.from_numpy(rng.integers(0, 21, length)), torch.from_numpy(index)


def padded(chains, length, content):
    """Return a batch of chains, with the coordinate, type and index of the padding."""
    count = len(chains)
    coords = torch.full((count, length, 3), float(content[0]))
    types, index = (torch.full((count, length), value) for value in content[1:])
    for place, (x, t, i) in enumerate(chains):
        coords[place, : len(x)], types[place, : len(x)], index[place, : len(x)] = x, t, i
    return coords, types, index, torch.tensor([len(x) for x, _, _ in chains])


@torch.no_grad()
def outputs(module, coords, *inputs):
    """Return all outputs of a whole map: one run for each exchange, for the means that it reads."""
    length = coords.shape[1]
    strip = (torch.arange(length), torch.tensor([0]), torch.tensor([length]))
    used = [torch.ones(len(coords), length, 4 * CONFIG.channels + 1)] * MAPS
    for k in range(MAPS):
        used[k] = module(coords, *inputs, *strip, *used)[MAPS + k]
    return module(coords, *inputs, *strip, *used)


def own(output, place, length):
    """Return the part of an output that belongs to a chain."""
    array = output[place]
    return array if array.dim() == 1 else array[:, :length, :length] if array.dim() == 3 else array[:length]


def assert_equal_to_single_chains(networks, chains, length, content, tolerance=1e-5):
    plain, of_batch = networks
    found = outputs(of_batch, *padded(chains, length, content))
    for place, (x, t, i) in enumerate(chains):
        for a, b in zip(found, outputs(plain, x[None], t[None], i[None]), strict=True):
            assert (own(a, place, len(x)) - b[0]).abs().max() <= tolerance * b.abs().max()
    return found


@settings(max_examples=25, deadline=None)
@given(LENGTHS, st.integers(0, 24), st.integers(0, 1000))
def test_a_padded_batch_equals_the_single_chains(networks, lengths, more, seed):
    chains = [random_chain(n, seed + k) for k, n in enumerate(lengths)]
    length = max(lengths) + more
    found = assert_equal_to_single_chains(networks, chains, length, (0.0, 20, 0))
    # The contents of the padding change no bit: residues beside the chain, bonded ones, no numbers.
    last = int(chains[0][2][-1])
    for content in ((0.5, 3, last + 1), (float("nan"), 99, 10**9)):
        again = outputs(networks[1], *padded(chains, length, content))
        for place, n in enumerate(lengths):
            for a, b in zip(found, again, strict=True):
                assert torch.equal(own(a, place, n), own(b, place, n))


def test_padding_without_lengths_changes_the_results(networks):
    """The reason for the masks, and a check that the tests above can fail."""
    x, t, i = random_chain(25, 0)
    coords, types, index, _ = padded([(x, t, i)], 40, (0.0, 20, 0))
    wrong = outputs(networks[1], coords, types, index, torch.tensor([40]))
    right = outputs(networks[1], coords, types, index, torch.tensor([25]))
    for a, b in zip(wrong, right, strict=True):
        assert (own(a, 0, 25) - own(b, 0, 25)).abs().max() > 1e-3 * own(b, 0, 25).abs().max()


def test_means_need_not_be_given_for_all_rows(networks):
    x, t, i = (part[None] for part in random_chain(20, 0))
    strip = (torch.arange(20), torch.tensor([0]), torch.tensor([20]))
    for a, b in zip(networks[0](x, t, i, *strip), outputs(networks[0], x, t, i), strict=True):
        assert torch.equal(a, b)


def test_maps_are_zero_in_the_padding(networks):
    found = outputs(networks[1], *padded([random_chain(9, 0), random_chain(14, 1)], 20, (1.0, 2, 3)))
    for pair in found[:MAPS]:
        assert pair[0, :, :9, :9].any() and not pair[0, :, 9:].any() and not pair[0, :, :, 9:].any()


def test_the_padding_is_far_from_the_chain_and_not_bonded():
    coords, _, index, lengths = padded([random_chain(5, 0)], 7, (0.0, 0, 6))
    batch = Padded.of(coords, index, lengths)
    assert torch.cdist(batch.coords[0, :5], batch.coords[0, 5:]).min() > 1e5
    assert batch.near[0, :5].mean(dim=0).abs().max() < 1e-5 and not batch.near[0, 5:].any()
    assert not (batch.residue_index.diff()[0, 4:].abs() == 1).any()


@given(st.integers(1, 60), st.integers(0, 30), st.sampled_from([1, 5, 10]))
def test_ordered_parts_of_padded_chains_are_those_of_the_chain(length, more, parts):
    found = ordered_parts(length + more, parts, lengths_B=torch.tensor([length, 1]))
    assert torch.equal(found[0, :, :length], ordered_parts(length, parts))
    assert not found[0, :, length:].any() and not found[1, :, 1:].any()


# --- exported graphs ------------------------------------------------------------------------------


def test_the_test_graph_for_gpus_is_that_of_the_test_model(states_path):
    model, gpu = find_model(states_path), Embedder(beside(states_path, "gpu"), "cpu")
    assert gpu.provenance["model_sha256"] == Embedder(model.path, "cpu").provenance["model_sha256"]
    about = gpu.card["convolutions"]
    assert about["padded_deviation"]["protein"] < 1e-5


def test_the_network_of_another_graph_is_refused(states_path, tmp_path, chains, states_net):
    path = tmp_path / "small.onnx"
    shutil.copy(find_model("small-1").path, path)
    with pytest.raises(ExportError, match="is not the graph of that checkpoint"):
        pack_gpu(find_model(path), chains, states_net)
    assert not beside(path, "gpu").exists()


@pytest.fixture(scope="module")
def states_net():
    return states_network()[0]


def test_the_command_writes_a_graph_that_takes_padded_chains(states_path, tmp_path, chains, states_net):
    path, checkpoint, corpus = (tmp_path / name for name in ("mine.onnx", "mine.ckpt", "native.arrow"))
    shutil.copy(states_path, path)
    save_network(states_net, {"network": CONFIG.as_dict(), "steps": 0, "seed": 0}, checkpoint)
    corpus_of(chains[3:6], corpus)
    line = ["gpu", path, "--verify", corpus, "--chains", 3, "--checkpoint", checkpoint]
    done = CliRunner().invoke(cli.app, [str(word) for word in line])
    assert done.exit_code == 0, done.exception
    embedder = Embedder(beside(path, "gpu"), "cpu")
    assert embedder.length_in_batch(33) == 64
    about = embedder.card["convolutions"]["padded_deviation"]
    assert about["chains"] == 3 and 0 < about["pair"] < 1e-5 and 0 < about["profile"] < 1e-5


def optimised(content, tmp_path, **sizes):
    """Return the graph as ONNX Runtime loads it, before it is adapted to a device."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    for axis, size in sizes.items():
        options.add_free_dimension_override_by_name(axis, size)
    onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return onnx.load(tmp_path / "optimised.onnx")


def test_nothing_depends_on_the_shape_alone_where_the_shape_is_fixed(states_path, tmp_path):
    """A CUDA graph can contain neither shapes that are computed on the CPU nor copies from the host."""
    content = beside(states_path, "gpu").read_bytes()
    fixed = Parts(content).of(CHAIN_INPUTS, ["residue", "protein"])
    found = optimised(fixed, tmp_path, batch=4, chains=4, length=32, rows=32)
    kinds = Counter(node.op_type for node in found.graph.node)
    assert not set(kinds) & {"Shape", "Range", "ConstantOfShape", "NonZero", "GatherND", "If", "Loop"}
    assert [value.name for value in found.graph.input] == list(CHAIN_INPUTS)
    whole = Counter(node.op_type for node in onnx.load_from_string(content).graph.node)
    assert whole["Shape"] > 10  # otherwise the test shows nothing
