"""Install the wheel in new environments with the lowest and the newest dependencies, and test the SDK.

    python tests/bounds.py            # Python 3.11 with the lowest, the newest Python with the newest
    python tests/bounds.py --all      # every installed Python

Builds the wheel from the source archive, checks both with twine, and runs a copy of the tests, so that only
the wheel is imported. Requires uv and a package index.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import tomllib
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHONS = ("3.11", "3.12", "3.13")
EXTRAS = "cpu,pairs,plot,search,store"
TOOLS = ("pytest", "hypothesis", "psutil", "pandas", "scipy", "tmtools", "onnx", "biopython", "scikit-learn")
# Tests of the documentation and of other programming languages.
LEFT_OUT = ("test_docs.py", "test_javascript.py", "test_cpp.py")


def run(*command: object, **options: object) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)  # type: ignore[call-overload]
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))}\n{done.stdout[-6000:]}{done.stderr[-3000:]}")
    return str(done.stdout)


def python_of(release: str) -> str | None:
    """Return the program of a Python release, if it is installed."""
    found = shutil.which(f"python{release}")
    pyenv = sorted(Path.home().glob(f".pyenv/versions/{release}.*/bin/python"))
    if release == ".".join(map(str, sys.version_info[:2])):
        return sys.executable
    return str(pyenv[-1]) if pyenv else found


def built(folder: Path) -> Path:
    """Build archive and wheel, check them, and return the wheel."""
    run(sys.executable, "-m", "build", "-q", "-o", folder, ROOT)
    run(sys.executable, "-m", "twine", "check", "--strict", *folder.iterdir())
    (wheel,) = folder.glob("*.whl")
    return wheel


def requires() -> list[str]:
    """Return the requirements of the package with its extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    optional = project["optional-dependencies"]
    return [*project["dependencies"], *(need for extra in EXTRAS.split(",") for need in optional[extra])]


def tried(wheel: Path, python: str, resolution: str, folder: Path, copies: Path) -> str:
    """Install the wheel in a new environment, run the tests, and return the installed versions."""
    uv = (sys.executable, "-m", "uv")
    run(*uv, "venv", "-q", "--python", python, folder)
    program = folder / "bin" / "python"
    install = (*uv, "pip", "install", "-q", "--python", program)
    # All requirements are listed, otherwise only the wheel has its lowest version.
    run(*install, "--resolution", resolution, wheel, *requires())
    frozen = run(*uv, "pip", "freeze", "--python", program).splitlines()
    listing = dict(line.split("==") for line in frozen if "==" in line)
    (pins := folder / "pins.txt").write_text("".join(f"{name}=={listing[name]}\n" for name in listing))
    run(*install, "--constraint", pins, *TOOLS)
    output = run(
        program, "-m", "pytest", "-q", "-p", "no:cacheprovider", copies / "tests" / "sdk",
        cwd=copies, env={**os.environ, "PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
    )  # fmt: skip
    names = ("gemmi", "numba", "numpy", "onnxruntime", "pyarrow", "scipy", "usearch", "typer")
    versions = ", ".join(f"{name} {listing[name]}" for name in names)
    return f"{resolution}: {run(program, '--version').strip()}, {versions}: {output.strip().splitlines()[-1]}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true")
    every = parser.parse_args().all
    try:
        urllib.request.urlopen("https://pypi.org/simple/protemb-sdk-is-not-there/", timeout=30)
    except urllib.error.HTTPError:
        pass  # the index is available
    except OSError as error:
        print(f"skipped: no index of packages can be reached ({error})")
        return
    pythons = [(release, found) for release in PYTHONS if (found := python_of(release))]
    jobs = [
        ("lowest-direct", pythons[0]),
        *(("highest", one) for one in (pythons if every else pythons[-1:])),
    ]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        wheel = built(folder / "dist")
        copies = folder / "copies"
        shutil.copytree(
            ROOT / "tests", copies / "tests", ignore=shutil.ignore_patterns("__pycache__", *LEFT_OUT)
        )
        shutil.copy(ROOT / "pyproject.toml", copies)
        tries = [
            (wheel, python, resolution, folder / f"{resolution}-{release}", copies)
            for resolution, (release, python) in jobs
        ]
        with ThreadPoolExecutor(2) as pool:
            for line in pool.map(lambda one: tried(*one), tries):
                print(line, flush=True)


if __name__ == "__main__":
    main()
