"""Command line: one call embeds; bad input gives one error message and exit status 1."""

from __future__ import annotations

import gzip
import re
import shutil
import subprocess
import sys
from pathlib import Path

import gemmi
import numpy as np
import pytest

from protemb_sdk import StructureError, __version__, list_models, read_chains
from protemb_sdk._cli.summary import Notes, report_skipped
from protemb_sdk._model.models import find_model
from protemb_sdk._structure.chain import Skipped

from .conftest import Result

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256))


# --- valid input ----------------------------------------------------------------------------------


def test_one_file_is_embedded_in_a_subprocess(structures: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.npz"
    done = subprocess.run(
        [sys.executable, "-m", "protemb_sdk.cli", "embed", structures / "1a8o.cif", "-o", out, "-v"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "1a8o_A" in done.stdout and "(70, 395)" in done.stdout
    assert f"model_sha256={find_model('base').sha256['base.onnx']}" in done.stdout
    assert f"1 chain of 1 file, 70 residues, 395 channels a residue, 128 a protein -> {out}" in done.stdout
    with np.load(out) as file:
        assert file["residue"].shape == (70, 395)


def test_a_folder_with_good_and_bad_files(protemb, structures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("1a8o.cif", "1lcd.pdb.gz", "pdb1gdr.ent"):
        shutil.copy(structures / name, folder)
    (folder / "bad.pdb").write_bytes(PNG)
    out = tmp_path / "out.npz"
    done = protemb("embed", folder, "-o", out)
    assert done.status == 0 and not done.errors
    with np.load(out) as file:
        assert file["id"].tolist() == ["1a8o_A", "1lcd_A", "pdb1gdr"]
        assert file["skipped_source"].tolist() == [
            str(folder / "1lcd.pdb.gz"), str(folder / "1lcd.pdb.gz"), str(folder / "bad.pdb"),
        ]  # fmt: skip
    assert f"skipped: {folder / 'bad.pdb'}: this is a PNG image" in done.err
    assert f"skipped: {folder / '1lcd.pdb.gz'}, chain B: is nucleic acid (DNA), not protein" in done.err
    assert "note: pdb1gdr: columns right of 72 were overlooked" in done.err and "4/4" in done.err
    assert "3 chains of 3 files" in done.out and "model_sha256" not in done.out  # only with --verbose
    strict = protemb("embed", folder, "-o", tmp_path / "strict.npz", "--strict")
    assert strict.status == 1 and len(strict.errors) == 1 and "PNG" in strict.errors[0]
    assert not (tmp_path / "strict.npz").exists()


def test_options_chain_pair_workers_and_quiet(protemb, structures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out.npz"
    done = protemb("embed", structures / "2beg.pdb.gz", "--chain", "C", "--pair", "-o", out)
    assert done.status == 0 and "2beg_C" in done.out and "(26, 26, 64)" in done.out
    with np.load(out) as file:
        assert file["id"].tolist() == ["2beg_C"] and file["pair"].shape == (26 * 26, 64)
    pytest.importorskip("pyarrow")
    parquet = tmp_path / "out.parquet"
    done = protemb("embed", structures / "2beg.pdb.gz", "-o", parquet, "-q", "--workers", 2, "--threads", 2)
    assert (done.status, done.out, done.err) == (0, "", "") and parquet.stat().st_size > 0


def test_commands_doctor_and_models_and_option_version(protemb) -> None:  # type: ignore[no-untyped-def]
    done = protemb("doctor", "--device", "cpu")
    assert done.status == 0 and "FAIL" not in done.out
    for word in ("ONNX Runtime", "providers", "threads", "session", "SHA-256", "reference vector"):
        assert word in done.out
    sha256 = list_models()[0].sha256["base.onnx"]
    assert sha256 not in done.out and f"SHA-256 {sha256[:12]}" in done.out
    assert f"SHA-256 {sha256}" in protemb("doctor", "--device", "cpu", "-v").out
    assert sha256 in protemb("models", "-v").out
    done = protemb("models")
    assert sha256[:12] not in done.out
    assert done.status == 0 and done.out.startswith("base") and "sites  interface sites" in done.out
    assert protemb("--version").out == f"protemb-sdk {__version__}\n"
    assert protemb("embed").status == 2


def test_doctor_names_the_failed_check(protemb, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    done = protemb("doctor", "--model", tmp_path / "no.onnx")
    assert done.status == 1 and done.errors == ["error: doctor found a problem in: session"]
    assert "no model named" in done.out


def test_many_skipped_inputs_are_counted_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    short = "has fewer than min_residues=3"
    report_skipped(
        [Skipped.of(StructureError("not a structure file", f"{i}.pdb"), f"{i}.pdb") for i in range(1200)]
        + [Skipped("x.pdb", "A", f"has {i} residues, fewer than min_residues=3", kind=short) for i in (1, 2)],
        kept_in=Path("out.npz"),
    )
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert "1,200 inputs  not a structure file" in lines
    assert f"2 chains  {short}" in lines and len(lines) == 3
    assert lines[0] == "1,200 inputs and 2 chains skipped (details: out.npz):"


def test_skipped_inputs_are_listed_or_twenty_reasons_are_counted(
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = [chr(ord("a") + i) * 4 for i in range(22)]
    skipped = [Skipped(f"{name}.pdb", "", f"is {name}") for name in names]
    report_skipped(skipped)
    assert capsys.readouterr().err.splitlines() == [f"skipped: {name}.pdb: is {name}" for name in names]
    report_skipped(skipped, kept_in=Path("out.npz"))
    lines = [line.strip() for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 22 and lines[-1] == "2 inputs  for other reasons"


def test_a_note_of_several_chains_is_one_line(structures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = Notes()
    for name in ("2beg.pdb.gz", "1orc.pdb"):
        for chain in read_chains(structures / name, min_plddt=70).chains:
            notes.add(chain)
    notes.report()
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: 2beg_A, 2beg_B, 2beg_C and 3 more: an experimental structure")


def test_paragraphs_of_the_help_are_wrapped_once(monkeypatch: pytest.MonkeyPatch) -> None:
    program = [sys.executable, "-m", "protemb_sdk.cli", "search", "--help"]
    monkeypatch.setenv("COLUMNS", "80")
    shown = subprocess.run(program, capture_output=True, text=True, timeout=60).stdout
    (paragraph,) = [part for part in re.split(r"\n *\n", shown) if "Candidates are" in part]
    lines = [line.strip() for line in paragraph.splitlines()]
    assert len(lines) > 2
    for line, after in zip(lines, lines[1:], strict=False):  # the next word had no room
        assert len(f" {line} {after.split()[0]} ") > 80


def test_many_notes_are_counted_by_kind(
    protemb, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr("protemb_sdk._cli.summary.SHOWN", 0)
    done = protemb("embed", structures / "pdb1gdr.ent", "-o", tmp_path / "out.npz")
    output = " ".join(done.err.split())
    assert "notes (each is in the output file):" in output
    assert done.status == 0 and "1 chain for other reasons" in output  # because no kind is listed
    assert "pdb1gdr" not in done.out.splitlines()[0]


# --- bad input --------------------------------------------------------------------------------------


def dna_only(structures: Path) -> str:
    structure = gemmi.read_structure(str(structures / "1lcd.pdb.gz"))
    for model in structure:
        model.remove_chain("A")
    text: str = structure.make_pdb_string()
    return text


@pytest.fixture
def bad(structures: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "bad"
    (folder / "empty_folder").mkdir(parents=True)
    (folder / "empty.cif").write_bytes(b"")
    (folder / "truncated.cif.gz").write_bytes(gzip.compress((structures / "1a8o.cif").read_bytes())[:-500])
    (folder / "picture.pdb").write_bytes(PNG)
    (folder / "dna.pdb").write_text(dna_only(structures))
    lines = (structures / "1a8o.pdb").read_text().splitlines()
    for i, line in enumerate(lines):
        if line[12:16] == " CA ":
            lines[i] = line[:30] + "     nan" * 3 + line[54:]
    (folder / "nan.pdb").write_text("\n".join(lines))
    return folder


BAD_FILES = {
    "missing.cif": "no such file or folder",
    "empty_folder": "no structure file in this folder",
    "empty.cif": "the file is empty",
    "truncated.cif.gz": "the gzip stream is damaged or truncated",
    "picture.pdb": "this is a PNG image",
    "dna.pdb": "holds no protein chain to embed (chain B: is nucleic acid (DNA), not protein",
    "nan.pdb": "none with a position",
}


def is_one_clear_error(done: Result, out: Path, *words: str) -> None:
    assert done.status == 1
    assert len(done.errors) == 1, done.err
    assert "Traceback" not in done.err + done.out
    for word in words:
        assert word in done.errors[0]
    assert not out.exists()
    assert not [path for path in out.parent.iterdir() if out.name in path.name]


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_one_clear_error(protemb, bad: Path, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out.npz"
    is_one_clear_error(protemb("embed", bad / name, "-o", out), out, str(bad / name), BAD_FILES[name])


def test_only_bad_files_give_one_error_and_all_reasons(protemb, bad: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out.npz"
    files = [bad / name for name in BAD_FILES if name != "missing.cif"]
    done = protemb("embed", *files, "-o", out)
    is_one_clear_error(done, out, "none of the 6 inputs could be embedded", "was not written")
    for path in files:
        assert f"skipped: {path}: " in done.err


def test_a_missing_chain_is_an_error(protemb, structures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out.npz"
    done = protemb("embed", structures / "2beg.pdb.gz", "--chain", "Q", "-o", out)
    is_one_clear_error(done, out, "there is no chain 'Q'; protein chains: A, B, C, D, E")
    done = protemb("embed", structures / "2beg.pdb.gz", structures / "1orc.pdb", "--chain", "A", "-o", out)
    is_one_clear_error(done, out, "--chain goes with exactly one file")


def test_an_onnx_file_of_another_program_is_an_error(protemb, structures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    onnx = pytest.importorskip("onnx")
    tensor = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([], "foreign", [tensor], [tensor])
    model, out = tmp_path / "foreign.onnx", tmp_path / "out.npz"
    opset = onnx.helper.make_opsetid("", 17)
    model.write_bytes(onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString())
    done = protemb("embed", structures / "1a8o.cif", "--model", model, "-o", out)
    is_one_clear_error(done, out, str(model))
    (tmp_path / "text.onnx").write_text("no model")
    done = protemb("embed", structures / "1a8o.cif", "--model", tmp_path / "text.onnx", "-o", out)
    is_one_clear_error(done, out, "is not a complete ONNX file")


def test_device_cuda_without_cuda_is_an_error(protemb, structures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("there is CUDA here")
    out = tmp_path / "out.npz"
    done = protemb("embed", structures / "1a8o.cif", "--device", "cuda", "-o", out)
    is_one_clear_error(done, out, "cuda was asked for, but onnxruntime", "protemb-sdk[gpu]")


@pytest.mark.parametrize("name", ["out.csv", "no/out.npz", "no/store"])
def test_an_invalid_output_path_is_an_error(protemb, structures: Path, tmp_path: Path, name: str) -> None:  # type: ignore[no-untyped-def]
    done = protemb("embed", structures / "1a8o.cif", "-o", tmp_path / name)
    assert done.status == 1 and len(done.errors) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_embedded_into_a_store(protemb, structures: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    store, command = tmp_path / "store", ("embed", structures, structures / "3jqh.bcif.gz", "-o")
    done = protemb(*command, store, "--half", "--readout", "max", "--workers", 2)
    assert done.status == 0 and "18 chains of 12 inputs" in done.out.replace("\n", " ")
    again = protemb(*command, store, "--half", "--readout", "max")
    assert again.status == 0 and "already in it: 13 inputs; skipped: nothing" in again.out.replace("\n", " ")
    for options, output in (
        ((), "a store with readouts"),
        (("--chain", "A"), "a store takes whole files"),
        (("--level", "atom"), "--level is protein, residue or pair, not 'atom'"),
        (("--engine", "slurm"), "--engine is local or ray, not 'slurm'"),
    ):
        refused = protemb(*command, store, *options)
        assert refused.status == 1 and output in " ".join(refused.errors)
    assert protemb(*command, tmp_path).status == 1  # not a store, and not empty


def test_a_bad_file_gives_one_clear_error_in_a_subprocess(bad: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "protemb_sdk.cli", "embed", bad / "picture.pdb", "-o", tmp_path / "out.npz"],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    is_one_clear_error(Result(done.returncode, done.stdout, done.stderr), tmp_path / "out.npz", "PNG")
