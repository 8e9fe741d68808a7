"""Launch plan: chains of any length in padded batches of a few shapes, on the CPU with a small graph."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import Chain, DeviceError, Embedder, EmbeddingError, ModelError
from protemb_sdk._model.bound import FixedShapes
from protemb_sdk._model.plan import padded_feeds, shared_length
from protemb_sdk._model.runtime import CPU
from protemb_sdk._model.session import Graph
from protemb_sdk._model.strips import (
    MAPS_WITH_STATES,
    limit_on_cuda,
    map_bytes,
    maps_at_once,
    plan_batches,
    plan_rows,
)

LEVELS = ("pair", "residue", "protein", "profile")
READOUTS = ("mean", "max", "contact", "column", "column-contact")
TOLERANCE = 1e-5
SPECIAL = (1, 2, 3, 24, 25)


def chain(length: int, seed: int = 0, name: str = "made") -> Chain:
    """Return a random walk whose residue indices have gaps."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(length, 3))
    steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
    sequence = "".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWYX"), size=length))
    index = np.cumsum(rng.choice([1, 1, 1, 1, 6], size=length))
    return Chain.from_arrays(steps.cumsum(axis=0), sequence, index, name=name)


@pytest.fixture(scope="module")
def one_by_one(states_path: Path) -> Embedder:
    return Embedder(states_path, device="cpu", threads=1, min_residues=1)


@pytest.fixture(scope="module")
def gpu_path(states_path: Path) -> Path:
    return states_path.with_name("states-gpu.onnx")


@pytest.fixture
def padding(gpu_path: Path) -> Embedder:
    """Return an Embedder of the graph that is loaded on CUDA."""
    return Embedder(gpu_path, device="cpu", threads=1, min_residues=1)


