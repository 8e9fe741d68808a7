"""`protemb sites` and readouts on the command line."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest

from .conftest import COLUMNS, Run, table_of


def test_a_folder_on_the_command_line(protemb: Run, head: Path, structures: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "sites.csv"
    folder.mkdir()
    for name in ("1a8o.cif", "1lcd.pdb.gz", "pdb1gdr.ent"):
        shutil.copy(structures / name, folder)
    (folder / "bad.pdb").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = protemb("sites", folder, "-o", out, "--head", head, "--workers", 2, "--threads", 2)
    assert done.status == 0 and not done.errors
    rows = table_of(out)
    assert list(rows[0]) == COLUMNS
    assert list(dict.fromkeys((r["source"], r["chain"]) for r in rows)) == [
        (str(folder / "1a8o.cif"), "A"),
        (str(folder / "1lcd.pdb.gz"), "A"),
        (str(folder / "pdb1gdr.ent"), ""),
    ]
    assert f"skipped: {folder / 'bad.pdb'}: this is a PNG image" in done.err
    assert f"skipped: {folder / '1lcd.pdb.gz'}, chain B: is nucleic acid (DNA), not protein" in done.err
    sites = sum(r["site"] == "1" for r in rows)
    assert f"3 chains of 3 files, {len(rows)} residues, {sites} site" in done.out
    assert done.out.rstrip().endswith(f"-> {out}")


def test_one_chain_and_a_structure_on_the_command_line(
    protemb: Run, head: Path, structures: Path, tmp_path: Path
) -> None:
    source, out = structures / "2beg.pdb.gz", tmp_path / "x.csv"
    picture = tmp_path / "x.cif.gz"
    done = protemb("sites", source, "-o", out, "--head", head, "--structure", picture, "--chain", "C", "-q")
    assert (done.status, done.out, done.err) == (0, "", "")
    rows = table_of(out)
    assert {r["chain"] for r in rows} == {"C"} and len(rows) == 26
    written = gemmi.make_structure_from_block(
        gemmi.cif.read_string(gzip.decompress(picture.read_bytes()).decode())[0]
    )
    found = [r[0].b_iso for r in written[0]["C"]]
    np.testing.assert_allclose(found, [100 * float(r["probability"]) for r in rows], atol=0.006)
    assert max(a.b_iso for r in written[0]["A"] for a in r) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["{s}/gone.pdb"], "gone.pdb: no such file or folder"),
        (["{t}/bad.pdb"], "this is a PNG image"),
        (["{s}/2beg.pdb.gz", "--chain", "Q"], "there is no chain 'Q'"),
        (["{s}/1orc.pdb", "{s}/1a8o.cif", "--chain", "A"], "--chain goes with exactly one file"),
        (["{s}/1orc.pdb", "{s}/1a8o.cif", "--structure", "{t}/y.pdb"], "--structure goes with exactly one"),
        (["{s}/1orc.pdb", "--structure", "{t}/y.txt"], "end the name in .pdb or .cif"),
        (["{s}/1orc.pdb", "--structure", "{t}/no/y.pdb"], "does not exist; make it first"),
        (["{s}/1orc.pdb", "--structure", "{t}/x.cif", "-o", "{t}/x.cif"], "is named twice"),
        (["{s}/1orc.pdb", "--head", "nothing"], "no head named 'nothing'"),
        (["{s}/1orc.pdb", "--device", "gpu"], "no device named 'gpu'"),
        (["{s}/1orc.pdb", "-o", "{t}/no/x.csv"], "does not exist; make it first"),
        (["{t}/bad.pdb", "{t}/worse.pdb"], "none of the 2 inputs could be embedded"),
    ],
)
def test_bad_input_gives_one_error_and_no_file(
    protemb: Run, head: Path, structures: Path, tmp_path: Path, arguments: list[str], words: str
) -> None:
    for name in ("bad.pdb", "worse.pdb"):
        (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n")
    given = [a.format(s=structures, t=tmp_path) for a in arguments]
    extra = [*([] if "-o" in given else ["-o", tmp_path / "x.csv"])]
    extra += [] if "--head" in given else ["--head", head]
    done = protemb("sites", *given, *extra)
    assert done.status == 1 and len(done.errors) == 1 and words in done.errors[0], done.err
    assert "Traceback" not in done.err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.pdb", "worse.pdb"]


def test_a_structure_that_cannot_be_written_leaves_no_table(
    protemb: Run, head: Path, structures: Path, tmp_path: Path
) -> None:
    structure = gemmi.read_structure(str(structures / "1a8o.cif"))
    structure[0][0].name = "LONG"
    source = tmp_path / "long.cif"
    structure.make_mmcif_document().write_file(str(source))
    done = protemb(
        "sites", source, "-o", tmp_path / "x.csv", "--head", head, "--structure", tmp_path / "x.pdb"
    )
    assert done.status == 1 and len(done.errors) == 1 and "write .cif" in done.errors[0]
    assert list(tmp_path.iterdir()) == [source]


def test_the_command_does_not_import_torch_or_onnx(head: Path, structures: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from protemb_sdk import cli\n"
        "try: cli.main()\n"
        "except SystemExit as e: assert not e.code, e.code\n"
        "heavy = {'torch', 'lightning', 'onnx', 'sklearn', 'biotite', 'pyarrow'}\n"
        "heavy &= set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    out = tmp_path / "x.csv"
    arguments = ["sites", structures / "1a8o.cif", "-o", out, "--head", head]
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "1 chain of 1 file, 70 residues" in done.stdout and len(table_of(out)) == 70


def test_readouts_on_the_command_line(protemb: Run, structures: Path, tmp_path: Path) -> None:
    out, names = tmp_path / "x.npz", ["--readout", "contact", "--readout", "mean", "--readout", "contact"]
    done = protemb("embed", structures / "2beg.pdb.gz", *names, "-o", out, "-q")
    assert (done.status, done.out) == (0, "")
    with np.load(out) as file:
        assert file["readout_contact"].shape == file["readout_mean"].shape == (5 * 26, 64)
        assert file["residue"].shape == (5 * 26, 395)
        contact = file["readout_contact"]
    parquet = pytest.importorskip("pyarrow.parquet")
    done = protemb("embed", structures / "2beg.pdb.gz", *names, "-o", tmp_path / "x.parquet", "-q")
    table = parquet.read_table(tmp_path / "x.parquet").to_pydict()
    np.testing.assert_allclose(np.concatenate(table["readout_contact"]), contact, atol=1e-6)
    done = protemb("embed", structures / "1a8o.cif", "--readout", "min", "-o", tmp_path / "y.npz")
    assert done.status == 1 and "there is no readout 'min'; there are mean, contact" in done.errors[0]
    assert not (tmp_path / "y.npz").exists()
