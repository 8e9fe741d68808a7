"""Models of contract 2, with a single representation: levels, invariance, strips, profiles, files, stores."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import (
    Chain,
    Embedder,
    Embedding,
    EmbeddingError,
    ModelError,
    OutputError,
    SitePredictor,
)
from protemb_sdk._model import models as registry
from protemb_sdk._model.batches import feeds_of
from protemb_sdk._model.readouts import READOUTS
from protemb_sdk._predict.predictor import features_of
from protemb_sdk._store.fill import embed_into_store
from protemb_sdk._store.verify import verify_store
from protemb_sdk._store.writer import HEADER
from protemb_sdk._structure.chain import ALPHABET

from .conftest import Run, write_head
from .test_readouts import plain

Walk = Callable[..., tuple[np.ndarray, str]]
C, H, P = 8, 12, 16  # as in tests/make_states.py
E = H + 4 * C + 11
LEVELS = ("pair", "residue", "protein", "profile")
FOUR = ("mean", "column", "contact", "column-contact")


@pytest.fixture(scope="module")
def states(states_path: Path) -> Embedder:
    return Embedder(states_path, device="cpu", threads=1)


@pytest.fixture(scope="module")
def tiled(states_path: Path) -> Embedder:
    """Return the same model with a memory limit that gives the thinnest strips."""
    return Embedder(states_path, device="cpu", threads=1, memory_limit=1)


@pytest.fixture(scope="module")
def reference(states: Embedder, chain_1a8o: Chain) -> Embedding:
    return states.embed(chain_1a8o, pair=True, profile=True, readouts=tuple(READOUTS))


def deviation(a: Any, b: Any) -> float:
    return float(np.abs(a - b).max() / np.abs(a).max())


def as_tuple(chain: Chain, coords: np.ndarray) -> tuple[np.ndarray, str, np.ndarray]:
    return coords, chain.sequence, chain.residue_index


# --- outputs --------------------------------------------------------------------------------------


def test_every_level_has_its_own_width(states: Embedder, reference: Embedding) -> None:
    assert states.widths == {"pair": C, "residue": E, "protein": P} and states.channels == C
    shapes = {"pair": (70, 70, C), "residue": (70, E), "protein": (P,), "profile": (70, 20)}
    for level, shape in shapes.items():
        array = getattr(reference, level)
        assert array.shape == shape and array.dtype == np.float32
    assert np.linalg.norm(reference.protein) == pytest.approx(1, abs=1e-6)
    assert reference.profile is not None
    np.testing.assert_allclose(np.exp(reference.profile).sum(axis=1), 1, atol=1e-5)
    assert reference.provenance["contract"] == states.card["contract"] == "2.0"
    bare = states.embed(reference.chain)
    assert bare.pair is None and bare.profile is None and bare.readouts == {}
    assert bare.residue.tobytes() == reference.residue.tobytes()
    assert states.profile(reference.chain).tobytes() == reference.profile.tobytes()


def test_readouts_pool_the_pair_map_and_four_are_in_the_residue_vector(reference: Embedding) -> None:
    assert reference.pair is not None
    pair = np.moveaxis(reference.pair, 2, 0)
    for name in READOUTS:
        wanted = plain(name, pair, reference.chain.ca_coords)
        np.testing.assert_allclose(
            reference.readouts[name], wanted, atol=2e-6 * np.abs(pair).max(), err_msg=name
        )
    held = np.concatenate([reference.readouts[name] for name in FOUR], axis=1)
    np.testing.assert_allclose(reference.residue[:, H:-11], held, atol=1e-6 * np.abs(held).max())


def test_the_readout_mean_must_be_requested(states: Embedder, reference: Embedding) -> None:
    bare = states.embed(reference.chain)
    with pytest.raises(EmbeddingError, match="readout 'mean' was not asked for"):
        bare.readout("mean")
    assert bare.windows(5).shape == (70, 5, E)
    np.testing.assert_array_equal(bare.windows(5)[:, 2], bare.residue)
    assert reference.windows(5, "mean").shape == (70, 5, C)


def test_residue_types_change_only_the_residue_embedding(
    states: Embedder, reference: Embedding, chain_1a8o: Chain
) -> None:
    other = states.embed(replace(chain_1a8o, sequence="A" * 70), profile=True)
    np.testing.assert_array_equal(other.protein, reference.protein)
    np.testing.assert_array_equal(other.profile, reference.profile)
    assert deviation(reference.residue, other.residue) > 0.01


@pytest.mark.parametrize("length", [1, 2, 3, 4, 9])
def test_the_shortest_chains_have_finite_embeddings(states: Embedder, random_walk: Walk, length: int) -> None:
    found = states.embed(random_walk(length), pair=True, profile=True, readouts=tuple(READOUTS))
    for array in (*(getattr(found, level) for level in LEVELS), *found.readouts.values()):
        assert np.isfinite(array).all()
    assert states.denoising_gradient(random_walk(length), sigma=1.0).shape == (length, 3)


# --- properties-----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 2**16), shift=st.tuples(*[st.floats(-1000, 1000)] * 3))
def test_embeddings_are_invariant_to_rotation_and_translation(
    states: Embedder, chain_1a8o: Chain, reference: Embedding, seed: int, shift: tuple[float, ...]
) -> None:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    moved = chain_1a8o.ca_coords @ (turn * np.sign(np.linalg.det(turn))).T + np.array(shift)
    found = states.embed(as_tuple(chain_1a8o, moved), pair=True, profile=True)
    for level in LEVELS:
        assert deviation(getattr(reference, level), getattr(found, level)) < 1e-4, level


@pytest.mark.parametrize("length", [30, 61])
def test_strips_equal_the_whole_map(
    states: Embedder, tiled: Embedder, random_walk: Walk, length: int
) -> None:
    x, wanted = random_walk(length), {"pair": True, "profile": True, "readouts": tuple(READOUTS)}
    whole, strips = states.embed(x, **wanted), tiled.embed(x, **wanted)
    for level in LEVELS:
        assert deviation(getattr(whole, level), getattr(strips, level)) < 1e-5, level
    for name in READOUTS:
        assert deviation(whole.readouts[name], strips.readouts[name]) < 1e-5, name
    alone = tiled.embed(x)
    assert alone.protein.tobytes() == strips.protein.tobytes()
    assert alone.residue.tobytes() == strips.residue.tobytes()


def test_strips_need_one_pass_more_than_there_are_exchanges(
    tiled: Embedder, random_walk: Walk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[tuple[str, ...], int]] = []
    session = tiled._session
    run, prepared = session.run, session.prepared

    def noted(outputs: list[str], feeds: Any, *rest: Any) -> Any:
        asked.append((tuple(outputs), int(feeds["halo"])))
        return run(outputs, feeds, *rest)

    def noted_strips(outputs: list[str], feeds: Any, *rest: Any) -> Any:
        of_strip = prepared(outputs, feeds, *rest)

        def once(*arguments: Any) -> Any:
            asked.append((tuple(outputs), int(feeds["halo"])))
            return of_strip(*arguments)

        return once

    monkeypatch.setattr(session, "run", noted)
    monkeypatch.setattr(session, "prepared", noted_strips)
    x = random_walk(40)
    tiled.embed(x, pair=True)
    kinds = list(dict.fromkeys(asked))
    assert kinds == [
        (("strip_means_0",), 1), (("strip_means_1",), 3), (("strip_means_2", "pair"), 4),
        (("residue", "protein"), 0),
    ]  # fmt: skip
    assert all(asked.count(kind) > 1 for kind in kinds[:3]) and asked.count(kinds[3]) == 1
    asked.clear()
    tiled.embed(x, residue=False)  # nothing of the last map
    assert list(dict.fromkeys(asked)) == [*kinds[:2], (("protein",), 0)]


@pytest.mark.parametrize("length", [5, 40])
def test_without_residues_the_other_vectors_are_the_same(
    states: Embedder, tiled: Embedder, random_walk: Walk, length: int
) -> None:
    x = random_walk(length)
    whole = states.embed(x, profile=True)
    for embedder in (states, tiled):
        found = embedder.embed(x, profile=True, residue=False)
        assert found.residue.shape == (length, 0) and found.pair is None
        assert deviation(found.protein, whole.protein) < 1e-5
        assert whole.profile is not None and found.profile is not None
        assert deviation(found.profile, whole.profile) < 1e-5
    with pytest.raises(EmbeddingError, match="the residue embedding was not kept; embed with residue=True"):
        found.windows(3)
    assert "not kept" in found._repr_html_()
    (many,) = states.embed_many([x], residue=False)
    assert many.protein.tobytes() == states.embed(x, residue=False).protein.tobytes()


def test_batches_equal_single_chains_with_and_without_strips(
    states: Embedder, tiled: Embedder, random_walk: Walk
) -> None:
    chains = [states.read(random_walk(40, seed)).chains[0] for seed in range(3)]
    alone = [states.embed_chain(chain, pair=True, profile=True) for chain in chains]
    for embedder in (states, tiled):
        for one, other in zip(alone, embedder.embed_batch(chains, pair=True, profile=True), strict=True):
            for level in LEVELS:
                assert deviation(getattr(one, level), getattr(other, level)) < 1e-5, level


def test_workers_and_batches_do_not_change_the_results(states: Embedder, structures: Path) -> None:
    files = [structures / name for name in ("1orc.pdb", "1a8o.cif", "2beg.pdb.gz")]
    here = list(states.embed_many(files, profile=True))
    for options in ({"workers": 2}, {"batch": 4}):
        there = list(states.embed_many(files, profile=True, **options))  # type: ignore[arg-type]
        for a, b in zip(here, there, strict=True):
            for level in LEVELS[1:]:
                assert deviation(getattr(a, level), getattr(b, level)) < 1e-5, level


def test_a_strip_without_the_means_of_the_chain_gives_nan(states_path: Path, chain_1a8o: Chain) -> None:
    """The graph gets a part of the rows, but not the means of the whole chain."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(states_path, options, providers=["CPUExecutionProvider"])
    feeds = feeds_of(chain_1a8o) | {"rows": np.array([0, 30])}
    residue, *others = session.run(["residue", "protein", "profile"], feeds)
    for array in (residue[:, :, : H + 4 * C], *others):  # the surroundings do not depend on the map
        assert np.isnan(array).all()
    assert np.isfinite(session.run(["strip_means_0"], feeds)[0]).all()


