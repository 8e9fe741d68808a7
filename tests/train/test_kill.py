"""A run that is killed by a signal can be resumed without a change of the result."""

import csv
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from protemb_train.network.checkpoint import read_tensors

CONFIG = """
preset = "base-1"
[network]
channels = 8
bottleneck = 4
dilations = [1, 2]
[training]
batch = 4
crops = [16, 24]
ema = 0.9
"""
STEPS = 260  # checkpoints at 100, 200 and the end


@pytest.fixture
def start(tmp_path, real_corpus):
    (tmp_path / "tiny.toml").write_text(CONFIG)

    def run(out):
        command = [sys.executable, "-m", "protemb_train.cli", "pretrain", "--corpus", real_corpus.path]
        command += ["-o", tmp_path / out, "--config", tmp_path / "tiny.toml", "--steps", STEPS]
        command += ["--threads", 1, "--no-progress"]
        with (tmp_path / f"{out}.log").open("a") as log:
            return subprocess.Popen([str(part) for part in command], stderr=log)

    return run


def losses(folder):
    """Return the loss of each step over all parts of a run; later parts replace earlier ones."""
    found = {}
    tables = [*sorted(folder.glob("metrics-before-step-*.csv")), folder / "metrics.csv"]
    for table in tables:
        with table.open() as file:
            found |= {int(row["step"]): row["loss"] for row in csv.DictReader(file) if row["loss"]}
    return found


def test_a_run_resumed_after_sigkill_equals_an_uninterrupted_run(start, tmp_path):
    unbroken = start("unbroken")
    assert unbroken.wait(timeout=300) == 0, (tmp_path / "unbroken.log").read_text()

    killed, last = start("killed"), tmp_path / "killed" / "last.ckpt"
    while not last.exists() and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(0.2)  # some steps after the checkpoint, which are repeated after the kill
    os.kill(killed.pid, signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    at = read_tensors(last)["global_step"]
    assert 100 <= at < STEPS
    resumed = start("killed")
    assert resumed.wait(timeout=300) == 0, (tmp_path / "killed.log").read_text()

    a, b = read_tensors(tmp_path / "unbroken" / "last.ckpt"), read_tensors(last)
    assert a["global_step"] == b["global_step"] == STEPS
    for part in ("state_dict", "current_model_state"):
        assert all(torch.equal(tensor, b[part][name]) for name, tensor in a[part].items())
    for mine, other in zip(a["optimizer_states"], b["optimizer_states"], strict=True):
        for name, values in mine["state"].items():
            assert all(torch.equal(values[key], other["state"][name][key]) for key in values)
    whole, pieces = losses(tmp_path / "unbroken"), losses(tmp_path / "killed")
    assert all(pieces[step] == loss for step, loss in whole.items() if step >= at)
