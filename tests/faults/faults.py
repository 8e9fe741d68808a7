"""Fault injection: real faults while the command line writes a store.

    python tests/faults/faults.py -o tests/faults/results.md

Each test embeds files into a store, causes a fault, checks the message, removes the fault, runs the same
command again, and counts lost and duplicate rows. Tests that make a file system or a control group need root.
"""

from __future__ import annotations

import argparse
import math
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

STRUCTURES = Path(__file__).resolve().parents[1] / "structures"
FILES = 150
PATIENCE = 300
"""Seconds that a command may take on a busy machine."""

# The command line with small parts, so that some are written before the fault.
COMMAND = """
import sys
import protemb_sdk._store.writer as store
store.PART_CHAINS = 5
from protemb_sdk.cli import main
if __name__ == "__main__":
    main()
"""

CLOCK = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <sys/time.h>
#include <time.h>
static long jump(void) { static int calls; return ++calls / 50 % 2 ? -86400 : 86400 * 365; }
time_t time(time_t *to) {
  struct timespec now;
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  real(CLOCK_REALTIME, &now);
  if (to) *to = now.tv_sec + jump();
  return now.tv_sec + jump();
}
int clock_gettime(clockid_t which, struct timespec *to) {
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  int status = real(which, to);
  if (which == CLOCK_REALTIME) to->tv_sec += jump();
  return status;
}
int gettimeofday(struct timeval *to, void *zone) {
  (void)zone;
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  to->tv_sec = now.tv_sec;
  to->tv_usec = now.tv_nsec / 1000;
  return 0;
}
"""


class CannotTry(Exception):
    """The fault cannot be caused on this machine."""


@dataclass(frozen=True)
class Fault:
    """The effect of a fault: the message, and the rows of the store after the command is run again."""

    done: str
    seen: str
    lost: int = 0
    doubled: int = 0


class Place:
    """A folder of structure files, and runs of the command line on it."""

    def __init__(self, folder: Path, files: int = FILES) -> None:
        self.folder = folder
        self.files, self.store, script = folder / "files", folder / "disk" / "store", folder / "embed.py"
        self.files.mkdir()
        (folder / "disk").mkdir()
        content = (STRUCTURES / "1orc.pdb").read_bytes()
        for number in range(files):
            (self.files / f"{number:03}.pdb").write_bytes(content)
        script.write_text(COMMAND)
        self.command = [
            sys.executable, str(script), "embed", str(self.files), "-o", str(self.store), "--model", "small",
            "-q",
        ]  # fmt: skip

    def start(self, *options: object, **more: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self.command, *map(str, options)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **more,  # type: ignore[call-overload]
        )  # fmt: skip

    def begun(self, *options: object, parts: int = 3, **more: object) -> subprocess.Popen[str]:
        """Start, and wait until a few parts are written."""
        run = self.start(*options, **more)
        end = time.monotonic() + 60
        while len(list(self.store.glob("part-*.parquet"))) < parts:
            if run.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no parts were written: {run.communicate()}")
            time.sleep(0.002)
        return run

    def rows(self) -> Counter[str]:
        """Return how often each file is in the store, which must be readable."""
        import pyarrow.parquet as pq

        parts = sorted(self.store.glob("part-*.parquet"))
        return Counter(
            os.path.basename(source)
            for part in parts
            for source in pq.read_table(part, columns=["source"])["source"].to_pylist()
        )

    def again(self, done: str, output: str) -> Fault:
        """Run the command to its end, and count lost and duplicate rows."""
        self.rows()
        run = subprocess.run(self.command, capture_output=True, text=True, timeout=PATIENCE)
        assert run.returncode == 0, run.stderr
        rows = self.rows()
        names = {path.name for path in self.files.iterdir()}
        left = [name for name in os.listdir(self.store) if name.startswith(".")]
        assert not left, f"left behind: {left}"
        return Fault(done, output, len(names - rows.keys()), sum(rows.values()) - len(rows))


def sentence(run: subprocess.Popen[str], status: int = 1) -> str:
    """Return the error message of a run, which must be one sentence."""
    try:
        out, err = run.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        run.kill()
        run.communicate()
        raise
    assert run.returncode == status, (run.returncode, out, err)
    lines = [line for line in err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1 and "Traceback" not in err, err
    return lines[0]


@contextmanager
def mounted(folder: Path, options: str) -> Iterator[None]:
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True
    )
    if done.returncode:
        raise CannotTry(f"mounting is not allowed here: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def remount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", str(folder)], check=True)


def disk_full(folder: Path) -> Fault:
    place = Place(folder)
    disk = place.store.parent
    with mounted(disk, "size=256k"):
        output = sentence(place.start())
        assert "cannot be written" in output and "space" in output, output
        assert place.rows(), "rows written before the disk was full"
        remount(disk, "size=64m")
        return place.again("file system of 256 KiB under the store", output)


def disk_full_one_file(folder: Path) -> Fault:
    place = Place(folder, 20)
    disk = place.store.parent
    with mounted(disk, "size=16k"):
        for ending in ("npz", "parquet"):
            run = subprocess.Popen(
                [*place.command[:4], "-o", str(disk / f"all.{ending}"), "--model", "small", "-q"],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )  # fmt: skip
            output = sentence(run)
            assert "cannot be written" in output and not list(disk.iterdir()), (output, list(disk.iterdir()))
    return Fault("file system of 16 KiB under one .npz, one .parquet", output + " (no file is left)")


def read_only(folder: Path) -> Fault:
    place = Place(folder)
    disk = place.store.parent
    with mounted(disk, "size=64m"):
        place.begun().communicate()
        shutil.copy(place.files / "000.pdb", place.files / "new.pdb")
        remount(disk, "ro")
        output = sentence(place.start())
        remount(disk, "rw")
        return place.again("the store's file system is read-only", output)


def worker_killed(folder: Path) -> Fault:
    place = Place(folder)
    run = place.begun("--workers", 2)
    os.kill(workers_of(run.pid)[0], signal.SIGKILL)
    output = sentence(run)
    assert "a worker process died" in output, output
    return place.again("kill -9 of a worker", output)


def workers_of(pid: int) -> list[int]:
    """Return the worker processes of a process: its children with the most memory."""
    listing = subprocess.run(["ps", "-o", "pid=,rss=", "--ppid", str(pid)], capture_output=True, text=True)
    sizes = {int(pid): int(rss) for pid, rss in map(str.split, listing.stdout.splitlines())}
    found = sorted(sizes, key=lambda pid: -sizes[pid])[:2]
    assert len(found) == 2, listing.stdout
    return found


def parent_killed(folder: Path) -> Fault:
    place = Place(folder)
    run = place.begun("--workers", 2)
    workers = workers_of(run.pid)
    run.kill()
    run.communicate()
    end = time.monotonic() + 20
    while any(is_running(pid) for pid in workers):
        assert time.monotonic() < end, "workers continue after their parent ended"
        time.sleep(0.05)
    return place.again("kill -9 of the parent of two workers", "Killed; the workers end too")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def stopped(folder: Path) -> Fault:
    place = Place(folder)
    run = place.begun("--workers", 2)
    run.send_signal(signal.SIGTERM)
    run.communicate(timeout=60)
    assert run.returncode == 143
    before = sum(place.rows().values())
    return place.again("SIGTERM, as batch systems send", f"exit status 143; {before} rows were kept")


def out_of_memory(folder: Path) -> Fault:
    place = Place(folder)
    (place.files / "long.pdb").write_text(long_chain(2500))
    group = Path(f"/sys/fs/cgroup/memory/protemb-{os.getpid()}")
    limit, value = group / "memory.limit_in_bytes", 450 * 2**20
    if not group.parent.is_dir():
        group = Path(f"/sys/fs/cgroup/protemb-{os.getpid()}")
        limit = group / "memory.max"
    try:
        group.mkdir()
        limit.write_text(str(value))
    except OSError as error:
        raise CannotTry(f"control groups of memory cannot be made here: {error}") from error
    try:
        run = place.start(
            "--workers", 2, preexec_fn=lambda: (group / "cgroup.procs").write_text(str(os.getpid()))
        )
        output = sentence(run)
        assert "a worker process died" in output and "out of memory?" in output, output
    finally:
        time.sleep(0.3)
        for pid in (group / "cgroup.procs").read_text().split():
            os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.3)
        group.rmdir()
    return place.again("a control group of 450 MiB; the kernel kills a worker on a chain of 2,500", output)


def no_memory(folder: Path) -> Fault:
    place = Place(folder, 10)
    (place.files / "long.pdb").write_text(long_chain(4000))
    command = ["bash", "-c", 'ulimit -v 2500000; exec "$@"', "bash", *place.command]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert run.returncode == 0, run.stderr
    output = (place.store / "_skipped.csv").read_text().splitlines()[1].partition("long.pdb,")[2]
    assert "4000 residues need more memory" in output or "ONNX Runtime failed" in output, output
    assert "long.pdb" not in place.rows() and sum(place.rows().values()) == 10
    subprocess.run(place.command, capture_output=True, timeout=PATIENCE, check=True)  # with more memory
    assert place.rows()["long.pdb"] == 1 and sum(place.rows().values()) == 11
    seen = f"skipped: {output}; the other rows are written, and a run with more memory adds it"
    return Fault("ulimit -v 2,500,000 and a chain of 4,000", seen)


def long_chain(length: int) -> str:
    """Return a helix as a PDB file."""
    angle = [1.745 * n for n in range(length)]
    return "".join(
        f"ATOM  {n:5}  CA  ALA A{n:4}    {2.3 * math.cos(angle[n]):8.3f}{2.3 * math.sin(angle[n]):8.3f}"
        f"{1.5 * n:8.3f}  1.00  0.00           C  \n"
        for n in range(length)
    )


def model_damaged(folder: Path) -> Fault:
    import protemb_sdk

    place = Place(folder, 10)
    sdk = Path(protemb_sdk.__file__).parent
    shutil.copytree(sdk, folder / "sdk" / "protemb_sdk", ignore=shutil.ignore_patterns("quality.onnx"))
    model = folder / "sdk" / "protemb_sdk" / "bundled" / "small.onnx"
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    output = sentence(place.start(env={**os.environ, "PYTHONPATH": str(folder / "sdk")}))
    assert "the bundled model is damaged (SHA-256" in output, output
    assert not place.store.exists()
    return place.again("one bit of a bundled model flipped", output)


def model_half_written(folder: Path) -> Fault:
    import protemb_sdk

    place = Place(folder, 10)
    whole = (Path(protemb_sdk.__file__).parent / "bundled" / "small.onnx").read_bytes()
    model = folder / "mine.onnx"
    for share in (0.0, 0.3, 0.9, 0.999):
        model.write_bytes(whole[: int(len(whole) * share)])
        output = sentence(place.start("--model", model))
        assert "mine.onnx: " in output, output
    return place.again("a truncated model file of the user", output)


def two_writers(folder: Path) -> Fault:
    place = Place(folder)
    first = place.begun()
    output = sentence(place.start())
    assert "another run is writing into this store" in output, output
    first.communicate(timeout=PATIENCE)
    assert first.returncode == 0
    return place.again("a second run into the same store", output)


def part_damaged(folder: Path) -> Fault:
    place = Place(folder)
    place.begun().communicate()
    part = min(place.store.glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-50])
    output = sentence(place.start())
    assert part.name in output and "move it away" in output, output
    part.unlink()
    return place.again("a truncated part of a store, then moved away as the message asks", output)


def clock_jumps(folder: Path) -> Fault:
    place = Place(folder)
    (folder / "clock.c").write_text(CLOCK)
    library = folder / "clock.so"
    compiled = ["gcc", "-shared", "-fPIC", "-O1", "-o", str(library), str(folder / "clock.c"), "-ldl"]
    if shutil.which("gcc") is None or subprocess.run(compiled, capture_output=True).returncode:
        raise CannotTry("needs gcc")
    run = place.start("--workers", 2, env={**os.environ, "LD_PRELOAD": str(library)})
    out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    return place.again("the clock jumps forward by a year and back by a day, repeatedly", "nothing")


FAULTS: dict[str, Callable[[Path], Fault]] = {
    "disk full": disk_full,
    "disk full, one file": disk_full_one_file,
    "read-only output": read_only,
    "worker killed": worker_killed,
    "parent killed": parent_killed,
    "stopped": stopped,
    "worker out of memory": out_of_memory,
    "no memory for a chain": no_memory,
    "bundled model damaged": model_damaged,
    "model half-written": model_half_written,
    "two writers": two_writers,
    "part damaged": part_damaged,
    "clock change": clock_jumps,
}


def row(name: str, found: Fault) -> str:
    """Return a row of the table, with the message as code."""
    seen = re.sub(r"/tmp/\w+", "", found.seen).replace("|", "/").replace("`", "'")
    return f"| {name} | {found.done} | `{seen}` | {found.lost} | {found.doubled} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    rows = []
    for name, fault in FAULTS.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = fault(Path(folder))
                rows.append(row(name, found))
            except CannotTry as error:
                rows.append(f"| {name} | not tried: {error} | | | |")
        print(rows[-1], flush=True)
    text = [
        "# Fault injection",
        "",
        f"Written by `python tests/faults/faults.py -o tests/faults/results.md` on {date.today()}, "
        f"{platform.system()} {platform.release()}. CI runs all of them. "
        f"{FILES} files are embedded into a store; after the fault the same command runs again.",
        "",
        "| fault | cause | message | rows lost | rows duplicated |",
        "|---|---|---|---|---|",
        *rows,
    ]
    out.write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    main()