# --- profiles -------------------------------------------------------------------------------------


def test_the_command_profile_writes_a_table(
    protemb: Run, states_path: Path, structures: Path, tmp_path: Path, states: Embedder
) -> None:
    out = tmp_path / "profile.csv"
    done = protemb("profile", structures / "1orc.pdb", "-o", out, "--model", states_path)
    assert done.status == 0, done.err
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    chain = states.embed(structures / "1orc.pdb", profile=True)
    assert list(rows[0]) == [
        "id", "chain", "auth_seq", "insertion_code", "residue_name", *ALPHABET[:20],
    ]  # fmt: skip
    assert [row["auth_seq"] for row in rows] == [str(n) for n in chain.auth_seq]
    assert [row["insertion_code"] for row in rows] == chain.insertion_code.tolist()
    found = np.array([[float(row[letter]) for letter in ALPHABET[:20]] for row in rows])
    np.testing.assert_allclose(found, chain.profile, atol=1e-5)
    one = tmp_path / "one.csv"
    assert protemb("profile", structures / "2beg.pdb.gz", "-o", one, "--model", states_path, "--chain", "B",
                   "-q").status == 0  # fmt: skip
    with one.open(newline="") as file:
        assert {row["chain"] for row in csv.DictReader(file)} == {"B"}


