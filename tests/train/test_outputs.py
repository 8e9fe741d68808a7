"""No command of `protemb-train` writes over what it reads, or over what it does not know."""

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
    """Run a command that must be refused, and change nothing; return what it said."""
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
def test_no_output_is_an_input(refused: Command, line: str, file: str) -> None:
    assert f"would overwrite the input {file}; use another name" in refused(line)


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("judge in.ckpt --corpus in.arrow -o in.json", "in.md"),
        ("compare a=in.json -o in.md", "in.png"),
        ("probe --corpus in.arrow --encoder a=in.ckpt -o in.json", "in.md"),
    ],
)
def test_what_goes_beside_an_output_takes_no_other_place(refused: Command, line: str, file: str) -> None:
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
def test_an_output_has_the_ending_of_what_it_is(refused: Command, line: str, ending: str) -> None:
    assert f": end the name in {ending}" in refused(line)
