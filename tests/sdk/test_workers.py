"""Worker processes: they end with the run; a worker that dies gives an error and does not block the run."""

from __future__ import annotations

import itertools
import multiprocessing
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import protemb_sdk._embed.many as module
from protemb_sdk import Embedder, EmbeddingError, ModelError


def test_workers_end_when_the_run_is_closed_early(embedder: Embedder, structures: Path) -> None:
    import multiprocessing

    run = embedder.embed_many(itertools.repeat(structures / "3wup.json.gz"), workers=2)
    next(run)
    assert multiprocessing.active_children()
    run.close()
    assert not multiprocessing.active_children()


def test_workers_end_in_the_middle_of_a_chain(
    structures: Path, random_walk: Callable[..., tuple[np.ndarray, str]]
) -> None:
    embedder = Embedder("base", "cpu", threads=2)
    long = [embedder.read(random_walk(2500)).chains[0]] * 4  # about 10 s each
    run = embedder.embed_many([structures / "1orc.pdb", *long], workers=2)
    next(run)
    time.sleep(1)  # both workers are busy
    start = time.monotonic()
    run.close()
    assert time.monotonic() - start < 4 and not multiprocessing.active_children()


def test_killed_workers_with_large_inputs_do_not_block_the_run(
    embedder: Embedder, random_walk: Callable[..., tuple[np.ndarray, str]]
) -> None:
    """Python before 3.11.5 blocks here (https://github.com/python/cpython/issues/94777)."""
    chains = [embedder.read(random_walk(2500)).chains[0]] * 8  # each larger than the buffer of a pipe
    run = embedder.embed_many(chains, workers=2)
    timer = threading.Timer(4, lambda: [child.kill() for child in multiprocessing.active_children()])
    timer.start()
    start = time.monotonic()
    with pytest.raises(EmbeddingError, match="a worker process died"):
        list(run)
    timer.join()
    assert time.monotonic() - start < 60 and not multiprocessing.active_children()


def test_the_error_of_a_worker_that_cannot_start_is_raised(
    embedder: Embedder, structures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = embedder.worker_arguments(2) | {"model": "gone.onnx"}
    monkeypatch.setattr(embedder, "worker_arguments", lambda workers: arguments)
    run = embedder.embed_many([structures / "1orc.pdb"], workers=2, on_error="skip")
    with pytest.raises(ModelError, match=r"no model named 'gone\.onnx'"):
        next(run)


def test_a_worker_that_dies_gives_an_embedding_error() -> None:
    from concurrent.futures import Future
    from concurrent.futures.process import BrokenProcessPool

    job: Future[module.Outcome] = Future()
    job.set_exception(BrokenProcessPool("gone"))
    with pytest.raises(EmbeddingError, match=r"a worker process died at or near x\.cif .* try fewer workers"):
        module._result("x.cif", job)


def test_session_options_with_workers_are_refused_at_once(structures: Path) -> None:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    embedder = Embedder(device="cpu", session_options=options)
    with pytest.raises(EmbeddingError, match="session_options cannot be sent to workers"):
        embedder.embed_many([structures / "1orc.pdb"], workers=2)


def test_a_script_without_a_main_guard_gets_a_clear_error(structures: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "from protemb_sdk import Embedder, ProtembError\n"
        "try:\n"
        f"    print(len(list(Embedder().embed_many([{str(structures / '1orc.pdb')!r}], workers=2))))\n"
        "except ProtembError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=120)
    assert "if __name__ == '__main__'" in done.stdout + done.stderr


ENDING = """
import sys
import numpy as np
from protemb_sdk import Embedder
if __name__ == "__main__":
    embedder = Embedder("base", "cpu", threads=2)
    coords = np.random.default_rng(0).normal(size=(1000, 3)).cumsum(axis=0) * 2.2
    chain = embedder.read((coords, "A" * 1000)).chains[0]
    for embedding in embedder.embed_many([chain] * 60, workers=2):  # minutes
        raise SystemExit("enough")
"""


CLOSED_WITHIN = """
import threading, time
from dataclasses import dataclass
from protemb_sdk import Chain, Embedder, read_chains
import sys
closed = threading.Event()
@dataclass(frozen=True)
class Closing(Chain):
    def __reduce__(self):  # in the thread of the pool that sends work
        if threading.current_thread() is not threading.main_thread() and not closed.is_set():
            try:
                run.close()
                closed.set()
            except ValueError:  # the main thread is in the run
                pass
        return (Chain.from_arrays, (self.ca_coords, self.sequence))
if __name__ == "__main__":
    chain = read_chains(sys.argv[1]).chains[0]
    given = Closing(**{name: getattr(chain, name) for name in Chain.__dataclass_fields__})
    run = iter(Embedder("small-1", "cpu", threads=1).embed_many([given] * 200, workers=2))
    next(run)
    print(closed.wait(20), flush=True)
"""


def test_a_run_can_be_closed_in_a_thread_of_its_pool(structures: Path, tmp_path: Path) -> None:
    """The garbage collector may do so when a script ends; the thread cannot wait for itself."""
    script = tmp_path / "closing.py"
    script.write_text(CLOSED_WITHIN)
    command = [sys.executable, str(script), str(structures / "1orc.pdb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout.strip()) == (0, "True"), done.stderr


def test_a_script_that_ends_does_not_wait_for_pending_tasks() -> None:
    done = subprocess.run([sys.executable, "-c", ENDING], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "enough" in done.stderr


HALF = """
import os, signal, struct, sys, time
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from protemb_sdk._base.workers import WorkerPool

def half(connection, message):
    os.write(connection.fileno(), struct.pack("!i", len(message)) + bytes(message[: len(message) // 2]))
    os.kill(os.getpid(), signal.SIGKILL)

def work():
    Connection._send_bytes = half
    return "result"

if __name__ == "__main__":
    with WorkerPool(2) as pool:
        jobs = [pool.submit(work), pool.submit(time.sleep, 50)]
        print([type(job.exception()) is BrokenProcessPool for job in jobs])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_worker_killed_while_it_sends_a_result_does_not_block_the_run(tmp_path: Path) -> None:
    """Python waits for the rest of the message: the other worker could still write to the pipe."""
    script = tmp_path / "half.py"
    script.write_text(HALF)
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "[True, True]", "")


HANDLES = """
import os, resource, sys
from protemb_sdk import Embedder, EmbeddingError
if __name__ == "__main__":
    embedder = Embedder("base", "cpu", threads=1)
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    least = len(os.listdir("/proc/self/fd"))
    for more in range(2, 14, 3):
        resource.setrlimit(resource.RLIMIT_NOFILE, (least + more, most))
        try:
            list(embedder.embed_many(sys.argv[1:] * 9, workers=3))
        except EmbeddingError as error:
            print(error)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits and /proc of Linux")
def test_too_few_file_handles_for_workers_give_one_error(structures: Path) -> None:
    command = [sys.executable, "-c", HANDLES, str(structures / "1orc.pdb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    output = "worker processes cannot be started (Too many open files); try fewer workers"
    assert done.stdout.splitlines() == [output] * 4
