"""Readouts, compared with direct implementations, and their properties: strips, threads, permutations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import Chain, Embedder, Embedding, EmbeddingError, OutputError, list_readouts
from protemb_sdk._model.pooling import mean_over_columns, neighbour_weights
from protemb_sdk._model.readouts import CONTACT_SCALE, READOUTS, SHELLS, ReadoutPool

ALL = tuple(READOUTS)
COLUMNS = ("column", "column-contact")
Walk = Callable[..., tuple[np.ndarray, str]]


def random_map(seed: int, channels: int, length: int, spread: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a random pair map (C, L, L) and random coordinates (L, 3) far from the origin."""
    rng = np.random.default_rng(seed)
    pair = rng.normal(size=(channels, length, length)).astype(np.float32)
    return pair, rng.normal(size=(length, 3)) * spread + 300


def plain(name: str, pair_CLL: np.ndarray, coords: np.ndarray) -> np.ndarray:
    """Return a readout computed directly from its definition, in float64."""
    pair = pair_CLL.astype(np.float64)
    d = np.sqrt(((coords[:, None] - coords[None]) ** 2).sum(axis=-1))
    if name == "max":
        return pair.max(axis=2).T
    if name in COLUMNS:
        weights = np.exp(-((d / 8) ** 2)) if name == "column-contact" else np.ones_like(d)
        return np.einsum("ij,cij->jc", weights / weights.sum(axis=0), pair)
    if name in SHELLS:
        low, high = SHELLS[name]
        weights = ((low <= d) & (d < high)).astype(float)
    else:
        weights = np.exp(-((d / 8) ** 2)) if name == "contact" else np.ones_like(d)
    weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
    return np.einsum("ij,cij->ic", weights, pair)


def pooled(
    pair: np.ndarray,
    coords: np.ndarray,
    names: tuple[str, ...] = ALL,
    borders: tuple[int, ...] = (),
    threads: int | None = None,
) -> dict[str, np.ndarray]:
    """Return readouts, computed in strips if borders are given."""
    pool = ReadoutPool(names, coords, len(pair), threads)
    edges = (0, *borders, pair.shape[1])
    for first, past in zip(edges[:-1], edges[1:], strict=True):
        pool.add(first, pair[:, first:past])
    return pool.result()


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 999),
    channels=st.integers(1, 9),
    length=st.integers(1, 70),
    spread=st.sampled_from([0.0, 2.0, 12.0, 60.0]),
    names=st.lists(st.sampled_from(ALL), unique=True),
)
def test_each_readout_equals_a_direct_implementation(
    seed: int, channels: int, length: int, spread: float, names: list[str]
) -> None:
    pair, coords = random_map(seed, channels, length, spread)
    found = pooled(pair, coords, tuple(names))
    assert list(found) == names
    for name, array in found.items():
        assert array.dtype == np.float32 and array.shape == (length, channels)
        np.testing.assert_allclose(array, plain(name, pair, coords), rtol=0, atol=1e-6, err_msg=name)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 99), length=st.integers(3, 60), data=st.data())
def test_strips_equal_the_whole_map(seed: int, length: int, data: st.DataObject) -> None:
    pair, coords = random_map(seed, 4, length)
    borders = sorted(data.draw(st.sets(st.integers(1, length - 1), max_size=4)))
    whole, strips = pooled(pair, coords), pooled(pair, coords, borders=tuple(borders))
    for name in ALL:
        if name in COLUMNS:
            np.testing.assert_allclose(strips[name], whole[name], rtol=0, atol=1e-6)
        else:
            assert strips[name].tobytes() == whole[name].tobytes(), name


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 99), length=st.integers(1, 60))
def test_a_permuted_chain_has_permuted_readouts(seed: int, length: int) -> None:
    """Readouts depend on distances, not on positions in the chain. One permutation is the reversed order."""
    pair, coords = random_map(seed, 3, length)
    here = pooled(pair, coords)
    for order in (np.arange(length)[::-1], np.random.default_rng(seed).permutation(length)):
        there = pooled(pair[:, order][:, :, order], coords[order])
        for name in ALL:
            np.testing.assert_allclose(there[name], here[name][order], rtol=0, atol=1e-6, err_msg=name)


def test_the_transposed_map_swaps_rows_and_columns() -> None:
    pair, coords = random_map(0, 5, 40)
    here, there = pooled(pair, coords), pooled(pair.transpose(0, 2, 1), coords)
    for row, column in (("mean", "column"), ("contact", "column-contact")):
        np.testing.assert_allclose(here[row], there[column], rtol=0, atol=1e-6)


