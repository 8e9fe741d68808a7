"""Guarantees: the tests named on the page exist; and tests of guarantees without their own file."""

from __future__ import annotations

import ast
import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from protemb_sdk import Embedder

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "sdk" / "docs" / "promises.md"


def names() -> list[str]:
    return sorted(set(re.findall(r"`((?:tests|benchmarks)/[\w./]+(?:::\w+)?)`", PAGE.read_text())))


@pytest.mark.skipif(not PAGE.exists(), reason="the pages are not beside the tests")
def test_files_and_tests_named_on_the_page_exist() -> None:
    assert len(names()) > 20
    for name in names():
        path, _, test = name.partition("::")
        assert (ROOT / path).is_file(), name
        if test:
            functions = [node.name for node in ast.walk(ast.parse((ROOT / path).read_text()))
                         if isinstance(node, ast.FunctionDef)]  # fmt: skip
            assert test in functions, name


def test_another_process_gives_the_same_bytes(structures: Path) -> None:
    code = (
        "import hashlib, sys; from protemb_sdk import Embedder;"
        "found = Embedder('base', 'cpu', threads=1).embed(sys.argv[1]).residue;"
        "print(hashlib.sha256(found.tobytes()).hexdigest())"
    )
    command = [sys.executable, "-c", code, str(structures / "1a8o.cif")]
    found = {
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() for _ in range(2)
    }
    here = Embedder("base", "cpu", threads=1).embed(structures / "1a8o.cif").residue
    assert found == {hashlib.sha256(here.tobytes()).hexdigest()}


def test_nothing_is_unpickled() -> None:
    import protemb_sdk

    for path in Path(protemb_sdk.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = {a.name for a in node.names} if isinstance(node, ast.Import) else set()
            words |= {node.module} if isinstance(node, ast.ImportFrom) and node.module else set()
            assert not words & {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}, path
            if isinstance(node, ast.Call):
                given = {word.arg: ast.unparse(word.value) for word in node.keywords}
                assert given.get("allow_pickle", "False") == "False", path
