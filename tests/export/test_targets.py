"""No command of `protemb-export` overwrites its input; names are checked before the work."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from protemb_export.cli import app

# Arguments of each command except the output, and its input files. The files have no valid content.
READS = {
    "model": ("model b.ckpt --verify c.arrow --judgement j.json", ["b.ckpt", "c.arrow", "j.json"]),
    "int8": (
        "int8 c.ckpt m.onnx --corpus c.arrow",
        ["c.ckpt", "m.onnx", "m-score.onnx", "m-gpu.onnx", "c.arrow"],
    ),
    "half": ("half b.ckpt m.onnx --corpus c.arrow", ["b.ckpt", "m.onnx", "m-score.onnx", "c.arrow"]),
    "head": ("head b.ckpt --verify c.arrow", ["b.ckpt", "c.arrow"]),
    "finetune": (
        "finetune --labels l.csv --structures s --model m.onnx --unfreeze b.ckpt",
        ["l.csv", "s/1.pdb", "m.onnx", "m-score.onnx", "b.ckpt"],
    ),
    "card": ("card m.onnx", ["m.onnx"]),
    "released": ("released b.ckpt --structure s/1.pdb --embedding e.npz", ["b.ckpt", "s/1.pdb", "e.npz"]),
}
SIDES = {
    "model": ["score", "gpu"],
    "released": ["score", "gpu"],
    "finetune": ["encoder"],
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "s").mkdir()
    for name in {name for _, names in READS.values() for name in names}:
        (tmp_path / name).write_text("mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refused(line: str) -> str:
    before = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    result = CliRunner().invoke(app, line.split())
    assert result.exit_code == 1
    assert before == {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    return str(result.exception)


@pytest.mark.parametrize("command", READS)
def test_an_input_is_not_overwritten_by_name_or_link(here: Path, command: str) -> None:
    line, names = READS[command]
    ending = "md" if command == "card" else "onnx"
    for name in names:
        if not name.endswith(".onnx") or command == "card":
            assert f"{name}: end the name in .{ending}" in refused(f"{line} -o {name}")
        else:
            assert f"{name}: would overwrite the input {name}" in refused(f"{line} -o {name}")
        (here / f"link.{ending}").symlink_to(here / name)
        assert f"link.{ending}: would overwrite the input {name}" in refused(f"{line} -o link.{ending}")
        (here / f"link.{ending}").unlink()


@pytest.mark.parametrize(("command", "side"), [(name, side) for name in SIDES for side in SIDES[name]])
def test_an_input_is_not_overwritten_by_an_additional_graph(here: Path, command: str, side: str) -> None:
    line, names = READS[command]
    (here / f"x-{side}.onnx").symlink_to(here / names[0])
    assert f"x-{side}.onnx: would overwrite the input {names[0]}" in refused(f"{line} -o x.onnx")


def test_an_encoder_that_is_the_input_is_not_removed(here: Path) -> None:
    (here / "x-encoder.onnx").write_text("mine")
    line = "finetune --labels l.csv --structures s --model x-encoder.onnx -o x.onnx"
    assert "x-encoder.onnx: would overwrite the input x-encoder.onnx" in refused(line)


def test_the_graph_for_gpus_does_not_overwrite_the_model(here: Path) -> None:
    (here / "y.onnx").write_text("mine")
    (here / "y-gpu.onnx").symlink_to(here / "y.onnx")
    assert "y-gpu.onnx: would overwrite the input y.onnx" in refused("gpu y.onnx --verify c.arrow")


@pytest.mark.parametrize("command", READS)
@pytest.mark.parametrize("out", [".", "/", ".."])
def test_a_folder_as_output_is_refused(here: Path, command: str, out: str) -> None:
    assert "end the name in" in refused(f"{READS[command][0]} -o {out}")