def test_the_number_of_threads_does_not_change_the_bytes() -> None:
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(64, 300, 300)).astype(np.float32)
    coords = rng.normal(size=(300, 3)) * 15
    one = pooled(pair, coords, threads=1)
    for threads in (2, 5, None):
        other = pooled(pair, coords, threads=threads)
        for name in ALL:
            assert one[name].tobytes() == other[name].tobytes(), (name, threads)


def test_the_readout_mean_equals_mean_over_columns() -> None:
    pair, coords = random_map(0, 64, 130)
    assert pooled(pair, coords)["mean"].tobytes() == mean_over_columns(pair).tobytes()
    assert pooled(pair, coords, ("mean",))["mean"].tobytes() == mean_over_columns(pair).tobytes()


def test_empty_shells_are_zeros() -> None:
    pair, _ = random_map(0, 4, 10)
    apart = np.arange(10)[:, None] * np.array([1000.0, 0, 0])
    found = pooled(pair, apart)
    for name in SHELLS:
        # The innermost shell contains only the residue itself.
        expected = pair.diagonal(axis1=1, axis2=2).T if name == "shell-0-6" else 0
        np.testing.assert_array_equal(found[name], expected + np.zeros((10, 4)))
    np.testing.assert_array_equal(found["contact"], found["shell-0-6"])


def test_the_boundary_of_two_shells_belongs_to_the_outer_shell() -> None:
    pair = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    for distance, inside in ((6.0, "shell-6-10"), (10.0, "shell-10-14"), (20.0, "shell-20-30")):
        found = pooled(pair, np.array([[0.0, 0, 0], [0, distance, 0]]))
        assert found[inside][0, 0] == 1
    assert pooled(pair, np.array([[0.0, 0, 0], [0, 30.0, 0]]))["shell-20-30"][0, 0] == 0


def test_shells_match_their_names_and_have_no_gaps_between_them() -> None:
    assert list(SHELLS) == [f"shell-{low:g}-{high:g}" for low, high in SHELLS.values()]
    assert [low for low, _ in SHELLS.values()] == [0, *(high for _, high in SHELLS.values())][:-1]
    assert CONTACT_SCALE == 8 and "(d / 8)^2" in READOUTS["contact"]


def test_residues_at_the_boundary_are_not_counted_in_the_inner_shell() -> None:
    pair = np.array([[[1.0, 10.0, 100.0], [0, 0, 0], [0, 0, 0]]], dtype=np.float32)
    found = pooled(pair, np.array([[0.0, 0, 0], [5, 0, 0], [0, 6, 0]]))
    assert found["shell-0-6"][0, 0] == 5.5 and found["shell-6-10"][0, 0] == 100


def test_weights_of_distant_residues_are_exactly_zero() -> None:
    # exp(-69) is 1e-30; smaller weights are exactly zero.
    for power, nothing in ((68.9, False), (69.1, True)):
        coords = np.array([[0.0, 0, 0], [8 * np.sqrt(power), 0, 0]])
        weights, totals = neighbour_weights(coords, 0, 2, 8.0, ())
        assert (weights[0, 0, 1] == 0) == nothing and weights[0, 0, 0] == 1 and totals[0] == 1


def test_the_maximum_is_found_at_every_position() -> None:
    for length in range(1, 14):  # four are compared at a time
        for place in range(length):
            pair = np.full((1, length, length), -7, dtype=np.float32)
            pair[0, :, place] = -3
            found = pooled(pair, np.zeros((length, 3)), ("max",))["max"]
            assert (found == -3).all(), (length, place)


def test_nan_affects_only_its_own_row_and_column() -> None:
    pair, coords = random_map(0, 3, 50)
    for sign in (1, -1):
        pair[1, 20, 7] = np.copysign(np.nan, sign)
        for name, array in pooled(pair, coords).items():
            own = (7 if name in COLUMNS else 20, 1)
            assert np.isnan(array[own]) and np.isnan(array).sum() == 1, name
    pair[1, 20, 7] = np.inf
    assert pooled(pair, coords)["max"][20, 1] == np.inf


# --- readouts of an embedding -----------------------------------------------------------------------


def test_an_embedding_has_the_requested_readouts(embedder: Embedder, chain_1a8o: Chain) -> None:
    found = embedder.embed(chain_1a8o, pair=True, readouts=ALL)
    assert tuple(found.readouts) == ALL and found.pair is not None
    pair = np.moveaxis(found.pair, 2, 0)
    scale = np.abs(pair).max()
    for name, array in found.readouts.items():
        expected = plain(name, pair, chain_1a8o.ca_coords)
        np.testing.assert_allclose(array, expected, rtol=0, atol=1e-6 * scale, err_msg=name)
    without = embedder.embed(chain_1a8o)
    assert without.readouts == {}
    assert without.residue.tobytes() == found.residue.tobytes()
    assert "readouts mean, contact" in repr(found)
    assert embedder.embed(chain_1a8o, readouts="max").readouts.keys() == {"max"}


