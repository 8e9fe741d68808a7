import sys

import numpy as np
import pyarrow as pa
import pytest

from protemb_sdk._base.errors import OutputError, ProtembError
from protemb_train import cli
from protemb_train.base.arrays import ArrayFileError
from protemb_train.corpus.corpus import (
    SCHEMA,
    Corpus,
    CorpusError,
    check_splits,
    split_by_cluster,
    write_corpus,
)
from protemb_train.corpus.sources import read_collection, sequences_to_avoid


def test_a_corpus_contains_the_chains_of_the_collection(collection, traces, tmp_path):
    table = read_collection(collection)
    counts = write_corpus(table, tmp_path / "c.arrow", seed=1)
    corpus = Corpus(tmp_path / "c.arrow")
    assert len(corpus) == len(traces) == sum(counts[f"{s} chains"] for s in ("train", "val", "test"))
    assert len(corpus.sha256) == 64
    for found, wanted in zip(corpus, traces, strict=True):
        assert found.id == wanted.id
        assert found.ca_coords.dtype == np.float32
        np.testing.assert_allclose(found.ca_coords, wanted.ca_coords, atol=2e-3)
        np.testing.assert_array_equal(found.residue_type, wanted.residue_type)
        np.testing.assert_array_equal(found.residue_index, wanted.residue_index)
    np.testing.assert_array_equal(corpus.lengths, [len(t.residue_type) for t in traces])
    shown = [len(Corpus(tmp_path / "c.arrow", [s])) for s in ("train", "val", "test")]
    assert shown == [counts[f"{s} chains"] for s in ("train", "val", "test")]
    assert not list(tmp_path.glob(".*"))


def test_sources_can_be_dropped(collection, traces):
    assert read_collection(collection, ["demos"]).num_rows == len(traces) - 1
    with pytest.raises(CorpusError, match="no source cgdms; its sources are pdb, demos"):
        read_collection(collection, ["cgdms"])
    with pytest.raises(CorpusError, match="no chain remains"):
        read_collection(collection, ["pdb", "demos"])


def test_sources_that_are_dropped_are_not_validated(collection, traces):
    z = dict(np.load(collection))
    z["ids"][-1] = z["ids"][0]  # the only chain of the source demos
    z["seq"] = z["seq"].copy()
    z["seq"][-5:] |= 32
    np.savez(collection, **z)
    assert read_collection(collection, ["demos"]).num_rows == len(traces) - 1
    with pytest.raises(CorpusError, match="is repeated"):
        read_collection(collection)


def test_the_split_is_80_10_10_and_keeps_clusters_whole():
    clusters = np.random.default_rng(0).integers(0, 300, size=2000) * 7
    splits = np.array(split_by_cluster(clusters, seed=5))
    of_cluster = [set(splits[clusters == c]) for c in np.unique(clusters)]
    assert all(len(names) == 1 for names in of_cluster)
    found = [next(iter(names)) for names in of_cluster]
    count = len(found)
    assert [found.count(s) / count for s in ("train", "val", "test")] == pytest.approx(
        [0.8, 0.1, 0.1], abs=0.01
    )
    assert split_by_cluster(clusters, seed=5) == splits.tolist()
    assert split_by_cluster(clusters, seed=6) != splits.tolist()


def test_a_sequence_in_two_splits_is_refused():
    rows = [{"id": f"c{n}", "sequence": "AC", "ca": [0.0] * 6, "cluster": n} for n in range(20)]
    table = pa.Table.from_pylist([row | {"residue_index": [0, 1]} for row in rows], schema=SCHEMA)
    with pytest.raises(
        CorpusError, match=r"c0 \(.*\) and c\d+ \(.*\) have the same sequence .* assign them to one"
    ):
        check_splits(table, seed=0)
    check_splits(table.set_column(4, "cluster", pa.array([7] * 20)), seed=0)


def test_sequences_are_read_from_fasta_and_npz(tmp_path):
    (tmp_path / "a.fasta").write_text(">one\nACDE\nFG\n>two words\nHIK\n")
    assert sequences_to_avoid(tmp_path / "a.fasta") == ["ACDEFG", "HIK"]
    np.savez(tmp_path / "b.npz", seq=np.frombuffer(b"ACDEFGHIK", dtype=np.uint8), offset=np.array([0, 6, 9]))
    assert sequences_to_avoid(tmp_path / "b.npz") == ["ACDEFG", "HIK"]


def test_irregular_fasta_files_are_read(tmp_path):
    path = tmp_path / "a.fasta"
    path.write_bytes("\ufeff>ein\u00e9 >two\r\nAC-D\tE.\r\n f g\r\n\r\n>b\r\nHIK*".encode())
    assert sequences_to_avoid(path) == ["ACDEFG", "HIK*"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ACDE\n>b\nFG\n", r"has text before its first name \(ACDE\)"),
        ("ACDE\n", "has text before its first name"),
        (">a\nAC1D\n", r"sequence 0 \(a\) contains '1'"),
        (">a\nACD\n>ACDEF\n", r"sequence 1 \(ACDEF\) has no residue"),
        (" \n", "contains no sequence"),
    ],
)
def test_invalid_fasta_files_are_refused(tmp_path, text, expected):
    path = tmp_path / "a.fasta"
    path.write_text(text)
    with pytest.raises(CorpusError, match=rf"a\.fasta: {expected}"):
        sequences_to_avoid(path)


