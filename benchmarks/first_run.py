"""Time from nothing to the result of five tasks: a new environment, the wheel, and each guide as printed.

    python benchmarks/first_run.py -o benchmarks/first_run.md

Packages come from the index that pip is configured with. The example files are those of tests/structures.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated

import typer
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import processor

ROOT = Path(__file__).resolve().parents[1]
GUIDES = ROOT / "sdk" / "docs" / "howto"
EXTRAS = ("cpu", "store", "search", "plot", "pairs")
TRAINING = ("train", "torch==2.13.0")  # the extra of the last task; newest builds of torch are gigabytes
PYTHON = ("pandas", "duckdb")  # libraries that the guides read stores with
TASKS = {
    "embed a folder": "proteome",
    "find neighbours": "neighbours",
    "predict interface sites": "sites",
    "score models": "quality",
    "train on your own labels": "finetune",
}


class FirstRun:
    """A new environment with the wheel of this repository, and a folder of example files."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.bin = folder, folder / "venv" / "bin"
        self.work = folder / "work"
        self.work.mkdir()
        shutil.copy(ROOT / "sdk" / "protemb_sdk" / "bundled" / "1a8o.cif", self.work)
        shutil.copytree(ROOT / "tests" / "structures", self.work / "structures")
        self.wheel = ""

    def run(self, *command: str | Path) -> float:
        """Run a command in the folder of example files, and return its seconds."""
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PATH": path}
        start = time.perf_counter()
        done = subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"{shlex.join(map(str, command))}:\n{done.stdout}{done.stderr}")
        return time.perf_counter() - start

    def install(self) -> float:
        """Build the wheel, which is not counted, and install it in a new environment."""
        out = self.folder / "wheel"
        self.run(sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", out, ROOT)
        self.wheel = str(next(out.glob("*.whl")))
        seconds = self.run(sys.executable, "-m", "venv", self.folder / "venv")
        return seconds + self.add(f"{self.wheel}[{','.join(EXTRAS)}]", *PYTHON)

    def add(self, *packages: str) -> float:
        """Install packages."""
        return self.run(self.bin / "python", "-m", "pip", "install", "-q", *packages)

    def guide(self, name: str) -> float:
        """Run the code of a guide, block by block."""
        parsers = [CodeBlockParser(language, lambda example: None) for language in ("python", "bash")]
        seconds, before = 0.0, ""  # blocks of Python are of one session
        for example in Sybil(parsers=parsers).parse(GUIDES / f"{name}.md").examples():
            text = str(example.parsed)
            if example.region.lexemes["arguments"].strip() == "bash":
                seconds += self.run("bash", "-ec", text)
            else:
                before += text
                seconds += self.run(self.bin / "python", "-c", before)
        return seconds


def main(out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")]) -> None:
    """Install protemb in a new environment, run five guides, and write their times."""
    with tempfile.TemporaryDirectory() as folder:
        first = FirstRun(Path(folder))
        lines = [("install protemb with its extras", "", first.install())]
        for task, name in TASKS.items():
            if name == "finetune":
                extra, pinned = TRAINING
                lines.append((f"install the extra {extra}", "", first.add(f"{first.wheel}[{extra}]", pinned)))
            lines.append((task, f"[{name}.md](../sdk/docs/howto/{name}.md)", first.guide(name)))
            print(lines[-1], flush=True)
    count = len(list((ROOT / "tests" / "structures").iterdir()))
    page = [
        "# From nothing to a result",
        "",
        f"Written by `python benchmarks/first_run.py` ({processor()}, {os.cpu_count()} cores): every command "
        f"of five guides as printed, in a new environment, on the {count} example files. Installation times "
        "depend on the package index.",
        "",
        "| step | guide | s |",
        "|---|---|---|",
        *(f"| {step} | {guide} | {seconds:.0f} |" for step, guide, seconds in lines),
        f"| in all | | {sum(seconds for *_, seconds in lines):.0f} |",
    ]
    out.write_text("\n".join(page) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)
