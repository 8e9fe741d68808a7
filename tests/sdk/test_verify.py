"""Rows of a store are computed again: unchanged rows are equal, changed rows are reported."""

from __future__ import annotations

import shutil
import sys
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protemb_sdk import Embedder, ModelError, OutputError, cli, embed_into_store
from protemb_sdk._store.verify import verify_store

FILES = ("1orc.pdb", "2beg.pdb.gz", "1a8o.cif")


@pytest.fixture
def store(structures: Path, embedder: Embedder, tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    for name in FILES:
        shutil.copy(structures / name, folder)
    embed_into_store(embedder, folder, tmp_path / "store")
    return tmp_path / "store"


def test_unchanged_rows_pass_the_verification(store: Path) -> None:
    found = verify_store(store, sample=100)
    assert (found.rows, found.wrong, found.missing) == (7, [], []) and found.worst < 1e-5
    assert verify_store(store, sample=3).rows == 3


def test_archives_and_half_precision_can_be_verified(
    structures: Path, embedder: Embedder, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "all.tar.gz", "w:gz") as archive:
        for name in FILES:
            archive.add(structures / name, name)
    embed_into_store(embedder, tmp_path / "all.tar.gz", tmp_path / "store", dtype="float16")
    found = verify_store(tmp_path / "store", sample=100)
    assert (found.rows, found.wrong, found.missing) == (7, [], []) and 0 < found.worst < 1e-3


def test_changed_and_missing_files_are_reported(store: Path, structures: Path) -> None:
    files = store.parent / "files"
    (files / "1orc.pdb").unlink()
    lines = (structures / "1a8o.cif").read_text().splitlines()
    cut = [line for line in lines if not (line.startswith(("ATOM", "HETATM")) and " 160 " in line)]
    assert len(cut) < len(lines)
    (files / "1a8o.cif").write_text("\n".join(cut) + "\n")
    found = verify_store(store, sample=100)
    assert found.wrong == ["1a8o_A"] and found.rows == 6
    assert [Path(skipped.source).name for skipped in found.missing] == ["1orc.pdb"]


def test_a_changed_row_is_reported_by_the_command(
    store: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (part,) = store.glob("part-*")
    table = pq.read_table(part)
    protein = np.stack([np.array(row) for row in table["protein"].to_pylist()]).astype(np.float32)
    protein[2] += 0.01
    column = pa.FixedSizeListArray.from_arrays(pa.array(protein.ravel()), protein.shape[1])
    place = table.column_names.index("protein")
    pq.write_table(table.set_column(place, "protein", column), part)
    monkeypatch.setattr(sys, "argv", ["protemb", "verify", str(store)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    output = capsys.readouterr()
    assert done.value.code == 1 and "7 rows computed again" in output.out
    assert f"1 rows are not what their files give: {table['id'][2].as_py()}" in output.err


def test_invalid_stores_and_models_are_refused(store: Path, tmp_path: Path, embedder: Embedder) -> None:
    with pytest.raises(OutputError, match="is not a store"):
        verify_store(tmp_path)
    with pytest.raises(ModelError, match="pass the store's model"):
        verify_store(store, model="small")
    (tmp_path / "notes.txt").write_text("no structure")
    embed_into_store(embedder, tmp_path / "notes.txt", tmp_path / "empty")
    with pytest.raises(OutputError, match="holds no chain"):
        verify_store(tmp_path / "empty")


def test_files_without_the_chain_and_deleted_files_are_reported(
    store: Path, structures: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(structures / "pdb1gdr.ent", store.parent / "files" / "1orc.pdb")  # its chain has no name
    found = verify_store(store, sample=100)
    assert [name for name in found.wrong if name.startswith("1orc")] and found.rows == 7
    shutil.rmtree(store.parent / "files")
    monkeypatch.setattr(sys, "argv", ["protemb", "verify", str(store)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    output = capsys.readouterr()
    assert done.value.code == 1 and output.err.count("not compared: ") == 7
    assert "none of the 7 files of the sample could be read" in " ".join(output.err.split())


def test_rows_without_a_file_are_not_compared(embedder: Embedder, tmp_path: Path) -> None:
    coords = [[0.0, 0.0, 3.8 * i] for i in range(5)]
    embed_into_store(embedder, [embedder.read((coords, "AAAAA")).chains[0]], tmp_path / "store")
    found = verify_store(tmp_path / "store")
    assert (found.rows, found.wrong) == (0, []) and found.missing[0].reason == "the row names no file"


def test_a_damaged_part_cannot_be_verified(store: Path) -> None:
    (part,) = store.glob("part-*")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(OutputError, match="cannot be read"):
        verify_store(store)