BYTES = np.frombuffer(b"ACDEFGHIK", dtype=np.uint8)


@pytest.mark.parametrize(
    ("seq", "offset", "expected"),
    [
        (np.array(list("ACDEFGHIK")), [0, 6, 9], "seq has type <U1"),
        (BYTES.astype(np.int32), [0, 6, 9], "seq has type int32"),
        (BYTES + 128, [0, 6, 9], "not ASCII"),
        (BYTES - 60, [0, 6, 9], "sequence 0 contains"),
        (BYTES, [0.0, 6.0, 9.0], "offsets have type float64"),
        (BYTES, 9, "offsets have type int64"),
        (BYTES, [0, 6], "do not divide its 9 residues"),
        (BYTES, [3, 9], "do not divide its 9 residues"),
        (BYTES, [0, 6, 3, 9], "do not divide its 9 residues"),
        (BYTES[:0], [0], "contains no sequence"),
    ],
)
def test_invalid_sequence_arrays_are_refused(tmp_path, seq, offset, expected):
    np.savez(tmp_path / "b.npz", seq=seq, offset=np.array(offset))
    with pytest.raises(CorpusError, match=rf"b\.npz: .*{expected}"):
        sequences_to_avoid(tmp_path / "b.npz")


@pytest.mark.parametrize(
    ("name", "spoilt", "expected"),
    [
        ("cluster30", lambda x: x[:2], "cluster30 has type int64 and shape"),
        ("cluster30", lambda x: x + 0.5, "cluster30 has type float64"),
        ("source", lambda x: x + 99, "a source is not among its 2 names"),
        ("source", lambda x: x.astype(int) - 1, "a source is not among its 2 names"),
        ("source_names", lambda x: x[0], "a source is not among its 1 names"),
        ("seq", lambda x: x | 128, "not ASCII"),
        ("seq", lambda x: x.astype(str), "seq has type <U3"),
        ("seq", lambda x: x | 32, "1a8o_A contains 'acdefgikl'"),
        ("ids", lambda x: x[[0, *range(len(x) - 1)]], "the id .* is repeated"),
        ("offsets", lambda x: x.astype(float), "offsets have type float64"),
        ("offsets", lambda x: np.concatenate([x[:1], x[:1], x[2:]]), "do not divide its"),
        ("offsets", lambda x: x[1:], "its offsets do not match"),
        ("dxyz_milliA", lambda x: x * 1.0, "dxyz_milliA has type float64"),
        ("resnum", lambda x: x[:-1], "resnum has type int32 and shape"),
    ],
)
def test_damaged_collections_are_refused(collection, name, spoilt, expected):
    z = dict(np.load(collection))
    np.savez(collection, **z | {name: spoilt(z[name])})
    with pytest.raises(CorpusError, match=rf"collection\.npz: .*{expected}"):
        read_collection(collection)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("missing.npz", None),
        ("empty.npz", b""),
        ("text.npz", b"hello"),
        ("cut.npz", b"PK\x03\x04 and no more"),
        ("missing.fasta", None),
        ("empty.fasta", b""),
        ("binary.fasta", b"\xff\xfe\x00"),
    ],
)
def test_unreadable_input_files_are_refused(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProtembError, match=name):
        sequences_to_avoid(path)
    with pytest.raises(ProtembError, match=name):
        read_collection(path)
    with pytest.raises(CorpusError, match="protemb-train corpus"):
        Corpus(path)


def test_other_tables_are_refused(tmp_path):
    table = pa.table({"id": ["a"]})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CorpusError, match="no column sequence"):
        Corpus(tmp_path / "t.arrow")
    np.savez(tmp_path / "n.npz", ids=np.array(["a"]))
    with pytest.raises(ArrayFileError, match=r"n\.npz: not a collection"):
        read_collection(tmp_path / "n.npz")


def test_an_unwritable_output_is_refused(collection, tmp_path):
    with pytest.raises(OutputError, match="does not exist"):
        write_corpus(read_collection(collection), tmp_path / "no" / "c.arrow", seed=0)


def test_the_command_line_builds_a_corpus(collection, tmp_path, monkeypatch, capsys):
    out = tmp_path / "c.arrow"
    monkeypatch.setattr(sys, "argv", ["protemb-train", "corpus", str(collection), "-o", str(out)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0 and len(Corpus(out)) > 0 and out.with_suffix(".json").is_file()
    monkeypatch.setattr(sys, "argv", ["protemb-train", "corpus", str(tmp_path / "[x].npz"), "-o", str(out)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 1
    assert "error:" in (expected := capsys.readouterr().err) and "[x].npz" in expected
