import sys

import numpy as np
import pyarrow as pa
import pytest

from protemb_sdk._errors import OutputError, ProtembError
from protemb_train import cli
from protemb_train.arrays import ArrayFileError
from protemb_train.corpus import (
    SCHEMA,
    Corpus,
    CorpusError,
    check_splits,
    split_by_cluster,
    write_corpus,
)
from protemb_train.sources import read_collection, sequences_to_avoid


def test_a_collection_comes_back_out_of_the_corpus(collection, traces, tmp_path):
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
    with pytest.raises(CorpusError, match="no chain is left"):
        read_collection(collection, ["pdb", "demos"])


def test_the_split_cuts_no_cluster_and_is_80_10_10():
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
    with pytest.raises(CorpusError, match=r"c0 \(.*\) and c\d+ \(.*\) have one sequence .* give them one"):
        check_splits(table, seed=0)
    check_splits(table.set_column(4, "cluster", pa.array([7] * 20)), seed=0)


def test_sequences_are_read_from_fasta_and_npz(tmp_path):
    (tmp_path / "a.fasta").write_text(">one\nACDE\nFG\n>two words\nHIK\n")
    assert sequences_to_avoid(tmp_path / "a.fasta") == ["ACDEFG", "HIK"]
    np.savez(tmp_path / "b.npz", seq=np.frombuffer(b"ACDEFGHIK", dtype=np.uint8), offset=np.array([0, 6, 9]))
    assert sequences_to_avoid(tmp_path / "b.npz") == ["ACDEFG", "HIK"]


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
def test_bad_input_files_are_one_sentence(tmp_path, name, content):
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ProtembError, match=name):
        sequences_to_avoid(path)
    with pytest.raises(ProtembError, match=name):
        read_collection(path)
    with pytest.raises(CorpusError, match="protemb-train corpus"):
        Corpus(path)


def test_other_tables_are_no_corpus(tmp_path):
    table = pa.table({"id": ["a"]})
    with pa.OSFile(str(tmp_path / "t.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(CorpusError, match="no column sequence"):
        Corpus(tmp_path / "t.arrow")
    np.savez(tmp_path / "n.npz", ids=np.array(["a"]))
    with pytest.raises(ArrayFileError, match=r"n\.npz: not a collection"):
        read_collection(tmp_path / "n.npz")


def test_a_corpus_that_cannot_be_written_is_said(collection, tmp_path):
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
    assert "error:" in (said := capsys.readouterr().err) and "[x].npz" in said