def test_models_of_contract_1_give_no_profile(
    embedder: Embedder, chain_1a8o: Chain, structures: Path, protemb: Run, tmp_path: Path
) -> None:
    if embedder.has_profile:
        embedder = Embedder("base-1", device="cpu")
    reason = "gives no profile of residue types; use a model of contract 2"
    for call in (
        lambda: embedder.profile(chain_1a8o),
        lambda: embedder.embed(chain_1a8o, profile=True),
        lambda: embedder.embed_many([chain_1a8o], profile=True),
    ):
        with pytest.raises(EmbeddingError, match=reason):
            call()
    done = protemb("profile", structures / "1orc.pdb", "-o", tmp_path / "x.csv", "--model", "base-1")
    assert done.status == 1 and reason in done.errors[0] and not list(tmp_path.iterdir())


# --- files, stores, search ------------------------------------------------------------------------


def test_embeddings_are_saved_and_loaded(reference: Embedding, tmp_path: Path) -> None:
    loaded = Embedding.load(reference.save(tmp_path / "x.npz"))
    for level in LEVELS:
        np.testing.assert_array_equal(getattr(loaded, level), getattr(reference, level))
    assert list(loaded.readouts) == list(READOUTS) and repr(loaded) == repr(reference)
    assert reference.profile is not None and reference.pair is not None
    for damage in (
        {"profile": reference.profile[:, :19]},
        {"pair": reference.pair[..., :-1]},
        {"residue": reference.residue[:-1]},
        {"readouts": {"max": reference.readouts["max"][:, :-1]}},
    ):
        with pytest.raises(OutputError, match="do not belong together"):
            Embedding.load(replace(reference, **damage).save(tmp_path / "damaged.npz"))


