"""Many structures: order, bounded memory, reported failures, and equal results with workers and batches."""

from __future__ import annotations

import io
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

import protemb_sdk._embed.many as module
from protemb_sdk import (
    ChainError,
    Embedder,
    EmbeddingError,
    ModelError,
    ProtembError,
    Skipped,
    StructureError,
    read_chain,
)
from protemb_sdk._model.batches import pool_alike
from protemb_sdk._model.strips import MAPS_WITH_STATES


def names(run: object) -> list[str]:
    return [embedding.id for embedding in run]  # type: ignore[attr-defined]


@pytest.fixture
def some(structures: Path) -> list[Path]:
    return [structures / name for name in ("1orc.pdb", "2beg.pdb.gz", "1a8o.cif", "1lcd.cif.gz")]


SOME = ["1orc_A", "2beg_A", "2beg_B", "2beg_C", "2beg_D", "2beg_E", "1a8o_A", "1lcd_A"]


def test_chains_come_in_input_order(embedder: Embedder, some: list[Path]) -> None:
    run = embedder.embed_many(some)
    assert names(run) == SOME
    assert [(s.source, s.chain_id) for s in run.skipped] == [(str(some[3]), "B"), (str(some[3]), "C")]
    assert all(s.reason == "is nucleic acid (DNA), not protein" and s.error is None for s in run.skipped)
    assert names(embedder.embed_many(reversed(some)))[0] == "1lcd_A"
    assert list(run) == []


def test_inputs_are_one_object_or_a_collection_of_any_kind(embedder: Embedder, structures: Path) -> None:
    path = structures / "1orc.pdb"
    structure, chain = gemmi.read_structure(str(path)), read_chain(path)
    pair = (chain.ca_coords, chain.sequence)
    triple = (*pair, chain.residue_index)
    ones: list[object] = [
        path, str(path), path.read_bytes(), bytearray(path.read_bytes()), structure, chain, pair, triple,
        (chain.ca_coords.tolist(), chain.sequence), io.BytesIO(path.read_bytes()),
    ]  # fmt: skip
    for one in ones:
        (embedding,) = embedder.embed_many(one)
        assert len(embedding) == len(chain)
    collections: list[object] = [
        [path, structure], (str(path), str(path)), (path, "1orc", path)[::2], {str(path): 1, path: 2},
        (x for x in [pair, triple]), (pair, triple), (structure, str(path)), iter([chain, chain]),
    ]  # fmt: skip
    for collection in collections:
        assert len(list(embedder.embed_many(collection))) == 2
    assert list(embedder.embed_many([])) == []


def test_folders_are_searched_alone_and_in_lists(
    embedder: Embedder, tmp_path: Path, some: list[Path]
) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "z.pdb").write_bytes(some[0].read_bytes())
    (folder / "notes.txt").write_text("no structure")
    assert names(embedder.embed_many(tmp_path)) == ["z_A"]
    assert names(embedder.embed_many([some[2], str(tmp_path), some[0]])) == ["1a8o_A", "z_A", "1orc_A"]
    assert names(embedder.embed_many(x for x in [tmp_path, some[0]])) == ["z_A", "1orc_A"]


@pytest.mark.parametrize("workers", [1, 2])
def test_an_empty_folder_fails_at_its_position_in_the_inputs(
    embedder: Embedder, tmp_path: Path, structures: Path, workers: int
) -> None:
    inputs = [structures / "1orc.pdb", tmp_path, structures / "1a8o.pdb"]
    run = embedder.embed_many(inputs, on_error="skip", workers=workers)
    assert names(run) == ["1orc_A", "1a8o_A"]
    assert [s.source for s in run.skipped] == [str(tmp_path)]
    assert run.skipped[0].reason.startswith("no structure file in this folder")
    run = embedder.embed_many(inputs)
    assert next(run).id == "1orc_A"
    with pytest.raises(StructureError, match="no structure file in this folder"):
        next(run)


def test_memory_is_bounded_on_an_endless_stream(embedder: Embedder, structures: Path) -> None:
    pulled = 0

    def endless() -> Iterator[Path]:
        nonlocal pulled
        while True:
            pulled += 1
            yield structures / "3wup.json.gz"

    with embedder.embed_many(endless()) as run:
        for _ in range(3):
            next(run)
        assert pulled == 3
    pulled = 0
    with embedder.embed_many(endless(), workers=2) as run:
        next(run)
        assert pulled <= 1 + 2 * module.TASKS
    pulled = 0
    with embedder.embed_many(endless(), workers=2, pair=True) as run:
        next(run)
        assert pulled <= 1 + 2 * module.TASKS_WITH_PAIRS
    with pytest.raises(StopIteration):
        next(run)


