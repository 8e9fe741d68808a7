"""Malformed inputs give an embedding or a `ProtembError`, also those that failed in earlier versions."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import gemmi
import numpy as np
import pytest

from protemb_sdk import Embedder, Embedding, ModelError, OutputError, StructureError, read_chains
from protemb_sdk._base.errors import printable
from protemb_sdk._model.models import CONTRACT, read_graph_info
from protemb_sdk._store.writer import HEADER, read_header

DRIVER = Path(__file__).with_name("run.py")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder("small-1", "cpu", threads=1)


def test_malformed_inputs_give_an_embedding_or_an_error() -> None:
    command = [sys.executable, str(DRIVER), "--inputs", "1500", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "Seed 7, 1,500 inputs" in done.stdout and "| the process died | 0 |" in done.stdout


def test_coverage_guided_inputs_give_a_result_or_an_error() -> None:
    pytest.importorskip("atheris", reason="Atheris does not install here")
    command = [sys.executable, str(DRIVER.with_name("guided.py")), "--runs", "400", "--seed", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2,400 inputs" in done.stdout


# --- inputs that failed -------------------------------------------------------------------------------


def test_long_atom_names_that_are_not_ascii_are_read(structures: Path) -> None:
    block = gemmi.cif.read_string((structures / "1a8o.cif").read_text()).sole_block()
    names = block.find_loop("_atom_site.label_atom_id")
    names[20] = "'ÄÄÄÄÄÄÄÄ'"
    assert len(read_chains(block.as_string().encode()).chains[0]) == 70


def test_coordinates_whose_mean_overflows_are_refused(embedder: Embedder) -> None:
    coords = np.full((3, 3), 1.7e308) * [1, 1, 0.9]
    with pytest.raises(StructureError, match="coordinates lie more than 100000 angstrom from their centre"):
        embedder.embed((coords, "AAA"))
    with pytest.raises(StructureError, match="no residue has a position"):
        embedder.embed((np.full((3, 3), 1.7e308), "AAA"))


def test_complex_coordinates_are_refused(embedder: Embedder) -> None:
    with pytest.raises(StructureError, match="they are complex"):
        embedder.embed((np.zeros((3, 3), dtype=np.complex64), "AAA"))


@pytest.mark.parametrize("name", ["a\nb.pdb", "\x1b[31mred.pdb", "a\rb.pdb"])
def test_control_characters_in_names_are_escaped(
    name: str, embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(structures / "1orc.pdb", name)
        info = tarfile.TarInfo(f"x{name}")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"wrong"))
    run = embedder.embed_many(tmp_path / "a.tar", on_error="skip")
    assert [e.id for e in run] == [f"{printable(name).removesuffix('.pdb')}_A"]
    assert run.skipped[0].reason.isprintable() and run.skipped[0].source.endswith(printable(name))
    command = [sys.executable, "-m", "protemb_sdk.cli", "embed", str(tmp_path / "a.tar"), "-o"]
    done = subprocess.run([*command, str(tmp_path / "out.npz")], capture_output=True, text=True, check=True)
    assert "not a structure file" in done.stderr
    assert all(line.isprintable() for line in done.stderr.splitlines())


@pytest.fixture
def strange(structures: Path, tmp_path: Path) -> Path:
    """A folder of files with names that are not UTF-8 or contain control characters, and one invalid file."""
    folder = tmp_path / "files"
    folder.mkdir()
    try:
        for name in (b"x\xff.pdb", b"a\nb.pdb", b"\x1b[31mc.pdb", "é ü.pdb".encode()):
            shutil.copy(structures / "1orc.pdb", os.fsencode(folder) + b"/" + name)
        Path(os.fsdecode(os.fsencode(folder) + b"/bad\xfe.pdb")).write_text("hello")
    except OSError:
        pytest.skip("this file system takes no such names")
    return folder


def protemb(*arguments: object) -> str:
    line = [sys.executable, "-m", "protemb_sdk.cli", *map(str, arguments)]
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("command", "out"),
    [
        ("embed --model small", "o.npz"), ("embed --model small", "o.parquet"), ("report", "o.html"),
        ("sites", "o.csv"), ("quality", "q.csv"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("workers", [1, 2])
def test_files_of_any_name_are_embedded(
    strange: Path, tmp_path: Path, command: str, out: str, workers: int
) -> None:
    output = protemb(*command.split(), strange, "-o", tmp_path / out, "--workers", workers)
    assert "bad\\udcfe.pdb" in output and "not a structure file" in output
    assert (tmp_path / out).is_file()


def test_files_of_any_name_are_stored_once(strange: Path, tmp_path: Path) -> None:
    command = ("embed", "--model", "small-1", strange, "-o", tmp_path / "store")
    assert "4 chains of 5 inputs" in protemb(*command)
    assert "bad\\udcfe.pdb" in (tmp_path / "store" / "_skipped.csv").read_text()
    assert "already in it: 5 inputs" in protemb(*command)


def test_files_of_any_name_can_be_plotted(strange: Path, tmp_path: Path) -> None:
    for path in strange.glob("[!b]*.pdb"):
        assert "o.png" in protemb("plot", path, "-o", tmp_path / "o.png")


def members_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as file:
        return {name: file.read(name) for name in file.namelist()}


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("protein.npy", b"}", b" "),  # tokenize.TokenError
        ("protein.npy", b"'shape': (", b"'shape': ["),  # SyntaxError
        ("insertion_code.npy", bytes(12), b"\xff" * 12),  # SystemError: invalid character
        ("protein.npy", b"(32,)", b"(" + b"9" * 12 + b",)"),  # MemoryError, or a short read
    ],
)
def test_an_embedding_with_damaged_arrays_in_a_valid_zip_is_refused(
    embedder: Embedder, structures: Path, tmp_path: Path, name: str, old: bytes, new: bytes
) -> None:
    members = members_of(embedder.embed(structures / "1orc.pdb").save(tmp_path / "good.npz"))
    assert old in members[name]
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        for member, content in members.items():
            file.writestr(member, content.replace(old, new) if member == name else content)
    with pytest.raises(OutputError, match="not an embedding saved by protemb, or damaged"):
        Embedding.load(tmp_path / "x.npz")


@pytest.mark.parametrize("value", ["Infinity", "[" * 100_000, "null", '"x"', "[]"])
def test_invalid_model_cards_are_refused(value: str) -> None:
    card = '{"kind": "embedding", "sigma": 1, "sigma_range": [1, 2], "radius": 1, "channels": %s}'
    fields = {"protemb.contract": CONTRACT, "protemb.card": card.replace("%s", value)}
    with pytest.raises(ModelError, match=r"x\.onnx: its protemb metadata are incomplete"):
        read_graph_info("embedding", fields, "", Path("x.onnx"))


def test_a_store_with_a_deeply_nested_header_is_refused(tmp_path: Path) -> None:
    (tmp_path / HEADER).write_text("[" * 100_000)
    with pytest.raises(OutputError, match="cannot be read as the header of a store"):
        read_header(tmp_path)
