"""Milliseconds to read a structure file, in this and in another checkout, alternating file by file.

    python benchmarks/reading_time.py --before ../before -o benchmarks/reading.md

CPU time of reading uncompressed bytes in memory; the best of eight for each file. Two processes alternate at
each file, so that other load on the machine affects both.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def files(every: int) -> list[Path]:
    """Return the small files of the tests, and some of the shared data."""
    named = os.environ.get("PROTEMB_SHARED_DATA")
    shared = Path(named) if named else ROOT.parent / "shared" / "data"
    some = [
        p for kind in ("pdb", "mmcif") for p in sorted((shared / "structures" / kind).glob("[!.]*"))[::every]
    ]
    return [p for p in sorted((ROOT / "tests" / "structures").iterdir()) if "bcif" not in p.name] + some


def child(paths: list[str]) -> None:
    from protemb_sdk import ProtembError, read_chains

    for line in sys.stdin:
        data = Path(paths[int(line)]).read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        best = float("inf")
        try:
            for _ in range(5):
                start = time.process_time()
                read_chains(data)
                best = min(best, time.process_time() - start)
        except ProtembError:
            best = float("nan")
        print(json.dumps(best), flush=True)


def started(tree: Path, paths: list[Path]) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(tree / "sdk"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--child", *map(str, paths)]
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd="/"
    )


def asked(process: subprocess.Popen[str], number: int) -> float:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(f"{number}\n")
    process.stdin.flush()
    return float(json.loads(process.stdout.readline()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--before", type=Path)
    parser.add_argument("--every", type=int, default=12)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--child", nargs="*")
    options = parser.parse_args()
    if options.child is not None:
        child(options.child)
        return
    paths = files(options.every)
    trees = [started(options.before.resolve(), paths), started(ROOT, paths)]
    times: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    for number, path in enumerate(paths):
        turns = [[asked(tree, number) for tree in trees] for _ in range(2)]
        before, now = (min(turn[i] for turn in turns) for i in (0, 1))
        if before == before and now == now:
            where = "tests/structures" if path.is_relative_to(ROOT) else f"shared, {path.parent.name}"
            times[where].append((before * 1000, now * 1000))
    commit = subprocess.run(
        ["git", "-C", str(options.before), "rev-parse", "--short", "HEAD"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    rows = [
        "# Time to read a file",
        "",
        f"Written by `python benchmarks/reading_time.py` on {date.today()}: milliseconds of CPU time for a",
        f"file that is in memory and unzipped, at commit {commit} and now, in turn in one run; means over",
        "files, of the best of ten.",
        "",
        "| files | number | before | now | ratio |",
        "|---|---|---|---|---|",
    ]
    for where, pairs in times.items():
        before, now = (sum(pair[i] for pair in pairs) / len(pairs) for i in (0, 1))
        rows.append(f"| {where} | {len(pairs)} | {before:.2f} | {now:.2f} | {now / before:.2f} |")
    text = "\n".join(rows) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
