"""Models made by several processes: as by one, and a kill leaves nobody at work and nothing half-written."""

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
    """Six copies of a real chain, each in a cluster of its own."""
    letters = "".join(ALPHABET[t] for t in traces[0].residue_type)
    return make_corpus([(letters, traces[0].ca_coords, cluster) for cluster in range(6)])


def test_workers_change_nothing(corpus: Corpus) -> None:
    plan = Plan(natives=4, decoys=3, kinds=("hinges", "noisy"))
    alone, together = ([d for of in generate(corpus.path, plan, n) for d in of] for n in (1, 2))
    assert [(d.target, d.id) for d in alone] == [(d.target, d.id) for d in together] and len(alone) >= 6
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.ca_coords, b.ca_coords)


Begun = tuple["subprocess.Popen[str]", list[psutil.Process]]


@pytest.fixture
def begun(corpus: Corpus) -> Iterator[Begun]:
    """The command, at work for hours, and its two workers, in the middle of a native."""
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
    """Tell whether a process has loaded what repairs the first model."""
    try:
        return any("onnxruntime" in one.path for one in process.memory_maps())
    except psutil.Error:  # it has just begun
        return False


def test_a_killed_worker_is_one_sentence(begun: Begun, corpus: Corpus) -> None:
    run, workers = begun
    workers[0].kill()
    _, output = run.communicate(timeout=60)
    assert run.returncode == 1
    sentence = "a worker process died while it made models (out of memory?); try fewer workers"
    assert " ".join(output.split()) == f"error: {corpus.path}: {sentence}"


def test_workers_end_with_a_killed_parent(begun: Begun) -> None:
    run, _ = begun
    run.kill()  # what must be true then stands at the end of `begun`


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_does_not_wait_for_natives_at_work(
    begun: Begun, number: signal.Signals
) -> None:
    run, _ = begun
    os.killpg(run.pid, number) if number == signal.SIGINT else run.send_signal(number)
    run.communicate(timeout=20)
    assert run.returncode in (128 + number, -number)