@pytest.fixture
def launches(padding: Embedder, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Inputs of each run of the network."""
    seen: list[dict[str, Any]] = []
    run = padding._session.run

    def watched(outputs: list[str], feeds: dict[str, Any], *options: Any) -> Any:
        seen.append(feeds)
        return run(outputs, feeds, *options)

    monkeypatch.setattr(padding._session, "run", watched)
    return seen


def assert_equal(found: Any, wanted: Any, tolerance: float = TOLERANCE) -> None:
    for level in LEVELS:
        a, b = getattr(found, level), getattr(wanted, level)
        assert a.shape == b.shape and np.abs(a - b).max() <= tolerance * np.abs(b).max(), level
    assert found.readouts.keys() == wanted.readouts.keys()
    for name, b in wanted.readouts.items():
        assert np.abs(found.readouts[name] - b).max() <= tolerance * np.abs(b).max(), name


# --- the plan -------------------------------------------------------------------------------------


@given(st.integers(1, 20_000))
def test_a_shared_length_has_room_for_the_chain_and_is_one_itself(residues: int) -> None:
    shared = shared_length(residues)
    assert residues <= shared == shared_length(shared) and shared % 32 == 0
    assert shared <= shared_length(residues + 1)


def test_padding_adds_few_pairs_and_there_are_few_lengths() -> None:
    lengths = np.arange(1, 4097)
    shared = np.array([shared_length(int(n)) for n in lengths])
    ratio = (shared / lengths) ** 2
    assert ratio[256:].max() < 1.27
    for low in (256, 512, 1024, 2048):
        assert ratio[low : 2 * low].mean() < 1.1
    of_a_thousand = slice(31, 1024)
    assert (shared[of_a_thousand] ** 2).sum() < 1.085 * (lengths[of_a_thousand] ** 2).sum()
    assert len(set(shared[of_a_thousand])) == 24


@given(st.integers(1, 40), st.integers(1, 600), st.integers(1, 2**31), st.sampled_from([None, 32]))
def test_batches_fit_in_memory(chains: int, residues: int, limit: int, shapes: int | None) -> None:
    length = shared_length(residues)
    borders = plan_batches(chains, length, 64, limit, MAPS_WITH_STATES, shapes=shapes)
    assert borders[0] == 0 and borders[-1] == chains
    sizes = np.diff(borders)
    assert sizes.min() >= 1 and sizes.max() - sizes.min() <= 1
    if sizes.max() > 1:
        rounded = sizes.max() if shapes is None else 2 ** int(np.ceil(np.log2(sizes.max())))
        assert rounded * map_bytes(length, length, 64, MAPS_WITH_STATES) <= limit / (shapes or 1)


@given(st.integers(8, 200), st.integers(1, 3000), st.integers(0, 2**44), st.integers(0, 30))
def test_no_array_is_too_large_for_cuda(channels: int, residues: int, limit: int, radius: int) -> None:
    limit = limit_on_cuda(limit, channels, MAPS_WITH_STATES)
    length = shared_length(residues)
    (_, chains, *_) = plan_batches(1000, length, channels, limit, MAPS_WITH_STATES)
    strips = plan_rows(length, channels, radius, limit, chains, MAPS_WITH_STATES).rows
    if chains > 1 or (len(strips) == 1 and residues > 2 * radius):
        assert chains * 9 * channels * length**2 <= 2**31
    assert limit_on_cuda(2**31, 64, MAPS_WITH_STATES) == 2**31  # the default is not affected


def test_only_graphs_that_take_lengths_pad(one_by_one: Embedder, padding: Embedder) -> None:
    assert not one_by_one._session.takes_lengths and padding._session.takes_lengths
    assert [one_by_one.length_in_batch(n) for n in (3, 70)] == [3, 70]
    assert [padding.length_in_batch(n) for n in (3, 70)] == [32, 96]
    assert not Embedder(device="cpu")._session.takes_lengths


# --- results --------------------------------------------------------------------------------------


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(SPECIAL) | st.integers(1, 70), min_size=2, max_size=6), st.integers(0, 99))
def test_a_padded_batch_equals_the_single_chains(
    gpu_path: Path, one_by_one: Embedder, lengths: list[int], seed: int
) -> None:
    padding = _kept(gpu_path)
    chains = [chain(n, seed + k) for k, n in enumerate(lengths)]
    wanted: dict[str, Any] = {"pair": True, "profile": True, "readouts": READOUTS}
    for one, found in zip(chains, padding.embed_batch(chains, **wanted), strict=True):
        assert found.chain is one
        assert_equal(found, one_by_one.embed_chain(one, **wanted))


_loaded: dict[Path, Embedder] = {}


def _kept(path: Path) -> Embedder:
    if path not in _loaded:  # hypothesis takes no fixtures of one function
        _loaded[path] = Embedder(path, device="cpu", threads=1, min_residues=1)
    return _loaded[path]


def test_the_contents_of_the_padding_have_no_effect(padding: Embedder) -> None:
    chains = [chain(25), chain(9, 1)]
    feeds = padded_feeds([_feeds(one) for one in chains], 32)
    other = {name: array.copy() for name, array in feeds.items()}
    for place, one in enumerate(chains):
        other["ca_coords"][place, len(one) :] = np.nan
        other["residue_type"][place, len(one) :] = 3
        other["residue_index"][place, len(one) :] = one.residue_index[-1] + 1
    outputs = ["residue", "protein", "profile", "pair"]
    for a, b in zip(*(padding._session.run(outputs, x) for x in (feeds, other)), strict=True):
        for place, one in enumerate(chains):
            own = (slice(None), slice(len(one)), slice(len(one))) if a.ndim == 4 else slice(len(one))
            part = (place,) if a.ndim == 2 else (place, *own) if isinstance(own, tuple) else (place, own)
            np.testing.assert_array_equal(a[part], b[part])


def _feeds(one: Chain) -> dict[str, Any]:
    from protemb_sdk._model.batches import feeds_of

    return feeds_of(one)


def test_a_list_of_mixed_lengths_runs_in_few_launches_and_input_order(
    padding: Embedder, one_by_one: Embedder, launches: list[dict[str, Any]]
) -> None:
    lengths = [40, 3, 64, 90, 33, 20, 64, 10, 70, 64]
    chains = [chain(n, n + k, f"c{k}") for k, n in enumerate(lengths)]
    inputs = [*chains[:4], Path("missing.pdb"), *chains[4:]]
    run = padding.embed_many(inputs, batch=4, on_error="skip", profile=True, pair=True, readouts=("max",))
    found = list(run)
    assert [embedding.chain.name for embedding in found] == [one.name for one in chains]
    assert [skipped.source for skipped in run.skipped] == ["missing.pdb"]
    # 33 to 64 residues: five chains; up to 32: three; 65 to 96: two.
    shapes = sorted(feeds["ca_coords"].shape[:2] for feeds in launches)
    assert shapes == [(1, 64), (2, 96), (3, 32), (4, 64)]
    for one, embedding in zip(chains, found, strict=True):
        wanted = one_by_one.embed_chain(one, pair=True, profile=True, readouts=("max",))
        assert_equal(embedding, wanted)


def test_batches_and_strips_keep_the_memory_limit(
    gpu_path: Path, one_by_one: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = 3 * map_bytes(64, 64, 8, MAPS_WITH_STATES)
    small = Embedder(gpu_path, device="cpu", threads=1, memory_limit=limit)
    seen = []
    run = small._session.run

    def watched(outputs: list[str], feeds: dict[str, Any], *options: Any) -> Any:
        seen.append((*feeds["ca_coords"].shape[:2], "rows" in feeds))
        return run(outputs, feeds, *options)

    monkeypatch.setattr(small._session, "run", watched)
    chains = [chain(n, n) for n in (40, 50, 60, 45, 300)]
    found = small.embed_batch(chains, pair=True, profile=True)
    whole = [shape for shape in seen if not shape[2]]
    assert whole == [(2, 64, False), (2, 64, False)]
    assert {shape[:2] for shape in seen if shape[2]} == {(1, 300)}  # in strips, without padding
    for one, embedding in zip(chains, found, strict=True):
        assert_equal(embedding, one_by_one.embed_chain(one, pair=True, profile=True))


def test_a_failed_chain_does_not_affect_its_padded_batch(padding: Embedder) -> None:
    far = chain(30)
    inputs = [chain(20, 1, "a"), (far.ca_coords * 1e6, far.sequence), chain(25, 2, "b")]
    run = padding.embed_many(inputs, batch=8, on_error="skip")
    assert [embedding.chain.name for embedding in run] == ["a", "b"]
    assert len(run.skipped) == 1 and "angstrom from their centre" in run.skipped[0].reason


# --- bound arrays and fixed shapes ----------------------------------------------------------------


def test_bound_runs_give_the_same_results(padding: Embedder, gpu_path: Path) -> None:
    chains = [chain(n, n) for n in (20, 30, 90)]
    strips = Embedder(gpu_path, device="cpu", threads=1, memory_limit=map_bytes(90, 40, 8, MAPS_WITH_STATES))
    for embedder in (padding, strips):
        wanted = embedder.embed_batch(chains, pair=True, profile=True, readouts=READOUTS)
        embedder._session.binds = True  # as on CUDA
        found = embedder.embed_batch(chains, pair=True, profile=True, readouts=READOUTS)
        for a, b in zip(found, wanted, strict=True):
            assert_equal(a, b, tolerance=0)


@pytest.fixture
def fixed(padding: Embedder) -> Embedder:
    """Return an Embedder with one copy of the graph for each shape, as with CUDA graphs."""
    session = padding._session
    session.fixed = session.with_fixed_shapes(Graph.of(padding.model, padding.model.path), [CPU])
    return padding


def shapes_of(fixed: Embedder) -> list[tuple[int, int]]:
    assert isinstance(fixed._session.fixed, FixedShapes)
    return [key[:2] for key in fixed._session.fixed._shapes]


def test_fixed_shapes_give_the_same_results_for_changing_chains(
    fixed: Embedder, one_by_one: Embedder
) -> None:
    options: dict[str, Any] = {"pair": True, "profile": True, "readouts": ("max",)}
    for seed in range(3):
        chains = [chain(n, seed) for n in (1, 40, 3, 24, 25)]
        for one, found in zip(chains, fixed.embed_batch(chains, **options), strict=True):
            assert_equal(found, one_by_one.embed_chain(one, **options))
    assert shapes_of(fixed) == [(4, 32), (1, 64)]
    kept = fixed.embed_chain(chain(60, 5), **options)
    values = kept.residue.copy()
    fixed.embed_chain(chain(50, 6), **options)
    np.testing.assert_array_equal(kept.residue, values)  # not the array that is written again
    assert shapes_of(fixed) == [(4, 32), (1, 64)]


def test_fixed_shapes_have_powers_of_two_and_the_oldest_is_dropped(fixed: Embedder) -> None:
    assert fixed._session.fixed is not None
    fixed._session.fixed._most = 2
    for count, length in ((3, 20), (5, 20), (1, 70), (4, 30), (1, 20)):
        fixed.embed_batch([chain(length, k) for k in range(count)])
    assert shapes_of(fixed) == [(4, 32), (1, 32)]


def test_chains_that_need_more_memory_than_a_shape_has_run_without(
    gpu_path: Path, one_by_one: Embedder
) -> None:
    limit = 32 * map_bytes(64, 64, 8, MAPS_WITH_STATES)
    fixed = Embedder(gpu_path, device="cpu", threads=1, memory_limit=limit)
    session = fixed._session
    session.fixed = session.with_fixed_shapes(Graph.of(fixed.model, gpu_path), [CPU])
    chains = [chain(60), chain(64, 1), chain(65, 2)]
    for one, found in zip(chains, fixed.embed_batch(chains, pair=True, profile=True), strict=True):
        assert_equal(found, one_by_one.embed_chain(one, pair=True, profile=True))
    assert shapes_of(fixed) == [(1, 64)]


def test_cuda_graphs_need_cuda_and_a_graph_that_takes_lengths(gpu_path: Path, states_path: Path) -> None:
    for device in ("cpu", "auto"):
        if device == "auto" and Embedder(gpu_path).device != "cpu":
            continue  # it is available
        with pytest.raises(DeviceError, match=r"cuda_graphs=True needs CUDA, and this is cpu; leave it out"):
            Embedder(gpu_path, device=device, cuda_graphs=True)
    other = Embedder(states_path, device="cpu")
    with pytest.raises(ModelError, match="has no input `lengths`, which cuda_graphs=True needs"):
        other._session.with_fixed_shapes(Graph.of(other.model, states_path), [CPU])


def test_a_copy_that_cannot_be_loaded_is_one_clear_error(fixed: Embedder) -> None:
    assert fixed._session.fixed is not None
    fixed._session.fixed._providers = ["NoSuchProvider"]
    with pytest.raises((DeviceError, EmbeddingError), match=r"CUDA graphs cannot be used .*; leave out"):
        fixed.embed_chain(chain(20))


def test_maps_of_integers_take_less_memory_in_the_plan() -> None:
    exact, narrow = (Embedder(name, "cpu")._session.info for name in ("base", "base-int8"))
    assert maps_at_once(exact) == MAPS_WITH_STATES > maps_at_once(exact, pair=False)
    assert maps_at_once(narrow, pair=False) < maps_at_once(narrow) < MAPS_WITH_STATES / 2
    assert maps_at_once(Embedder("base-1", "cpu")._session.info) < MAPS_WITH_STATES


# --- on a GPU -------------------------------------------------------------------------------------


def _has_cuda() -> bool:
    import onnxruntime

    return "CUDAExecutionProvider" in onnxruntime.get_available_providers()


@pytest.mark.skipif(not _has_cuda(), reason="this ONNX Runtime has no CUDA provider")
@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_padded_batches_on_cuda_equal_the_cpu(
    states_path: Path, one_by_one: Embedder, cuda_graphs: bool
) -> None:
    embedder = Embedder(
        states_path, device="cuda", min_residues=1, memory_limit=2**33, cuda_graphs=cuda_graphs
    )
    for seed in range(3):  # the third run of a shape is a replay in any case
        chains = [chain(n, seed + n) for n in (1, 2, 3, 24, 25, 64, 100)]
        for one, found in zip(chains, embedder.embed_batch(chains, pair=True, profile=True), strict=True):
            assert_equal(found, one_by_one.embed_chain(one, pair=True, profile=True), tolerance=1e-4)
