"""The packages import in one direction only, as described in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
TREES = {"protemb_sdk": "sdk", "protemb_train": "train", "protemb_export": "export"}
TORCH = {"torch", "lightning", "pytorch_lightning", "torchmetrics"}
FORBIDDEN = {
    "protemb_sdk": TORCH | {"biotite", "onnx", "onnxscript", "sklearn", "protemb_train", "protemb_export"},
    "protemb_train": {"protemb_export"},
    "protemb_export": set(),
}
# From the lowest to the highest. A part imports parts of lower rows only; parts of one row do not import each
# other. A part is a sub-package, or a module next to the sub-packages.
LAYERS = {
    "protemb_sdk": [
        ["_base"],
        ["_structure"],
        ["_model"],
        ["_embed"],
        ["_predict", "_store"],
        ["_search"],
        ["plot", "search", "ray"],
        ["report"],
        ["_cli"],
        ["cli", "__init__"],
    ],
    "protemb_train": [
        ["base"],
        ["corpus", "network"],
        ["encoders", "pretrain"],
        ["probe", "protein_vector"],
        ["downstream.common"],
        ["downstream.sites", "downstream.quality", "downstream.labels"],
        ["evaluate", "experiments"],
        ["commands"],
        ["cli", "interop"],
    ],
}

# Private modules of the SDK that training and export may use.
OPEN = {
    "_base", "_structure.chain", "_structure.files", "_structure.reader", "_model.models", "_model.heads",
    "_model.readouts", "_model.batches", "_predict.predictor",
}  # fmt: skip


def modules_of(tree: str) -> dict[str, Path]:
    """Return the modules of a tree by full name. A package has the name `package.__init__`."""
    folder = ROOT / TREES[tree] / tree
    return {".".join([tree, *p.relative_to(folder).with_suffix("").parts]): p for p in folder.rglob("*.py")}


MODULES = {name: path for tree in TREES for name, path in modules_of(tree).items()}


def imports_of(path: Path, *, typing_only: bool = True) -> Iterator[str]:
    """Yield each name that a file imports, `package.module.name`, also inside functions.

    Without `typing_only`, imports under `if TYPE_CHECKING` are left out.
    """
    nodes: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not typing_only:
            nodes.extend(node.orelse)
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0 and node.module, f"{path}: relative imports are not used here"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        nodes.extend(ast.iter_child_nodes(node))


def module_of(name: str) -> str | None:
    """Return the module of the three trees that an imported name belongs to."""
    while name:
        for found in (name, f"{name}.__init__"):
            if found in MODULES:
                return found
        name = name.rpartition(".")[0]
    return None


def part_of(module: str, tree: str) -> str | None:
    """Return the part of a tree that a module belongs to, or None for empty modules of packages."""
    names = [name for row in LAYERS[tree] for name in row]
    inner = module.removeprefix(f"{tree}.")
    return next((name for name in names if inner == name or inner.startswith(f"{name}.")), None)


def edges_of(tree: str) -> dict[str, set[str]]:
    """Return which modules of a tree each module imports."""
    edges: dict[str, set[str]] = defaultdict(set)
    for module, path in modules_of(tree).items():
        for name in imports_of(path):
            target = module_of(name)
            if target is not None and target != module and target.startswith(f"{tree}."):
                edges[module].add(target)
    return edges


@pytest.mark.parametrize("tree", TREES)
def test_a_tree_imports_only_lower_trees(tree: str) -> None:
    modules = modules_of(tree)
    assert modules
    for module, path in modules.items():
        wrong = {name.partition(".")[0] for name in imports_of(path)} & FORBIDDEN[tree]
        assert not wrong, f"{module} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("tree", LAYERS)
def test_a_part_imports_only_lower_parts(tree: str) -> None:
    row_of = {name: row for row, names in enumerate(LAYERS[tree]) for name in names}
    for module, targets in edges_of(tree).items():
        part = part_of(module, tree)
        assert part is not None, f"{module} belongs to no part of the map"
        for target in targets:
            other = part_of(target, tree)
            assert other is not None, f"{module} imports {target}, which belongs to no part of the map"
            assert other == part or row_of[other] < row_of[part], f"{module} imports {target}"


@pytest.mark.parametrize("tree", TREES)
def test_there_are_no_import_cycles(tree: str) -> None:
    edges = edges_of(tree)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"import cycle: {' -> '.join([*path[path.index(module) :], module])}"
        if module not in done:
            for target in sorted(edges.get(module, ())):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(edges):
        visit(module, ())


@pytest.mark.parametrize("tree", ["protemb_train", "protemb_export"])
def test_training_and_export_use_only_public_and_permitted_names(tree: str) -> None:
    public = importlib.import_module("protemb_sdk")._HOME
    for module, path in modules_of(tree).items():
        for name in imports_of(path):
            if not name.startswith("protemb_sdk._"):
                continue
            inner, _, last = name.removeprefix("protemb_sdk.").rpartition(".")
            assert any(inner == part or inner.startswith(f"{part}.") for part in OPEN), f"{module}: {name}"
            assert public.get(last) != inner or last.startswith("_"), f"{module}: {last} is public; use it so"


def test_contributing_lists_the_permitted_private_modules() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    sentence = text.split(
        "Training and export use the public names of the SDK, and of the private ones only", 1
    )[1]
    assert set(re.findall(r"`(_[a-z_.]+)`", sentence.split(".\n", 1)[0])) == OPEN


@pytest.mark.parametrize("tree", LAYERS)
def test_every_module_belongs_to_a_part(tree: str) -> None:
    homeless = []
    for module, path in modules_of(tree).items():
        empty = path.name == "__init__.py" and not list(imports_of(path))
        if part_of(module, tree) is None and not empty:
            homeless.append(module)
    assert not homeless
    parts = {part_of(module, tree) for module in modules_of(tree)}
    assert parts >= {name for row in LAYERS[tree] for name in row}


@pytest.mark.parametrize("tree", LAYERS)
def test_the_map_in_contributing_agrees(tree: str) -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    block = text.split(f"    {TREES[tree]}/{tree}\n", 1)[1].split("\n\n", 1)[0]
    rows = [row.split() for row in block.splitlines()]
    assert [[part.replace("/", ".") for part in row] for row in reversed(rows)] == LAYERS[tree]


@pytest.mark.parametrize(
    ("package", "owner"),
    [
        ("onnxruntime", "protemb_sdk._model.runtime"),
        ("numba", "protemb_sdk._model.pooling"),
        ("scipy", "protemb_sdk._search.clusters"),
    ],
)
def test_a_heavy_package_is_imported_by_one_module_only(package: str, owner: str) -> None:
    users = {
        module
        for module, path in modules_of("protemb_sdk").items()
        if package in {name.partition(".")[0] for name in imports_of(path, typing_only=False)}
    }
    assert users == {owner}
