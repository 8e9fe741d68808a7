"""The C++ example reproduces the golden vectors."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import Embedder

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "sdk" / "examples" / "golden").glob("*.json"))
SYSTEM = Path("/usr/include/onnxruntime")

# PyPI and npm do not have the headers. Debian's headers are older than our runtime, which is allowed.
PACKAGE = "http://deb.debian.org/debian/pool/main/o/onnxruntime/libonnxruntime-dev_1.21.0+dfsg-1_amd64.deb"
PACKAGE_SHA256 = "14f7d959d5deacbcf1504830d4189f91fc67382b399ed9ae9d3aa9c4050ced08"


@pytest.fixture(scope="module")
def headers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of onnxruntime_cxx_api.h: `$ONNXRUNTIME_INCLUDE`, the system's, or Debian's."""
    for folder in (os.environ.get("ONNXRUNTIME_INCLUDE"), SYSTEM):
        if folder and (Path(folder) / "onnxruntime_cxx_api.h").is_file():
            return Path(folder)
    if shutil.which("dpkg-deb") is None:
        pytest.skip("needs ONNX Runtime's headers in $ONNXRUNTIME_INCLUDE, or dpkg-deb to unpack Debian's")
    folder = tmp_path_factory.mktemp("headers")
    try:
        with urllib.request.urlopen(PACKAGE, timeout=60) as answer:
            content = answer.read()
    except (urllib.error.URLError, OSError) as error:
        pytest.skip(f"Debian's package of ONNX Runtime's headers cannot be had: {error}")
    assert hashlib.sha256(content).hexdigest() == PACKAGE_SHA256
    (folder / "headers.deb").write_bytes(content)
    subprocess.run(["dpkg-deb", "-x", str(folder / "headers.deb"), str(folder)], check=True)
    return folder / "usr" / "include" / "onnxruntime"


@pytest.fixture(scope="module")
def program(headers: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import onnxruntime

    if shutil.which("g++") is None or shutil.which("make") is None:
        pytest.skip("needs g++ and make")
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.1.*")
    folder = tmp_path_factory.mktemp("cpp")
    for name in ("embed.cpp", "Makefile"):
        shutil.copy(ROOT / "sdk" / "examples" / "cpp" / name, folder)
    command = [
        "make", f"INCLUDE={headers}", f"LIBRARY={library}", "CXXFLAGS=-O1 -Wall -Wextra -Wpedantic -Werror",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "embed"


BASE = ROOT / "sdk" / "protemb_sdk" / "bundled" / "base.onnx"


def run(program: Path, *arguments: object, model: Path = BASE) -> subprocess.CompletedProcess[str]:
    command = [str(program), str(model), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("path", [p for p in GOLDEN if ".cif" not in p.name], ids=lambda path: path.stem)
def test_cpp_reproduces_the_golden_vectors(program: Path, path: Path) -> None:
    golden = json.loads(path.read_text())
    done = run(program, ROOT / "tests" / "structures" / golden["file"], golden["chain"])
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert found["chain"] == golden["chain"] and found["length"] == len(golden["residue"])
    for level in ("protein", "residue"):
        np.testing.assert_allclose(found[level], np.ravel(golden[level]), atol=1e-4)


def test_cpp_reports_a_file_that_cannot_be_opened(program: Path, tmp_path: Path) -> None:
    done = run(program, tmp_path / "nothing.pdb")
    assert done.returncode == 1 and done.stderr == f"{tmp_path / 'nothing.pdb'}: cannot be opened\n"


def test_cpp_embeds_with_a_model_of_contract_2(program: Path, structures: Path, states_path: Path) -> None:
    wanted = Embedder(states_path, "cpu").embed(structures / "1a8o.pdb", profile=True)
    done = run(program, structures / "1a8o.pdb", model=states_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert wanted.profile is not None
    for level, array in (
        ("protein", wanted.protein), ("residue", wanted.residue), ("profile", wanted.profile),
    ):  # fmt: skip
        np.testing.assert_allclose(found[level], np.ravel(array), atol=1e-4 * np.abs(array).max())
