"""Line coverage of the SDK by the tests; writes tests/coverage.md.

    python tests/covered.py       # 15 minutes on one core

Processes started by tests are included. Kernels compiled by Numba are not measured; the tests that
compare them with NumPy are therefore run again without compilation.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("coverage.md")
LEAST = 95.0

TESTS = ["sdk", "fuzz", "faults", "export"]
KERNELS = ["sdk/test_pooling.py", "sdk/test_readouts.py", "sdk/test_align.py"]
PLAIN = "nan or direct_implementation or strips or alignment or maximum or windows or mean or even"


def coverage(folder: Path, *arguments: object, **environment: str) -> None:
    command = [sys.executable, "-m", "coverage", *map(str, arguments)]
    env = {**os.environ, "COVERAGE_FILE": str(folder / "data"), **environment}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-4000:]}{done.stderr[-2000:]}")


def stretches(lines: list[int]) -> list[tuple[int, int]]:
    """Return the first and last line of each run of consecutive lines."""
    found: list[tuple[int, int]] = []
    for line in lines:
        if found and found[-1][1] == line - 1:
            found[-1] = (found[-1][0], line)
        else:
            found.append((line, line))
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider")
        coverage(folder, "run", *pytest, *(f"tests/{test}" for test in TESTS))
        # NumPy warns about NaN, the compiled kernels do not.
        kernels = (
            *pytest,
            "-W",
            "ignore::RuntimeWarning",
            "-k",
            PLAIN,
            *(f"tests/{test}" for test in KERNELS),
        )
        coverage(folder, "run", *kernels, NUMBA_DISABLE_JIT="1")
        coverage(folder, "combine", "-q")
        coverage(folder, "json", "-q", "-o", folder / "found.json")
        found = json.loads((folder / "found.json").read_text())
    total = found["totals"]
    text = [
        "# Line coverage",
        "",
        f"Written by `python tests/covered.py` on {date.today()}: coverage {version('coverage')}, Python "
        f"{sys.version.split()[0]}; tests of {', '.join(TESTS)}.",
        "",
        f"**{total['covered_lines']:,} of {total['num_statements']:,} statements of `sdk/protemb_sdk`, "
        f"{total['percent_covered']:.1f}%.** Not covered:",
        "",
        "| module | lines |",
        "|---|---|",
    ]
    for path, one in sorted(found["files"].items()):
        runs = stretches(one["missing_lines"])
        if runs:
            lines = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
            text.append(f"| `{Path(path).relative_to('sdk/protemb_sdk')}` | {lines} |")
    print("\n".join(text))
    RESULTS.write_text("\n".join(text) + "\n", encoding="utf-8")
    if total["percent_covered"] < LEAST:
        sys.exit(1)


if __name__ == "__main__":
    main()
