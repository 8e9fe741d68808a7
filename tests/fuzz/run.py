"""Fuzz test of reader and network: each malformed input must give embeddings or a `ProtembError`.

    python tests/fuzz/run.py --inputs 100000 --seed 1 -o tests/fuzz/results.md

A child process reads one input after the other. If an input kills or blocks it, the input is counted and
printed, and a new child continues with the next one. Exit status 1 if there was any other outcome.
"""

from __future__ import annotations

import argparse
import json
import mmap
import platform
import resource
import struct
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

HANG = 10.0  # seconds that an input may take
MEMORY = 8 * 2**30  # bytes of address space that a child may have
FAILURES = ("crash", "hang", "unhandled", "wrong")


# --- the child ------------------------------------------------------------------------------------


def child(seed: int, first: int, past: int, folder: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    import torch  # noqa: F401  # imported here, so that the time is not counted for an input

    warnings.simplefilter("error")  # also those of NumPy
    from malformed import malformed_input

    from protemb_sdk import Embedder

    embedder = Embedder(
        "small-1", "cpu", threads=1, residue_limit=2000, byte_limit=64 * 2**20, time_limit=HANG / 2
    )
    with (folder / "at").open("r+b") as file, (folder / "outcomes").open("a") as outcomes:
        at = mmap.mmap(file.fileno(), 8)
        for number in range(first, past):
            at[:] = struct.pack("q", number)
            kind, content = malformed_input(seed, number)
            start = time.perf_counter()
            try:
                outcome, about = outcome_of(embedder, kind, content, folder, number)
            except BaseException as error:
                outcome, about = "unhandled", "".join(traceback.format_exception(error))[-1500:]
            line = [number, kind, outcome, about, time.perf_counter() - start]
            outcomes.write(json.dumps(line) + "\n")
            outcomes.flush()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        (folder / f"peak-{first}").write_text(str(peak))


def outcome_of(embedder: object, kind: str, content: object, folder: Path, number: int) -> tuple[str, str]:
    import numpy as np

    from protemb_sdk import Embedding, ProtembError

    x = content
    if kind in ("archive", "zip"):
        x = folder / ("input.tar" if kind == "archive" else "input.zip")
        x.write_bytes(content)
    elif kind == "arrays" and number % 10 == 0:
        x = as_tensors(content, number)
    run = embedder.embed_many(x, on_error="skip", readouts=("contact",) if number % 8 == 0 else ())
    count, names = 0, set()
    for embedding in run:
        count += 1
        if embedding.chain_id in names and kind == "bytes":
            return "wrong", f"two chains are named {embedding.chain_id!r}"
        names.add(embedding.chain_id)
        length = len(embedding)
        index = embedding.residue_index
        valid = (
            embedding.residue.shape == (length, embedder.channels)
            and embedding.protein.shape == (embedder.channels,)
            and np.isfinite(embedding.residue).all()
            and np.isfinite(embedding.protein).all()
            and index[0] == 0
            and (np.diff(index) > 0).all()
        )
        if not valid:
            return "wrong", f"{embedding.id}: {length} residues"
        if number % 20 == 0:
            embedding.save(folder / "saved.npz")
            if Embedding.load(folder / "saved.npz").id != embedding.id:
                return "wrong", "changed by saving and loading"
    for skipped in run.skipped:
        if "\n" in skipped.reason or "\r" in skipped.reason or not skipped.reason.strip():
            return "wrong", f"not one sentence: {skipped.reason!r}"
        if len(skipped.reason) > 1000:
            return "wrong", f"reason too long: {skipped.reason[:300]!r}"
        if skipped.error is not None and not isinstance(skipped.error, ProtembError):
            return "wrong", repr(skipped.error)
    reasons = [skipped for skipped in run.skipped if skipped.error is not None]
    if not count and not reasons and kind not in ("archive", "zip"):
        return "wrong", "neither an embedding nor an error"
    return (
        ("embedded", "")
        if count
        else ("refused", reasons[0].reason if reasons else "no structure in the archive")
    )


def as_tensors(content: tuple[object, ...], number: int) -> tuple[object, ...]:
    """Return numeric arrays as tensors; some need a gradient or have no data (device "meta")."""
    import torch

    try:
        first = torch.as_tensor(content[0])
        if number % 20 == 0 and not first.is_complex():
            first = first.double().requires_grad_()
        return (first if number % 30 else first.to("meta"), *content[1:])
    except (TypeError, ValueError, RuntimeError):
        return content


# --- the parent -----------------------------------------------------------------------------------


def run(inputs: int, seed: int, first: int, folder: Path) -> tuple[Counter[str], list[list[object]], int]:
    """Return counts of outcomes, all outcomes, and the peak memory of a child in bytes."""
    (folder / "at").write_bytes(struct.pack("q", first))
    (folder / "outcomes").touch()
    failures, past = [], first + inputs
    while first < past:
        command = [
            sys.executable,
            __file__,
            "--child",
            str(first),
            "--inputs",
            str(past),
            "--seed",
            str(seed),
        ]
        process = subprocess.Popen(
            [*command, "--folder", str(folder)], stderr=subprocess.PIPE, text=True, cwd=folder
        )
        status, number = wait_for(process, folder / "at", first)
        if status == 0:
            break
        stderr = process.stderr.read()[-800:] if process.stderr else ""
        failures.append(
            [number, "?", "hang" if status == HANG else "crash", f"status {status}; {stderr}", HANG]
        )
        print(json.dumps(failures[-1]), flush=True)
        first = number + 1
    lines = [json.loads(line) for line in (folder / "outcomes").read_text().splitlines()]
    counts = Counter(str(line[2]) for line in lines + failures)
    peak = max((int(path.read_text()) for path in folder.glob("peak-*")), default=0)
    return counts, lines + failures, peak


def wait_for(process: subprocess.Popen[str], at: Path, first: int) -> tuple[float, int]:
    """Wait until a child ends or exceeds the time for one input; return its status and its last input."""
    import psutil

    about = psutil.Process(process.pid)
    number, since, spent = first, time.monotonic() + 300, 300.0  # to start
    while process.poll() is None:
        time.sleep(0.1)
        (now,) = struct.unpack("q", at.read_bytes())
        try:
            used = sum(about.cpu_times()[:2])
        except psutil.Error:
            continue
        if now != number:
            number, since, spent = now, time.monotonic(), used
        # CPU time counts, as the machine may be busy; elapsed time only where it is ten times longer.
        elif used - spent > HANG or time.monotonic() - since > 10 * HANG:
            process.kill()
            process.wait()
            return HANG, number
    (number,) = struct.unpack("q", at.read_bytes())
    return float(process.returncode), number


def report(
    counts: Counter[str], lines: list[list[object]], peak: int, seed: int, inputs: int, seconds: float
) -> str:
    import gemmi
    import numpy
    import onnxruntime

    from protemb_sdk import __version__

    per_kind = Counter(str(line[1]) for line in lines)
    kinds = ", ".join(f"{per_kind[kind]:,} {kind}" for kind in sorted(per_kind))
    reasons = Counter(
        str(line[3]).split("(")[0].split(":")[-1].strip()[:70] for line in lines if line[2] == "refused"
    )
    slowest = max(lines, key=lambda line: float(line[4]))  # type: ignore[arg-type]
    rows = [
        "# Fuzz test with malformed inputs",
        "",
        f"Written by `python tests/fuzz/run.py --inputs {inputs} --seed {seed} -o tests/fuzz/results.md` on "
        f"{date.today()}: protemb {__version__}, gemmi {gemmi.__version__}, NumPy {numpy.__version__}, ONNX "
        f"Runtime {onnxruntime.__version__}, Python {platform.python_version()}; {seconds / 60:.0f} "
        "minutes on one core.",
        "",
        f"Seed {seed}, {sum(counts.values()):,} inputs: {kinds}.",
        "",
        "| outcome | inputs |",
        "|---|---|",
        f"| finite embeddings of the right shape | {counts['embedded']:,} |",
        f"| a `ProtembError` of one sentence | {counts['refused']:,} |",
        *(
            f"| {name} | {counts[key]:,} |"
            for key, name in (
                ("crash", "the process died"),
                ("hang", f"more than {HANG:g} s"),
                ("unhandled", "another exception, or a warning"),
                ("wrong", "anything else"),
            )
        ),
        "",
        f"Slowest: {float(slowest[4]):.1f} s. Peak memory of the process: {peak / 2**20:,.0f} MiB.",  # type: ignore[arg-type]
        "",
        "Most frequent errors:",
        "",
        *(f"- {count:,}: {reason}" for reason, count in reasons.most_common(10)),
    ]
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--child", type=int)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.child is not None:
        child(options.seed, options.child, options.inputs, options.folder)
        return
    start = time.monotonic()
    ends = [options.first + options.inputs * n // options.processes for n in range(options.processes + 1)]

    def part(first: int, past: int) -> tuple[Counter[str], list[list[object]], int]:
        with tempfile.TemporaryDirectory() as folder:
            return run(past - first, options.seed, first, Path(folder))

    with ThreadPoolExecutor(options.processes) as pool:
        parts = list(pool.map(part, ends, ends[1:]))
    counts = sum((counts for counts, _, _ in parts), Counter())
    lines = [line for _, some, _ in parts for line in some]
    peak = max(peak for _, _, peak in parts)
    for line in lines:
        if line[2] in FAILURES:
            print(f"seed {options.seed}, input {line[0]}, {line[1]}: {line[2]}: {line[3]}\n")
    text = report(counts, lines, peak, options.seed, options.inputs, time.monotonic() - start)
    if options.out:
        options.out.write_text(text)
    print(text)
    raise SystemExit(any(counts[name] for name in FAILURES))


if __name__ == "__main__":
    main()
