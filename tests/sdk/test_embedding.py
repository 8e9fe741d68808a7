"""Saving and loading: all fields are kept, nothing is pickled, no temporary file is left."""

from __future__ import annotations

import errno
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import protemb_sdk._embed.npz as module
from protemb_sdk import Chain, Embedder, Embedding, OutputError

Maker = Callable[..., Embedding]


@pytest.mark.parametrize("pair", [False, True])
@pytest.mark.parametrize("length", [1, 6])
def test_saving_and_loading_keeps_all_fields(
    make_embedding: Maker, tmp_path: Path, pair: bool, length: int
) -> None:
    saved = make_embedding(length, "protéine-蛋白", "ä", pair)
    path = saved.save(tmp_path / "naïve file")  # the name is kept: no ending is added
    assert path == tmp_path / "naïve file" and [p.name for p in tmp_path.iterdir()] == ["naïve file"]
    loaded = Embedding.load(str(path))
    for name in Chain.__dataclass_fields__:
        a, b = getattr(saved.chain, name), getattr(loaded.chain, name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b, err_msg=name)
        else:
            assert a == b and type(a) is type(b), name
    np.testing.assert_array_equal(saved.protein, loaded.protein)
    np.testing.assert_array_equal(saved.residue, loaded.residue)
    assert (loaded.pair is None) == (not pair)
    if pair:
        np.testing.assert_array_equal(saved.pair, loaded.pair)
    assert loaded.provenance == saved.provenance
    assert loaded.gap_after.tolist() == [True] * (length - 1) + [False]
    assert repr(loaded) == repr(saved)


def test_saved_files_are_read_by_numpy_without_pickle(make_embedding: Maker, tmp_path: Path) -> None:
    path = make_embedding(pair=True).save(tmp_path / "x.npz")
    with np.load(path, allow_pickle=False) as file:
        assert file["residue"].shape == (5, 4) and file["pair"].shape == (5, 5, 4)
        assert json.loads(str(file["header"]))["provenance"]["model"] == "none"
        assert all(file[name].dtype.kind != "O" for name in file.files)


def test_saving_replaces_an_existing_file(make_embedding: Maker, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    make_embedding(3).save(path)
    make_embedding(4).save(path)
    assert len(Embedding.load(path)) == 4


def test_paths_that_cannot_be_written_are_refused(make_embedding: Maker, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"nowhere does not exist; make it first"):
        make_embedding().save(tmp_path / "nowhere" / "x.npz")
    with pytest.raises(OutputError, match="is a folder; name a file to write"):
        make_embedding().save(tmp_path)
    with pytest.raises(OutputError, match="cannot be written"):
        make_embedding().save(tmp_path / ("x" * 300))
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_keeps_the_old_file_and_leaves_no_other_file(
    make_embedding: Maker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_embedding(3).save(tmp_path / "x.npz")

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "add_array", full)
    with pytest.raises(OutputError, match=r"x\.npz: cannot be written \(No space left on device\)"):
        make_embedding(4).save(path)
    assert len(Embedding.load(path)) == 3
    assert list(tmp_path.iterdir()) == [path]


def test_other_or_damaged_files_give_one_clear_error(make_embedding: Maker, tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    good = make_embedding(6, pair=True).save(tmp_path / "good.npz").read_bytes()
    with pytest.raises(OutputError, match="no such file"):
        Embedding.load(path)
    with pytest.raises(OutputError, match="not an embedding saved by protemb, or damaged"):
        Embedding.load(tmp_path)
    np.savez(tmp_path / "foreign.npz", a=np.zeros(3))
    np.save(tmp_path / "array.npy", np.zeros(3))
    np.savez(tmp_path / "object.npz", header=np.array({"format": "x"}, dtype=object))
    damaged = {
        "empty": b"", "text": b"hello\n" * 9, "half": good[: len(good) // 2], "end": good[-40:],
        "foreign": (tmp_path / "foreign.npz").read_bytes(), "array": (tmp_path / "array.npy").read_bytes(),
        "object": (tmp_path / "object.npz").read_bytes(),
    }  # fmt: skip
    for content in damaged.values():
        path.write_bytes(content)
        with pytest.raises(OutputError, match=r"x\.npz: not an embedding saved by protemb, or damaged"):
            Embedding.load(path)


def test_changed_bytes_raise_no_other_error_than_output_error(make_embedding: Maker, tmp_path: Path) -> None:
    good = make_embedding(6).save(tmp_path / "good.npz").read_bytes()
    path, rng = tmp_path / "x.npz", np.random.default_rng(0)
    for _ in range(150):
        data = bytearray(good)
        data[rng.integers(len(data))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        try:
            Embedding.load(path)
        except OutputError as error:
            assert str(error).startswith(str(path))


def test_inconsistent_arrays_are_refused(make_embedding: Maker, tmp_path: Path) -> None:
    path = make_embedding(6).save(tmp_path / "good.npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    for name in ("residue", "ca_coords", "protein"):
        np.savez(tmp_path / "x.npz", **(arrays | {name: arrays[name][:-1]}))
        with pytest.raises(OutputError, match="or damaged"):
            Embedding.load(tmp_path / "x.npz")
    about = json.loads(str(arrays["header"]))
    for change in ({"provenance": 3}, {"chain": ["A"]}, {"notes": [1]}, {"sequence": None}):
        np.savez(tmp_path / "x.npz", **(arrays | {"header": np.array(json.dumps(about | change))}))
        with pytest.raises(OutputError, match=r"or damaged \(its header is not that of protemb\)"):
            Embedding.load(tmp_path / "x.npz")
    for name in ("protein", "residue"):
        np.savez(tmp_path / "x.npz", **(arrays | {name: arrays[name].astype("f8")}))
        with pytest.raises(OutputError, match=r"or damaged \(its embeddings are not float32\)"):
            Embedding.load(tmp_path / "x.npz")
    header = about | {"format": "protemb-embedding-99"}
    np.savez(tmp_path / "x.npz", **(arrays | {"header": np.array(json.dumps(header))}))
    with pytest.raises(OutputError, match="holds 'protemb-embedding-99', this reads 'protemb-embedding-1'"):
        Embedding.load(tmp_path / "x.npz")
    assert zipfile.is_zipfile(path)


def test_a_table_has_one_row_per_residue(
    embedder: Embedder, structures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedding = embedder.embed(structures / "1orc.pdb", readouts=["max"])
    table = embedding.to_dataframe()
    assert len(table) == len(embedding) and set(table["id"]) == {"1orc_A"}
    np.testing.assert_array_equal(table[[f"e{n}" for n in range(395)]], embedding.residue)
    np.testing.assert_array_equal(table[[f"max_{n}" for n in range(64)]], embedding.readouts["max"])
    np.testing.assert_array_equal(table[["x", "y", "z"]], embedding.chain.ca_coords)
    np.testing.assert_array_equal(table["auth_seq"], embedding.auth_seq)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(OutputError, match="pip install pandas"):
        embedding.to_dataframe()
