"""Behaviour that the three command lines share: error messages and termination."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protemb_sdk._base.console import run


def test_a_missing_extra_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    def app() -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    with pytest.raises(SystemExit) as exit_:
        run(app)
    assert exit_.value.code == 1
    said = capsys.readouterr().err
    assert "error: this command needs torch; install the extras `cpu` and `train`: " in said
    assert "pip install '.[cpu,train]' in the repository of protemb, or 'protemb-sdk[cpu,train]'" in said


def test_an_unknown_module_is_an_internal_error() -> None:
    def app() -> None:
        raise ModuleNotFoundError("No module named 'nobody'", name="nobody")

    with pytest.raises(ModuleNotFoundError):
        run(app)


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGTERM to catch on Windows")
def test_sigterm_leaves_no_files(structures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "many"
    folder.mkdir()
    for i in range(300):
        (folder / f"{i:03d}.cif").symlink_to(structures / "1a8o.cif")
    command = [sys.executable, "-m", "protemb_sdk.cli", "embed", str(folder), "-o", str(tmp_path / "out.npz")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60

    def written() -> bool:  # the first embedding; the loading of native code cannot be interrupted
        return any(file.stat().st_size for file in tmp_path.glob(".out.npz.*/**/residue"))

    while not written() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert written()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert [path.name for path in tmp_path.iterdir()] == ["many"]