def test_a_table_has_all_columns(reference: Embedding) -> None:
    pytest.importorskip("pandas")
    table = reference.to_dataframe()
    assert sum(name.startswith("e") and name[1:].isdigit() for name in table.columns) == E
    assert f"max_{C - 1}" in table.columns and f"max_{C}" not in table.columns


@pytest.fixture(scope="module")
def store(states: Embedder, structures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("pyarrow")
    path = tmp_path_factory.mktemp("states") / "store"
    files = [structures / name for name in ("1orc.pdb", "1a8o.cif", "2beg.pdb.gz", "pdb1gdr.ent")]
    embed_into_store(states, files, path, readouts=["contact", "max"])
    return path


def test_columns_of_a_store_have_the_widths_of_their_levels(
    store: Path, states: Embedder, states_path: Path, tmp_path: Path
) -> None:
    import pyarrow.parquet as pq

    (part,) = store.glob("part-*.parquet")
    table = pq.read_table(part)
    assert json.loads((store / HEADER).read_text())["widths"] == states.widths
    widths = {"protein": P, "residue": E, "readout_contact": C, "readout_max": C}
    for name, width in widths.items():
        kind = table.schema.field(name).type
        assert (kind if name == "protein" else kind.value_type).list_size == width
    found = verify_store(store, sample=8, model=states_path)
    assert found.rows == len(table) and not found.wrong and found.worst < 1e-5
    wanted = states.embed(table["source"][0].as_py(), table["chain"][0].as_py())
    np.testing.assert_allclose(table["residue"][0].as_py(), wanted.residue, atol=1e-6)


def test_search_compares_protein_vectors_without_whitening(
    store: Path, states: Embedder, structures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("usearch")
    from protemb_sdk.search import build_index, open_index

    build_index(store, tmp_path / "index")
    index = open_index(tmp_path / "index")
    query = states.embed(structures / "1a8o.cif")
    hits = index.search(query, k=20)
    assert hits[0].id == "1a8o_A" and hits[0].tm_score == pytest.approx(1, abs=1e-3)
    np.testing.assert_array_equal(index.descriptor(query), query.protein / np.linalg.norm(query.protein))
    wanted = index.descriptors @ query.protein
    cosines = {hit.id: hit.similarity for hit in hits}
    np.testing.assert_allclose([cosines[name] for name in index.ids], wanted, atol=2e-3)
    header = tmp_path / "index" / "protemb-index.json"
    about = json.loads(header.read_text())
    assert about["format"] == "protemb-index-2"
    header.write_text(json.dumps(about | {"format": "protemb-index-1"}))
    with pytest.raises(OutputError, match="a damaged index"):
        open_index(tmp_path / "index")


SLOW = """
import sys
from protemb_sdk import Embedder
from protemb_sdk._store import writer
from protemb_sdk._store.fill import embed_into_store

writer.PART_CHAINS = 8
if __name__ == "__main__":
    embedder = Embedder(sys.argv[1], device="cpu", threads=1)
    embed_into_store(embedder, sys.argv[2], sys.argv[3], workers=int(sys.argv[4]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_kill_every_row_is_written_exactly_once(
    states_path: Path, structures: Path, tmp_path: Path, workers: int
) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    folder, store, script = tmp_path / "files", tmp_path / "store", tmp_path / "run.py"
    folder.mkdir()
    content = (structures / "1a8o.pdb").read_bytes()
    for number in range(120):
        (folder / f"{number:03}.pdb").write_bytes(content)
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(states_path), str(folder), str(store), str(workers)]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    while len(list(store.glob("part-*.parquet"))) < 2:
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()

    def names() -> list[str]:
        tables = [pq.read_table(part) for part in store.glob("part-*.parquet")]
        return sorted(Path(source).stem for table in tables for source in table["source"].to_pylist())

    assert 0 < len(names()) < 120
    subprocess.run(command, check=True)
    assert names() == [f"{number:03}" for number in range(120)]


# --- heads, and a model name that is given to a new model ---------------------------------------


def test_a_head_may_take_the_residue_embedding(
    states: Embedder, chain_1a8o: Chain, states_path: Path, tmp_path: Path
) -> None:
    path = write_head(tmp_path / "head.onnx", states, readouts=["residue"])
    predictor = SitePredictor(path, embedder=states)
    found = predictor.predict(chain_1a8o)
    mean = states.embed(chain_1a8o).residue.mean(axis=1)
    np.testing.assert_allclose(found.probability, 1 / (1 + np.exp(-mean)), atol=1e-5)
    other = write_head(tmp_path / "other.onnx", states, readouts=["contact", "mean"])
    assert SitePredictor(other, embedder=states).predict(chain_1a8o).probability.shape == (70,)
    mixed = write_head(tmp_path / "mixed.onnx", states, readouts=["residue", "profile", "mean"])
    predictor = SitePredictor(mixed, embedder=states)
    found = states.embed(chain_1a8o, readouts=["mean"], profile=True)
    features = features_of(found, predictor.info.readouts)
    assert features.shape == (70, 1, found.residue.shape[1] + 21 + states.channels)
    assert found.profile is not None
    own = found.profile[np.arange(70), chain_1a8o.residue_type]
    parts = [found.residue, found.profile, own[:, None], found.readout("mean")]
    np.testing.assert_array_equal(features[:, 0], np.concatenate(parts, axis=1))
    assert predictor.predict(chain_1a8o).probability.shape == (70,)
    for wrong in (["residue", "residue"], ["nothing"]):
        with pytest.raises(ModelError, match="readout"):
            SitePredictor(write_head(tmp_path / "w.onnx", states, readouts=wrong), embedder=states)


@pytest.fixture
def switched(states_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the name `base` to another model; the old model has the name `base-1`."""
    known = registry._registry()
    entry = {"embedding": str(states_path), "summary": "new", "sha256": {}, "weights_sha256": "0" * 64}
    monkeypatch.setattr(registry, "_registry", lambda: known | {"base": entry})


def test_predictors_load_the_model_they_were_trained_on(
    switched: None, chain_1a8o: Chain, tmp_path: Path
) -> None:
    old = Embedder("base-1", device="cpu")
    encoder = {"name": "base", "weights_sha256": old.card["weights_sha256"], "sigma": old.noise_level}
    predictor = SitePredictor(write_head(tmp_path / "old.onnx", old, encoder=encoder), device="cpu")
    assert predictor.embedder.model.name == "base-1"
    assert predictor.predict(chain_1a8o).probability.shape == (70,)
    assert Embedder(device="cpu").card["contract"] == "2.0"


def test_stores_are_verified_and_continued_with_their_own_model(
    embedder: Embedder, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    pytest.importorskip("pyarrow")
    store = tmp_path / "store"
    made = embedder if not embedder.has_profile else Embedder("base-1", device="cpu")
    embed_into_store(made, [structures / "1orc.pdb"], store)
    request.getfixturevalue("switched")
    assert verify_store(store).rows == 1
    did = embed_into_store(Embedder("base-1", device="cpu"), [structures / "1a8o.cif"], store)
    assert did.chains == 1
    with pytest.raises(OutputError, match="model"):
        embed_into_store(Embedder(device="cpu"), [structures / "2beg.pdb.gz"], store)