@pytest.mark.parametrize("length", [1, 3])
def test_readouts_of_chains_of_one_and_three_residues(
    embedder: Embedder, random_walk: Walk, length: int
) -> None:
    found = embedder.embed(random_walk(length), readouts=ALL)
    for array in found.readouts.values():
        assert array.shape == (length, embedder.channels) and np.isfinite(array).all()
    if length == 1:
        np.testing.assert_array_equal(found.readouts["contact"], found.readouts["mean"])
        np.testing.assert_array_equal(found.readouts["column-contact"], found.readouts["mean"])


def test_strips_of_a_real_map_equal_the_whole_map(embedder: Embedder, random_walk: Walk) -> None:
    x = random_walk(200)
    whole = embedder.embed(x, readouts=ALL)
    strips = Embedder(device="cpu", memory_limit=1).embed(x, readouts=ALL)
    for name in ALL:
        difference = np.abs(whole.readouts[name] - strips.readouts[name]).max()
        assert difference < 1e-5 * np.abs(whole.readouts[name]).max(), name


def test_embed_many_and_workers_compute_readouts(embedder: Embedder, structures: Path) -> None:
    names = ["max", "contact"]
    inputs = [structures / "1orc.pdb", structures / "1a8o.cif"]
    here = list(embedder.embed_many(inputs, readouts=names))
    there = list(embedder.embed_many(inputs, readouts=names, workers=2))
    for a, b in zip(here, there, strict=True):
        assert list(a.readouts) == list(b.readouts) == names
        for name in names:
            scale = np.abs(a.readouts[name]).max()
            np.testing.assert_allclose(a.readouts[name], b.readouts[name], rtol=0, atol=1e-5 * scale)


def test_windows_of_a_readout(embedder: Embedder, chain_1a8o: Chain) -> None:
    found = embedder.embed(chain_1a8o, readouts=["contact", "mean"])
    np.testing.assert_array_equal(found.windows(7, readout="contact")[:, 3], found.readouts["contact"])
    np.testing.assert_array_equal(found.windows(7, readout="mean")[:, 3], found.readouts["mean"])
    old = Embedder("base-1", "cpu", threads=1).embed(chain_1a8o)
    np.testing.assert_array_equal(old.windows(7, readout="mean"), old.windows(7))
    with pytest.raises(EmbeddingError, match=r"1a8o_A: readout 'max' was not asked for; embed with readouts"):
        found.windows(7, readout="max")
    with pytest.raises(EmbeddingError, match="1a8o_A: there is no readout 'median'; there are mean, contact"):
        found.windows(7, readout="median")


def test_the_error_for_an_unknown_readout_lists_the_names(embedder: Embedder, chain_1a8o: Chain) -> None:
    for call in (embedder.embed, embedder.embed_chain, embedder.embed_many):
        with pytest.raises(
            EmbeddingError, match="there is no readout 'median'; there are mean, contact, shell-0-6"
        ):
            call(chain_1a8o, readouts=["contact", "median"])
        with pytest.raises(EmbeddingError, match="readouts=5: pass names"):
            call(chain_1a8o, readouts=5)  # type: ignore[arg-type]


def test_readouts_are_saved_and_loaded(make_embedding: Callable[..., Embedding], tmp_path: Path) -> None:
    from dataclasses import replace

    bare = make_embedding(6)
    made = replace(bare, readouts={"contact": bare.residue + 1, "shell-0-6": bare.residue * 2})
    loaded = Embedding.load(made.save(tmp_path / "x.npz"))
    assert list(loaded.readouts) == ["contact", "shell-0-6"] and repr(loaded) == repr(made)
    for name in made.readouts:
        np.testing.assert_array_equal(loaded.readouts[name], made.readouts[name])
    assert Embedding.load(bare.save(tmp_path / "bare.npz")).readouts == {}
    short = replace(bare, readouts={"contact": bare.residue[:-1]})
    with pytest.raises(OutputError, match="do not belong together"):
        Embedding.load(short.save(tmp_path / "short.npz"))


def test_list_readouts_returns_a_copy_with_the_default_first() -> None:
    found = list_readouts()
    assert next(iter(found)) == "mean" and all(found.values()) and set(SHELLS) < set(found)
    found.clear()
    assert list_readouts()
    json.dumps(list_readouts())
