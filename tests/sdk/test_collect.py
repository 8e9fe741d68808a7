"""Many embeddings in one file: NumPy and pyarrow read what was written; files are complete or absent."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import protemb_sdk._embed.collect as module
from protemb_sdk import Embedding, OutputError, Skipped
from protemb_sdk._embed.collect import collecting
from protemb_sdk._embed.outcome import Outcome
from protemb_sdk._store.writer import open_store

Maker = Callable[..., Embedding]
SKIPPED = [Skipped("a.cif", "B", "is nucleic acid (DNA), not protein"), Skipped("é.pdb", "", "no such file")]
PROVENANCE = {"model": "base", "options": {"altloc": "first"}}
STORED = PROVENANCE | {"model_sha256": "", "contract": "2", "noise_level": 1.0}
PER_RESIDUE = ("residue_index", "auth_seq", "insertion_code", "label_seq", "residue_name")


def filled(path: Path, make: Maker, lengths: list[int], pair: bool = False) -> list[Embedding]:
    embeddings = [make(length, f"n{i}", "A", pair) for i, length in enumerate(lengths)]
    with collecting(path, pair=pair) as collection:
        for embedding in embeddings:
            collection.add(embedding)
        collection.finish(SKIPPED, PROVENANCE)
    return embeddings


@pytest.mark.parametrize("pair", [False, True])
def test_npz_contains_every_chain(make_embedding: Maker, tmp_path: Path, pair: bool) -> None:
    path = tmp_path / "x.npz"
    embeddings = filled(path, make_embedding, [6, 1, 5], pair)
    assert list(tmp_path.iterdir()) == [path]
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    assert all(array.dtype.kind != "O" for array in arrays.values())
    assert ("pair" in arrays) == pair
    assert arrays["offset"].tolist() == [0, 6, 7, 12]
    for i, embedding in enumerate(embeddings):
        rows = slice(arrays["offset"][i], arrays["offset"][i + 1])
        for name in ("id", "name", "label_chain"):
            assert arrays[name][i] == getattr(embedding, name)
        assert arrays["chain"][i] == embedding.chain_id
        assert arrays["source"][i] == embedding.chain.source
        assert arrays["notes"][i] == "one | two | três"
        np.testing.assert_array_equal(arrays["protein"][i], embedding.protein)
        np.testing.assert_array_equal(arrays["residue"][rows], embedding.residue)
        np.testing.assert_array_equal(arrays["ca_coords"][rows], embedding.chain.ca_coords)
        assert arrays["sequence"][rows].tobytes().decode() == embedding.sequence
        for name in PER_RESIDUE:
            np.testing.assert_array_equal(arrays[name][rows], getattr(embedding, name), err_msg=name)
        if pair:
            stored = arrays["pair"][arrays["pair_offset"][i] : arrays["pair_offset"][i + 1]]
            np.testing.assert_array_equal(stored.reshape(len(embedding), len(embedding), 4), embedding.pair)
    assert arrays["skipped_source"].tolist() == ["a.cif", "é.pdb"]
    assert arrays["skipped_chain"].tolist() == ["B", ""]
    assert arrays["skipped_reason"].tolist() == [s.reason for s in SKIPPED]
    header = json.loads(str(arrays["header"]))
    assert header == {"format": "protemb-collection-1", "provenance": PROVENANCE}


def test_parquet_contains_every_chain(
    make_embedding: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(module, "PARQUET_CHAINS", 2)
    path = tmp_path / "x.parquet"
    embeddings = filled(path, make_embedding, [6, 1, 5])
    assert list(tmp_path.iterdir()) == [path]
    assert parquet.ParquetFile(path).num_row_groups == 2
    table = parquet.read_table(path)
    for embedding, row in zip(embeddings, table.to_pylist(), strict=True):
        assert (row["id"], row["chain"], row["sequence"]) == (embedding.id, "A", embedding.sequence)
        assert row["source"] == embedding.chain.source and row["notes"] == "one | two | três"
        np.testing.assert_array_equal(np.array(row["protein"], np.float32), embedding.protein)
        np.testing.assert_array_equal(np.array(row["residue"], np.float32), embedding.residue)
        np.testing.assert_allclose(np.array(row["ca_coords"]), embedding.chain.ca_coords, rtol=1e-6)
        for name in PER_RESIDUE:
            assert row[name] == getattr(embedding, name).tolist()
    told = json.loads(parquet.read_metadata(path).metadata[b"protemb"])
    assert told["provenance"] == PROVENANCE
    assert told["skipped"][1] == {"source": "é.pdb", "chain": "", "reason": "no such file"}


def test_npz_parquet_and_store_have_the_same_columns(make_embedding: Maker, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    filled(tmp_path / "x.parquet", make_embedding, [6])
    filled(tmp_path / "x.npz", make_embedding, [6])
    with open_store(tmp_path / "store", STORED, widths={"protein": 4, "residue": 4, "pair": 4}) as store:
        store.add(Outcome("x.pdb", [make_embedding(6, "n0", "A", False)]))
    (part,) = (tmp_path / "store").glob("*.parquet")
    assert parquet.read_schema(tmp_path / "x.parquet").equals(parquet.read_schema(part))
    with np.load(tmp_path / "x.npz") as file:
        own = {name for name in file.files if name not in ("header", "offset") and "skipped" not in name}
    assert own | {"length"} == set(parquet.read_schema(part).names)  # npz has offsets instead


def test_row_groups_are_limited_by_the_number_of_residues(
    make_embedding: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(module, "PARQUET_RESIDUES", 10)
    filled(tmp_path / "x.parquet", make_embedding, [6, 6, 6])
    assert parquet.ParquetFile(tmp_path / "x.parquet").num_row_groups == 2


def fail_on_the_way(path: Path, embedding: Embedding, error: BaseException) -> None:
    with collecting(path, pair=False) as collection:
        collection.add(embedding)
        raise error


@pytest.mark.parametrize("ending", [".npz", ".parquet"])
def test_a_failed_write_leaves_the_folder_unchanged(
    make_embedding: Maker, tmp_path: Path, ending: str
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"x{ending}"
    path.write_text("from before")
    for error in (KeyboardInterrupt(), RuntimeError("x")):
        with pytest.raises(type(error)):
            fail_on_the_way(path, make_embedding(), error)
    with pytest.raises(OutputError, match=r"cannot be written \(No space left"):
        fail_on_the_way(path, make_embedding(), OSError(errno.ENOSPC, "No space left on device"))
    assert list(tmp_path.iterdir()) == [path] and path.read_text() == "from before"


@pytest.mark.parametrize(
    ("name", "pair", "match"),
    [
        ("x.csv", False, r"end the name in \.npz or \.parquet"),
        ("x", False, r"end the name in \.npz or \.parquet"),
        ("x.parquet", True, r"pair embeddings go into \.npz"),
        ("no/x.npz", False, "does not exist; make it first"),
        ("folder.npz", False, "is a folder; name a file to write"),
    ],
)
def test_invalid_paths_are_refused_at_the_start(tmp_path: Path, name: str, pair: bool, match: str) -> None:
    (tmp_path / "folder.npz").mkdir()
    with pytest.raises(OutputError, match=match), collecting(tmp_path / name, pair=pair):
        pytest.fail("must not be reached")


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(OutputError, match=r"pip install '\.\[store\]'"):
        collecting(tmp_path / "x.parquet", pair=False).__enter__()
    assert list(tmp_path.iterdir()) == []
