"""The JavaScript examples reproduce the golden vectors, in Node and in a browser without other servers."""

from __future__ import annotations

import functools
import gzip
import http.server
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protemb_sdk import Embedder

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = sorted((ROOT / "sdk" / "examples" / "golden").glob("*.json"))
SOURCE = ROOT / "sdk" / "examples" / "javascript"


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the example with its packages installed and the model where it expects it."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("needs Node and npm")
    root = tmp_path_factory.mktemp("examples")
    folder = root / "sdk" / "examples" / "javascript"
    shutil.copytree(SOURCE, folder, ignore=shutil.ignore_patterns("node_modules", "site"))
    (root / "sdk" / "protemb_sdk").symlink_to(ROOT / "sdk" / "protemb_sdk")
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install the packages here: {done.stderr.strip().splitlines()[0]}")
    return folder


@pytest.fixture(params=GOLDEN, ids=lambda path: path.stem)
def golden(request: pytest.FixtureRequest) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(request.param.read_text())
    return found


def test_the_package_reproduces_the_golden_vectors(golden: dict[str, Any], embedder: Embedder) -> None:
    embedding = embedder.embed(ROOT / "tests" / "structures" / golden["file"], golden["chain"] or None)
    assert golden["model_sha256"] == embedder.provenance["model_sha256"]
    np.testing.assert_allclose(golden["ca_coords"], embedding.chain.centred_coords, atol=1e-4)
    np.testing.assert_array_equal(golden["residue_type"], embedding.chain.residue_type)
    np.testing.assert_array_equal(golden["residue_index"], embedding.residue_index)
    for level in ("protein", "residue"):
        np.testing.assert_allclose(golden[level], getattr(embedding, level), atol=1e-5)


def test_node_reproduces_the_golden_vectors(golden: dict[str, Any], javascript: Path) -> None:
    file = ROOT / "tests" / "structures" / golden["file"]
    command = ["node", "node.mjs", str(file), golden["chain"]]
    done = subprocess.run(command, cwd=javascript, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)
    for name in ("residue_type", "residue_index"):
        assert found[name] == golden[name]
    for name in ("ca_coords", "protein", "residue"):
        np.testing.assert_allclose(found[name], np.ravel(golden[name]), atol=1e-4)


def test_node_reads_gzipped_files_and_refuses_others_with_a_sentence(
    javascript: Path, structures: Path, tmp_path: Path
) -> None:
    def node(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["node", "node.mjs", str(path), *arguments]
        return subprocess.run(command, cwd=javascript, capture_output=True, text=True)

    plain = (structures / "1orc.pdb").read_bytes()
    (tmp_path / "1orc.pdb.gz").write_bytes(gzip.compress(plain))
    expected, found = (
        json.loads(node(p).stdout) for p in (structures / "1orc.pdb", tmp_path / "1orc.pdb.gz")
    )
    assert found[0].pop("file") != expected[0].pop("file") and found == expected
    (tmp_path / "cut.gz").write_bytes(gzip.compress(plain)[:-100])
    for path, chain, reason in (
        (tmp_path / "cut.gz", [], "the gzip stream is damaged or truncated; fetch the file again"),
        (structures / "3jqh.bcif.gz", [], "holds no protein chain as PDB or mmCIF"),
        (structures / "1orc.pdb", ["B"], "has no chain B, only A"),
        (tmp_path / "none.pdb", [], "ENOENT: no such file or directory"),
    ):
        done = node(path, *chain)
        assert done.returncode == 1 and done.stdout == ""
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: {path}: {reason}")


def test_node_embeds_with_a_model_of_contract_2(
    javascript: Path, structures: Path, states_path: Path
) -> None:
    wanted = Embedder(states_path, "cpu").embed(structures / "1a8o.pdb", profile=True)
    command = ["node", "node.mjs", str(structures / "1a8o.pdb"), "A", str(states_path)]
    done = subprocess.run(command, cwd=javascript, capture_output=True, text=True, check=True)
    (found,) = json.loads(done.stdout)
    assert wanted.profile is not None
    for level, array in (
        ("protein", wanted.protein), ("residue", wanted.residue), ("profile", wanted.profile),
    ):  # fmt: skip
        np.testing.assert_allclose(found[level], np.ravel(array), atol=1e-4 * np.abs(array).max())


@pytest.fixture
def site(javascript: Path, tmp_path: Path) -> Iterator[str]:
    subprocess.run(
        ["node", "site.mjs", str(tmp_path / "site")], cwd=javascript, check=True, capture_output=True
    )

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments: object) -> None:
            pass

    handler = functools.partial(Handler, directory=str(tmp_path / "site"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("name", ["1a8o.pdb", "3jqh.cif"])
def test_a_browser_reproduces_the_golden_vectors(
    javascript: Path, site: str, tmp_path: Path, name: str
) -> None:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("needs Chromium")
    golden = json.loads(next(path for path in GOLDEN if path.stem == name).read_text())
    picture = tmp_path / "page.png"
    command = ["node", "browser.mjs", site, str(ROOT / "tests" / "structures" / name), str(picture), chromium]
    done = subprocess.run(command, cwd=javascript, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    embedding = next(e for e in found["embeddings"] if e["chain"] == golden["chain"])
    for level in ("protein", "residue"):
        np.testing.assert_allclose(embedding[level], np.ravel(golden[level]), atol=1e-4)
    assert all(url.startswith(site) for url in found["asked"])
    assert "embedded in" in found["status"] and picture.read_bytes().startswith(b"\x89PNG")
