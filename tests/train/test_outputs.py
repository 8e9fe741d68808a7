"""No command of `protemb-train` overwrites its input or an unrelated file."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from protemb_train import cli

Command = Callable[..., str]


@pytest.fixture
def refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command that must be refused and must not change files, and return its output."""
    monkeypatch.chdir(tmp_path)
    for name in ("in.ckpt", "in.arrow", "in.json", "in.md", "in.png", "in.toml"):
        Path(name).write_text(f"mine: {name}")
    os.symlink("in.ckpt", "link.ckpt")
    os.link("in.arrow", "other.ckpt")

    def command(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["protemb-train", *line.split()])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert done.value.code == 1
        for path in tmp_path.iterdir():
            assert path.name in ("link.ckpt", "other.ckpt") or path.read_text() == f"mine: {path.name}"
        assert os.path.samefile("in.arrow", "other.ckpt")
        return capsys.readouterr().err

    return command


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("weights in.ckpt -o in.ckpt", "in.ckpt"),
        ("weights in.ckpt -o link.ckpt", "in.ckpt"),
        ("untrained -o other.ckpt --corpus in.arrow", "in.arrow"),
        ("judge in.json --corpus in.arrow -o in.json", "in.json"),
        ("judge in.ckpt --corpus in.md -o in.json", "in.md"),
        ("compare a=in.md -o in.md", "in.md"),
        ("compare a=in.png -o in.md", "in.png"),
    ],
)
def test_an_output_does_not_overwrite_an_input(refused: Command, line: str, file: str) -> None:
    assert f"would overwrite the input {file}; use another name" in refused(line)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("judge in.ckpt --corpus in.arrow -o in.json", "in.md"),
        ("compare a=in.json -o in.md", "in.png"),
        ("probe --corpus in.arrow --encoder a=in.ckpt -o in.json", "in.md"),
    ],
)
def test_additional_outputs_do_not_overwrite_other_files(refused: Command, line: str, file: str) -> None:
    assert f"{file}: is a file of another kind and would be overwritten" in refused(line)


@pytest.mark.parametrize(
    ("line", "ending"),
    [
        ("weights in.ckpt -o in.arrow", ".ckpt"),
        ("untrained -o in.arrow --corpus in.arrow", ".ckpt"),
        ("judge in.ckpt --corpus in.arrow -o j.md", ".json"),
        ("compare a=in.json -o j.json", ".md"),
        ("judge in.ckpt --corpus in.arrow -o .", ".json"),
        ("probe --corpus in.arrow --encoder a=in.ckpt -o .", ".json"),
        ("compare a=in.json -o /", ".md"),
        ("corpus in.arrow -o .", ".arrow"),
    ],
)
def test_outputs_with_a_wrong_suffix_are_refused(refused: Command, line: str, ending: str) -> None:
    assert f": end the name in {ending}" in refused(line)
