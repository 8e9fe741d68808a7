import shutil
import sys

import numpy as np
import pyarrow as pa
import pytest

from protemb_sdk._errors import OutputError, ProtembError
from protemb_train import cli
from protemb_train.arrays import ArrayFileError
from protemb_train.corpus import (
    Corpus,
    CorpusError,
    read_collection,
    relatives,
    sequences_to_avoid,
    split_by_cluster,
    write_corpus,
)

LETTERS = "ACDEFGHIKLMNPQRSTVWY"


@pytest.fixture
def collection(tmp_path, traces):
    """The documented layout: flat arrays, steps in 0.001 angstrom, two sources."""
    steps = []
    for trace in traces:
        milli = np.rint(trace.ca_coords.astype(np.float64) * 1000).astype(np.int64)
        steps.append(np.diff(milli - milli[0], axis=0, prepend=np.zeros((1, 3), dtype=np.int64)))
    sequence = "".join("".join((LETTERS + "X")[t] for t in trace.residue_type) for trace in traces)
    path = tmp_path / "collection.npz"
    np.savez(
        path,
        ids=np.array([trace.id for trace in traces]),
        offsets=np.cumsum([0, *(len(trace.residue_type) for trace in traces)]),
        seq=np.frombuffer(sequence.encode(), dtype=np.uint8),
        dxyz_milliA=np.concatenate(steps).astype(np.int32),
        resnum=np.concatenate([trace.residue_index + 5 for trace in traces]).astype(np.int32),
        cluster30=np.arange(len(traces)) % 3,
        source=np.array([0] * (len(traces) - 1) + [1], dtype=np.uint8),
        source_names=np.array(["pdb", "demos"]),
    )
    return path


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


def random_sequence(rng, length):
    return "".join(rng.choice(list(LETTERS), size=length))


@pytest.mark.skipif(shutil.which("mmseqs") is None, reason="MMseqs2 is not installed (apt install mmseqs2)")
def test_relatives_are_found_and_strangers_are_not(traces):
    real = ["".join((LETTERS + "X")[t] for t in trace.residue_type) for trace in traces]
    query = max(real, key=len)
    rng = np.random.default_rng(0)
    mutated = "".join(rng.choice(list(LETTERS)) if rng.random() < 0.3 else letter for letter in query)
    in_a_long_chain = random_sequence(rng, 900) + query[:200] + random_sequence(rng, 900)
    scrap = random_sequence(rng, 300) + query[:60] + random_sequence(rng, 300)
    targets = [random_sequence(rng, 300), mutated, real[0], in_a_long_chain, scrap]
    assert relatives([query], targets) == {1} | ({3} if len(query) / 2 <= 200 else set())
    assert relatives([query[:200]], targets) == {1, 3}
    assert relatives([], targets) == set()


def test_without_mmseqs_the_reason_and_the_fix_are_said(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CorpusError, match="apt install mmseqs2"):
        relatives(["ACDEF"], ["ACDEF"])


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
