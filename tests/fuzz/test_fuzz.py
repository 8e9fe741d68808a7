"""Nasty inputs end in an embedding or in an error of ours; what once did not, does."""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import gemmi
import numpy as np
import pytest

from protemb_sdk import Embedder, StructureError, read_chains

DRIVER = Path(__file__).with_name("run.py")


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return Embedder("small", "cpu", threads=1)


def test_nasty_inputs_end_in_an_embedding_or_an_error_of_ours() -> None:
    command = [sys.executable, str(DRIVER), "--inputs", "1500", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "Seed 7, 1,500 inputs" in done.stdout and "| the process died | 0 |" in done.stdout


# --- what was found -------------------------------------------------------------------------------


def test_long_atom_names_that_are_not_ascii_are_read(structures: Path) -> None:
    block = gemmi.cif.read_string((structures / "1a8o.cif").read_text()).sole_block()
    names = block.find_loop("_atom_site.label_atom_id")
    names[20] = "'ÄÄÄÄÄÄÄÄ'"
    assert len(read_chains(block.as_string().encode()).chains[0]) == 70


def test_coordinates_whose_mean_overflows_are_refused(embedder: Embedder) -> None:
    coords = np.full((3, 3), 1.7e308)
    with pytest.raises(StructureError, match="coordinates lie more than 100000 angstrom from their centre"):
        embedder.embed((coords, "AAA"))


def test_complex_coordinates_are_refused(embedder: Embedder) -> None:
    with pytest.raises(StructureError, match="they are complex"):
        embedder.embed((np.zeros((3, 3), dtype=np.complex64), "AAA"))


@pytest.mark.parametrize("name", ["a\nb.pdb", "\x1b[31mred.pdb", "a\rb.pdb"])
def test_names_with_control_characters_are_written_out(
    name: str, embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        archive.add(structures / "1orc.pdb", name)
        info = tarfile.TarInfo(f"x{name}")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"wrong"))
    run = embedder.embed_many(tmp_path / "a.tar", on_error="skip")
    assert [e.id for e in run] == [f"{name.removesuffix('.pdb')}_A"]
    assert run.skipped[0].reason.isprintable() and run.skipped[0].source.endswith(name)
    command = [sys.executable, "-m", "protemb_sdk.cli", "embed", str(tmp_path / "a.tar"), "-o"]
    done = subprocess.run([*command, str(tmp_path / "out.npz")], capture_output=True, text=True, check=True)
    assert "not a structure file" in done.stderr
    assert all(line.isprintable() for line in done.stderr.splitlines())