def bad_inputs(tmp_path: Path, structures: Path) -> list[object]:
    (tmp_path / "x.cif").write_bytes(b"junk")
    return [
        structures / "1orc.pdb", tmp_path / "gone.cif", tmp_path / "x.cif", b"", 17,
        (np.zeros((3, 3)), "AAAA"), structures / "1a8o.pdb",
    ]  # fmt: skip


@pytest.mark.parametrize("workers", [1, 2])
def test_on_error_skip_keeps_every_error_with_class_and_message(
    embedder: Embedder, tmp_path: Path, structures: Path, workers: int
) -> None:
    inputs = bad_inputs(tmp_path, structures)
    with (structures / "1a8o.pdb").open() as closed:
        pass
    calls: list[tuple[int, int | None]] = []
    run = embedder.embed_many(
        [*inputs, closed], workers=workers, on_error="skip", progress=lambda *done: calls.append(done)
    )
    assert names(run) == ["1orc_A", "1a8o_A"]
    assert [s.source for s in run.skipped] == [
        str(inputs[1]), str(inputs[2]), "input 4 (bytes)", "input 5 (int)", "input 6 (tuple)", closed.name,
    ]  # fmt: skip
    assert all(type(s.error) is StructureError for s in run.skipped)
    assert run.skipped[0].reason == "no such file; check the path"
    assert str(run.skipped[0]) == f"{inputs[1]}: no such file; check the path"
    assert "cannot be read (I/O operation on closed file" in run.skipped[-1].reason
    assert calls == [(i, 8) for i in range(1, 9)]


@pytest.mark.parametrize("workers", [1, 2])
def test_on_error_raise_stops_at_the_first_error(
    embedder: Embedder, tmp_path: Path, structures: Path, workers: int
) -> None:
    run = embedder.embed_many(bad_inputs(tmp_path, structures), workers=workers)
    assert next(run).id == "1orc_A"
    with pytest.raises(StructureError, match=r"gone\.cif: no such file; check the path"):
        next(run)
    assert list(run) == []


def test_a_failed_chain_does_not_affect_other_chains(
    embedder: Embedder, structures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = embedder.embed_chain

    def failing(chain: object, **wanted: object) -> object:
        if chain.chain_id == "C":  # type: ignore[attr-defined]
            raise EmbeddingError("made to fail", "2beg_C")
        return whole(chain, **wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(embedder, "embed_chain", failing)
    path = structures / "2beg.pdb.gz"
    run = embedder.embed_many(path, on_error="skip")
    assert names(run) == ["2beg_A", "2beg_B", "2beg_D", "2beg_E"]
    assert run.skipped == [Skipped(str(path), "C", "made to fail")]
    assert isinstance(run.skipped[0].error, EmbeddingError)
    with pytest.raises(EmbeddingError, match="made to fail"):
        list(embedder.embed_many(path))


def test_the_error_for_a_file_without_protein_names_its_content(
    embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    structure = gemmi.read_structure(str(structures / "1lcd.pdb.gz"))
    for model in structure:
        model.remove_chain("A")
    path = tmp_path / "dna.pdb"
    structure.write_pdb(str(path))
    with pytest.raises(StructureError, match=r"dna\.pdb: holds no protein chain to embed \(chain B: is nuc"):
        list(embedder.embed_many(path))
    run = embedder.embed_many(path, on_error="skip")
    assert names(run) == [] and repr(run).endswith("1 of 1 inputs done, 0 chains, 1 skipped>")
    (skipped,) = run.skipped
    assert skipped.chain_id == "" and skipped.kind == "holds no protein chain to embed"


def test_workers_do_not_change_the_results(embedder: Embedder, some: list[Path]) -> None:
    chain = read_chain(some[2])
    inputs = [
        *some, some[2].read_bytes(), gemmi.read_structure(str(some[2])), chain,
        (chain.ca_coords, chain.sequence), io.BytesIO(some[2].read_bytes()),
    ]  # fmt: skip
    here = embedder.embed_many(inputs, pair=True)
    alone = list(here)
    inputs[-1].seek(0)  # type: ignore[union-attr]
    there = embedder.embed_many(inputs, workers=2, pair=True)
    together = list(there)
    assert [e.id for e in alone] == [e.id for e in together] and len(alone) == len(SOME) + 5
    assert here.skipped == there.skipped
    for a, b in zip(alone, together, strict=True):
        assert a.provenance == b.provenance and a.chain.source == b.chain.source
        assert a.pair is not None and b.pair is not None
        for level in ("protein", "residue", "pair"):
            x, y = getattr(a, level), getattr(b, level)
            assert np.abs(x - y).max() < 1e-5 * np.abs(x).max()


def test_skipped_inputs_are_kept_when_an_error_ends_the_run(
    embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    (tmp_path / "x.pdb").write_text("hello")
    run = embedder.embed_many([structures / "1lcd.pdb.gz", tmp_path / "x.pdb"])
    with pytest.raises(StructureError):
        list(run)
    assert len(run.skipped) > 1 and run.skipped[-1].error is not None


def test_an_error_in_the_input_iterator_is_raised(embedder: Embedder, structures: Path) -> None:
    def broken() -> Iterator[Path]:
        yield structures / "1orc.pdb"
        raise KeyboardInterrupt

    for workers in (1, 2):
        with pytest.raises(KeyboardInterrupt):
            list(embedder.embed_many(broken(), workers=workers, on_error="skip"))


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"workers": 0}, "workers must be a whole number, at least 1, not 0"),
        ({"workers": 1.5}, "workers must be a whole number"),
        ({"on_error": "ignore"}, "on_error is 'raise' or 'skip', not 'ignore'"),
    ],
)
def test_invalid_arguments_are_refused_at_once(
    embedder: Embedder, arguments: dict[str, object], match: str
) -> None:
    with pytest.raises(EmbeddingError, match=match):
        embedder.embed_many([], **arguments)  # type: ignore[arg-type]


