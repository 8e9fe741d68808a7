"""Every public name has a docstring with an example that runs, and is in the API reference."""

from __future__ import annotations

import ast
import doctest
import inspect
import re
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import protemb_sdk
from protemb_sdk import plot, ray, report, search
from protemb_sdk._model.models import EXAMPLE

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT / "sdk" / "docs" / "reference.md"
MODULES: tuple[ModuleType, ...] = (protemb_sdk, plot, ray, report, search)


def public() -> dict[str, object]:
    """Return the public names, such as `protemb_sdk.search.Index`, and their values."""
    return {
        f"{module.__name__}.{name}": getattr(module, name) for module in MODULES for name in module.__all__
    }


def members(value: type) -> Iterator[tuple[str, FunctionType]]:
    """Public methods of a class, with those inherited from a class of this package."""
    for method in dir(value):
        member = inspect.getattr_static(value, method)
        function = member.__func__ if isinstance(member, classmethod | staticmethod) else member
        ours = inspect.isfunction(function) and function.__module__.startswith("protemb_sdk.")
        if ours and not method.startswith("_"):
            yield method, function


def documented() -> Iterator[tuple[str, FunctionType | type]]:
    """Public classes and functions, and the public methods of the classes, each once."""
    found: dict[object, str] = {}
    for name, value in public().items():
        if inspect.isfunction(value) or inspect.isclass(value):
            found.setdefault(value, name)
        if inspect.isclass(value):
            for method, function in members(value):
                found.setdefault(function, f"{name}.{method}")
    for each, name in found.items():
        yield name, each  # type: ignore[misc]


def needs(name: str, value: FunctionType | type) -> object:
    """Return the parameters of the test of one example, with the marks of the packages that it uses."""
    marks = [pytest.mark.filterwarnings("default")] if name.startswith("protemb_sdk.ray.") else []
    return pytest.param(name, value, id=name.removeprefix("protemb_sdk."), marks=marks)


@pytest.fixture(scope="session")
def label_head(structures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A head for residues at the start of a helix turn, as in docs/howto/finetune.md."""
    pytest.importorskip("torch", reason="needs the extra train")
    folder = tmp_path_factory.mktemp("labels")
    page = (ROOT / "sdk" / "docs" / "howto" / "finetune.md").read_text(encoding="utf-8")
    code = re.findall(r"```python\n(.*?)```", page, re.S)[0]
    shutil.copytree(structures, folder / "structures")
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    command = "finetune --labels labels.csv --structures structures -o curled.onnx --threads 1"
    short = (
        "import sys, protemb_train.downstream.labels.training as training, protemb_export.cli as cli\n"
        f"training.EPOCHS = 1\nsys.argv = ['protemb-export', *{command.split()}]\ncli.main()"
    )
    subprocess.run([sys.executable, "-c", short], cwd=folder, check=True, capture_output=True)
    return folder / "curled.onnx"


@pytest.mark.parametrize(("name", "value"), [needs(*each) for each in documented()])
def test_examples_give_the_output_that_they_show(
    name: str,
    value: FunctionType | type,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    found = doctest.DocTestFinder(recurse=False).find(value, name, module=False, globs={})
    (example,) = found
    assert example.examples, f"{name} has no example"
    source = "".join(line.source for line in example.examples)
    if "plot" in source or "savefig" in source:
        pytest.importorskip("matplotlib", reason="needs the extra plot")
    if "to_dataframe" in source:
        pytest.importorskip("pandas", reason="needs the extra pandas")
    if "search" in source:
        pytest.importorskip("usearch", reason="needs the extra search")
    if name.startswith("protemb_sdk.ray."):
        request.getfixturevalue("cluster")
    if "curled.onnx" in source:
        shutil.copy(request.getfixturevalue("label_head"), tmp_path)
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert doctest.DocTestRunner().run(example).failed == 0


def test_the_example_of_the_package_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = doctest.DocTestFinder(recurse=False).find(protemb_sdk, "protemb_sdk")
    shutil.copy(EXAMPLE, tmp_path)
    monkeypatch.chdir(tmp_path)
    assert example.examples and doctest.DocTestRunner().run(example).failed == 0


def test_every_property_has_a_docstring() -> None:
    missing = [
        f"{name}.{attribute}"
        for name, value in public().items()
        if inspect.isclass(value)
        for attribute in dir(value)
        if isinstance(member := inspect.getattr_static(value, attribute), property)
        and not attribute.startswith("_")
        and not member.__doc__
    ]
    assert not missing


@pytest.mark.parametrize(
    ("name", "value"), [needs(*each) for each in documented() if inspect.isfunction(each[1])]
)
def test_docstrings_have_the_sections_of_numpydoc(name: str, value: FunctionType) -> None:
    signature, text = inspect.signature(value), inspect.getdoc(value) or ""
    statements = ast.walk(ast.parse(textwrap.dedent(inspect.getsource(value))))
    wanted = {
        "Parameters": bool(set(signature.parameters) - {"self", "cls"}),
        "Returns": signature.return_annotation not in ("None", "NoReturn"),
        "Raises": any(isinstance(part, ast.Raise) and part.exc for part in statements),
        "Examples": True,
    }
    missing = [
        head for head, needed in wanted.items() if needed and f"\n{head}\n{'-' * len(head)}\n" not in text
    ]
    assert not missing, name


@pytest.mark.skipif(not REFERENCE.exists(), reason="the pages are not beside the tests")
def test_the_reference_lists_every_public_name() -> None:
    page = REFERENCE.read_text(encoding="utf-8")
    listed = re.findall(r"^::: (\S+)$", page, re.M)
    assert len(listed) == len(set(listed))
    constants = {name for name, value in public().items() if isinstance(value, str)}
    assert set(listed) == set(public()) - constants
    assert all(f"`{name}`" in page for name in constants)
