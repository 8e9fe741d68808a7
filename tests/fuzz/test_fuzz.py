"""Nasty inputs end in an embedding or in an error of ours; what once did not, does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

DRIVER = Path(__file__).with_name("run.py")


def test_nasty_inputs_end_in_an_embedding_or_an_error_of_ours() -> None:
    command = [sys.executable, str(DRIVER), "--inputs", "1500", "--seed", "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "Seed 7, 1,500 inputs" in done.stdout and "| the process died | 0 |" in done.stdout
