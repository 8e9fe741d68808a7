"""Generation of models in several processes: equal results, and no process or partial file after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from protemb_sdk._structure.chain import ALPHABET
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.downstream.quality.generate import Plan, generate

from .conftest import CorpusMaker


@pytest.fixture
def corpus(make_corpus: CorpusMaker, traces: list[Trace]) -> Corpus:
    """Six copies of a real chain, each in its own cluster."""
    letters = "".join(ALPHABET[t] for t in traces[0].residue_type)
    return make_corpus([(letters, traces[0].ca_coords, cluster) for cluster in range(6)])


def test_models_do_not_depend_on_the_number_of_workers(corpus: Corpus) -> None:
    plan = Plan(natives=4, decoys=3, kinds=("hinges", "noisy"))
    alone, together = ([d for of in generate(corpus.path, plan, n) for d in of] for n in (1, 2))
    assert [(d.target, d.id) for d in alone] == [(d.target, d.id) for d in together] and len(alone) >= 6
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.ca_coords, b.ca_coords)


Begun = tuple["subprocess.Popen[str]", list[psutil.Process]]


@pytest.fixture
def begun(corpus: Corpus) -> Iterator[Begun]:
    """A command that would run for hours, and its two workers, which are processing a native."""
    if sys.platform != "linux":
        pytest.skip("what a process has loaded is known on Linux")
    out = corpus.path.with_name("models.npz")
    out.write_bytes(b"of yesterday")
    options = ["--natives", 4, "--models", 1_000_000, "--kind", "denoised", "--workers", 2]
    command = ["-m", "protemb_train.cli", "quality", "decoys", corpus.path, "-o", out, *options]
    run = subprocess.Popen(
        [sys.executable, *map(str, command)], stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    workers: list[psutil.Process] = []
    try:
        while len(workers) < 2:
            assert run.poll() is None, run.communicate()
            workers = [child for child in psutil.Process(run.pid).children() if at_work(child)]
            time.sleep(0.05)
        yield run, workers
    finally:
        run.kill()
        run.wait()
        _, alive = psutil.wait_procs(workers, timeout=20)
        for worker in alive:
            worker.kill()
        run.communicate()
    assert alive == []
    assert sorted(path.name for path in out.parent.iterdir()) == ["corpus.arrow", "models.npz"]
    assert out.read_bytes() == b"of yesterday"


def at_work(process: psutil.Process) -> bool:
    """Return whether a process has loaded ONNX Runtime, which it needs for the first model."""
    try:
        return any("onnxruntime" in one.path for one in process.memory_maps())
    except psutil.Error:  # the process has just started
        return False


def test_a_killed_worker_is_reported(begun: Begun, corpus: Corpus) -> None:
    run, workers = begun
    workers[0].kill()
    _, output = run.communicate(timeout=180)
    assert run.returncode == 1
    note = f"note: {corpus.path.with_name('models.npz')} exists and will be replaced"
    error = f"error: {corpus.path}: a worker process died (possibly out of memory); use fewer workers"
    assert " ".join(output.split()) == f"{note} {error}"


def test_workers_end_with_a_killed_parent(begun: Begun) -> None:
    run, _ = begun
    run.kill()  # the fixture `begun` checks that no process is left


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_stops_without_finishing_its_natives(begun: Begun, number: signal.Signals) -> None:
    run, _ = begun
    os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
    run.communicate(timeout=180)
    assert run.returncode in (128 + number, -number)
