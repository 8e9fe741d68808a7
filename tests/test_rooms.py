"""The map of the house holds: a room imports only what stands to its left."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = {"sdk": "protemb_sdk", "train": "protemb_train", "export": "protemb_export"}
TORCH = {"torch", "lightning", "pytorch_lightning", "torchmetrics"}
FORBIDDEN = {
    "sdk": TORCH | {"biotite", "onnx", "onnxscript", "scipy", "sklearn", "protemb_train", "protemb_export"},
    "train": {"protemb_export"},
    "export": set(),
}


def imports_of(path: Path, *, typing_only: bool = True) -> set[str]:
    """Return the top-level packages that a file imports, inside functions too.

    Without `typing_only`, what stands under `if TYPE_CHECKING` is left out.
    """
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found: set[str] = set()
    nodes: list[ast.AST] = [tree]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not typing_only:
            nodes.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
        nodes.extend(ast.iter_child_nodes(node))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_what_stands_to_its_left(room: str) -> None:
    files = sorted((ROOT / room / ROOMS[room]).rglob("*.py"))
    assert files
    for path in files:
        wrong = imports_of(path) & FORBIDDEN[room]
        assert not wrong, f"{path.relative_to(ROOT)} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize(("package", "owner"), [("onnxruntime", "_session.py"), ("numba", "_pooling.py")])
def test_one_file_alone_knows_a_runtime(package: str, owner: str) -> None:
    users = {p.name for p in (ROOT / "sdk").rglob("*.py") if package in imports_of(p, typing_only=False)}
    assert users == {owner}


def test_the_map_names_every_room() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = set(re.findall(r"\w+", text.split("A room stands above what it imports.")[1].split("\n- ")[0]))
    rooms = {path.stem for part, name in ROOMS.items() for path in (ROOT / part / name).glob("*.py")}
    assert rooms - named == {"__init__"}