def test_progress_goes_to_stderr(
    embedder: Embedder, some: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    list(embedder.embed_many(some, progress=True))
    captured = capsys.readouterr()
    assert captured.out == "" and "4/4" in captured.err
    list(embedder.embed_many(iter(some[:1]), progress=True))
    assert "1/?" in capsys.readouterr().err


def test_errors_can_be_pickled() -> None:
    import pickle

    errors = (
        ProtembError("b", "a"), ChainError("c"), EmbeddingError("d", retryable=True),
        ModelError("e", Path("f\n")),
    )  # fmt: skip
    for error in errors:
        copy = pickle.loads(pickle.dumps(Skipped("x", "", "y", error))).error
        assert type(copy) is type(error) and str(copy) == str(error)
        assert copy.__dict__ == error.__dict__
    assert str(errors[0]) == "a: b" and errors[-1].where == "f\\n"


def test_an_error_names_its_source_once() -> None:
    error = EmbeddingError("does not fit", "1abc_A", retryable=True)
    assert str(error) == "1abc_A: does not fit" and str(error.at("x.pdb")) == "x.pdb: does not fit"
    assert type(error.at("x")) is EmbeddingError and error.at("x").retryable
    assert str(Skipped.of(error, "dir/1abc.pdb", "A")) == "dir/1abc.pdb, chain A: does not fit"
    assert str(Skipped.of(error.at("dir/1abc.pdb"), "dir/1abc.pdb")) == "dir/1abc.pdb: does not fit"
    # An input without a path keeps the name of the chain in the message.
    assert str(Skipped.of(error, "input 3 (Structure)")) == "input 3 (Structure): 1abc_A: does not fit"


def test_batches_do_not_change_the_results(embedder: Embedder, some: list[Path], structures: Path) -> None:
    chain = read_chain(some[2])
    turned = (chain.ca_coords[:, [1, 2, 0]] + 5.0, chain.sequence)  # another structure of the same length
    inputs = [*some, turned, structures / "gone.cif", chain, *some]
    wanted = {"pair": True, "readouts": ["mean", "max", "column"], "on_error": "skip"}
    alone = embedder.embed_many(inputs, **wanted)
    together = embedder.embed_many(iter(inputs), batch=4, **wanted)
    for one, other in itertools.zip_longest(alone, together):
        assert one.id == other.id
        scale = np.abs(one.pair).max()  # a batch sums in another order: at most 1.2e-6 of scale here
        for name in ("protein", "residue", "pair"):
            np.testing.assert_allclose(getattr(other, name), getattr(one, name), atol=2e-6 * scale)
        assert list(one.readouts) == list(other.readouts)
        for name, values in one.readouts.items():
            np.testing.assert_allclose(other.readouts[name], values, atol=2e-6 * scale)
    assert [(s.source, s.chain_id, s.reason) for s in alone.skipped] == [
        (s.source, s.chain_id, s.reason) for s in together.skipped
    ]


def test_chains_of_one_length_are_batched_within_the_memory_limit(
    embedder: Embedder, structures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chains = embedder.read(structures / "2beg.pdb.gz").chains  # five of 26 residues
    sizes = []
    run = embedder._session.run

    def watched(outputs: list[str], feeds: dict[str, np.ndarray], *options: object) -> list[np.ndarray]:
        sizes.append(len(feeds["ca_coords"]))
        return run(outputs, feeds, *options)

    monkeypatch.setattr(embedder._session, "run", watched)
    assert len(list(embedder.embed_many(chains, batch=5))) == 5 and sizes == [5]
    sizes.clear()
    monkeypatch.setattr(embedder, "_memory_limit", int(2 * 26**2 * 64 * 4 * MAPS_WITH_STATES))
    assert len(embedder.embed_batch(chains)) == 5 and sorted(sizes) == [1, 2, 2]


def test_readers_of_batches_do_not_change_the_results(
    states_path: Path, some: list[Path], structures: Path
) -> None:
    embedder = Embedder(states_path, device="cpu", threads=1)
    foreign = (read_chain(some[2]).ca_coords, read_chain(some[2]).sequence)
    inputs = [*some, foreign, structures / "gone.cif", object(), some[0].read_bytes(), *some]
    alone, in_thread, in_processes = (
        embedder.embed_many(iter(inputs), on_error="skip", **options)  # type: ignore[arg-type]
        for options in ({}, {"batch": 2}, {"batch": 2, "workers": 2})
    )
    outcomes = [list(run.outcomes()) for run in (alone, in_thread, in_processes)]
    for one, *others in zip(*outcomes, strict=True):
        for other in others:
            assert other.source == one.source
            assert [str(s) for s in other.skipped] == [str(s) for s in one.skipped]
            assert [e.id for e in other.embeddings] == [e.id for e in one.embeddings]
            for a, b in zip(other.embeddings, one.embeddings, strict=True):
                np.testing.assert_allclose(a.protein, b.protein, atol=2e-6)


def test_a_run_in_batches_reads_some_inputs_ahead_and_stops_early(
    states_path: Path, some: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = Embedder(states_path, device="cpu", threads=1)
    monkeypatch.setattr(module, "READ_AHEAD", 2)
    taken = []

    def given() -> Iterator[Path]:
        for number in range(100):
            taken.append(number)
            yield some[2]

    with embedder.embed_many(given(), batch=2) as run:
        next(run)
        assert len(taken) == 8  # four that are embedded, four that are being read
    assert len(taken) == 8


def test_a_failed_chain_does_not_affect_its_batch(embedder: Embedder, structures: Path) -> None:
    chains = embedder.read(structures / "2beg.pdb.gz").chains
    far = replace(chains[2], ca_coords=chains[2].ca_coords * 1e6)
    run = embedder.embed_many([*chains[:2], far, *chains[3:]], batch=8, on_error="skip")
    assert names(run) == ["2beg_A", "2beg_B", "2beg_D", "2beg_E"]
    assert len(run.skipped) == 1 and "angstrom from their centre" in run.skipped[0].reason


def test_invalid_batches_are_refused(embedder: Embedder, some: list[Path]) -> None:
    with pytest.raises(EmbeddingError, match="batch must be a whole number"):
        embedder.embed_many(some, batch=0)
    chains = [read_chain(some[0]), read_chain(some[2])]
    with pytest.raises(EmbeddingError, match="chains of 64 and 70 residues cannot share a batch"):
        pool_alike(embedder._session, chains, 2**30, False, ())


def test_a_batch_of_several_lengths_keeps_the_input_order(embedder: Embedder, some: list[Path]) -> None:
    wanted = [embedder.embed(path, pair=True) for path in (some[2], some[0], some[2])]
    found = embedder.embed_batch([some[2], read_chain(some[0]), some[2]], pair=True)
    assert [embedding.id for embedding in found] == [embedding.id for embedding in wanted]
    for one, other in zip(found, wanted, strict=True):
        np.testing.assert_allclose(one.residue, other.residue, atol=1e-5)
        np.testing.assert_allclose(one.pair, other.pair, atol=1e-4)
    assert embedder.embed_batch([]) == []


def test_protein_vectors_of_a_run_are_collected_into_a_matrix(embedder: Embedder, some: list[Path]) -> None:
    wanted = list(embedder.embed_many(some, on_error="skip"))
    ids, proteins = embedder.embed_many(some, on_error="skip").proteins()
    assert ids == [embedding.id for embedding in wanted] and proteins.dtype == np.float32
    np.testing.assert_array_equal(proteins, [embedding.protein for embedding in wanted])
    none, empty = embedder.embed_many([]).proteins()
    assert none == [] and empty.shape == (0, embedder.widths["protein"])
