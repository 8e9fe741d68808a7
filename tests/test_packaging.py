"""The Dockerfile, the conda recipe and the line of the README agree with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from protemb_sdk import __version__

ROOT = Path(__file__).resolve().parent.parent
PACKAGING = ROOT / "sdk" / "packaging"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONDA_NAMES = {"matplotlib": "matplotlib-base", "msgpack": "msgpack-python"}


def names_and_versions(requirements: list[str]) -> dict[str, str]:
    """Return the lowest version of each package, by its name on conda-forge."""
    pairs = [re.fullmatch(r"([\w.-]+?)(?:\[.*\])?\s*(>=[\w.]+)?", text) for text in requirements]
    assert all(pairs), requirements
    return {CONDA_NAMES.get(found[1], found[1]): found[2] for found in pairs if found}


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    yaml = pytest.importorskip("yaml", reason="needs the extra docs")
    jinja2 = pytest.importorskip("jinja2", reason="needs the extra docs")
    template = jinja2.Template(
        (PACKAGING / "meta.yaml").read_text(encoding="utf-8"), undefined=jinja2.StrictUndefined
    )
    pinned = {"pin_subpackage": lambda name, max_pin: f"{name} {max_pin}"}
    return dict(yaml.safe_load(template.render(PYTHON="python", **pinned)))


def test_the_recipe_has_the_requirements_of_the_wheel(recipe: dict[str, Any]) -> None:
    run = names_and_versions(recipe["requirements"]["run"])
    assert run.pop("python") == PROJECT["requires-python"]
    assert run == names_and_versions(PROJECT["dependencies"] + EXTRAS["cpu"])
    host = names_and_versions(recipe["requirements"]["host"])
    assert host == {"python": PROJECT["requires-python"], "pip": None} | names_and_versions(
        PYPROJECT["build-system"]["requires"]
    )
    optional = names_and_versions(recipe["requirements"]["run_constrained"])
    wanted = names_and_versions([need for name in ("pairs", "search", "plot") for need in EXTRAS[name]])
    assert optional == wanted


def test_the_recipe_has_the_identity_of_the_wheel(recipe: dict[str, Any]) -> None:
    assert recipe["package"] == {"name": PROJECT["name"], "version": __version__}
    points = dict(point.split(" = ") for point in recipe["build"]["entry_points"])
    assert points == PROJECT["scripts"]
    assert recipe["about"]["summary"] == PROJECT["description"]
    assert recipe["about"]["license"] == PROJECT["license"]
    assert [recipe["about"]["license_file"]] == PROJECT["license-files"]
    assert f"protemb_sdk-{__version__}.tar.gz" in recipe["source"]["url"]
    assert len(recipe["source"]["sha256"]) == 64
    (imported,) = recipe["test"]["imports"]
    assert (ROOT / "sdk" / imported / "__init__.py").exists()


def instructions() -> list[list[str]]:
    """Return the words of each instruction of the Dockerfile, without comments."""
    text = re.sub(r"^#.*\n", "", (PACKAGING / "Dockerfile").read_text(encoding="utf-8"), flags=re.M)
    lines = text.replace("\\\n", " ").splitlines()
    return [line.split() for line in lines if line.strip()]


def test_the_images_install_extras_that_exist() -> None:
    arguments = dict(words[1].split("=") for words in instructions() if words[0] == "ARG")
    assert set(arguments["EXTRAS"].split(",")) <= set(EXTRAS)
    installed = re.findall(r"\[(\w+),\$\{EXTRAS\}\]", (PACKAGING / "Dockerfile").read_text(encoding="utf-8"))
    assert sorted(installed) == ["cpu", "gpu"]  # one of the two in each image
    release = tuple(map(int, arguments["PYTHON"].split(".")))
    lowest = tuple(map(int, PROJECT["requires-python"].removeprefix(">=").split(".")))
    assert release >= lowest[:2]
    assert f"Programming Language :: Python :: {arguments['PYTHON']}" in PROJECT["classifiers"]


def test_the_wheel_is_built_from_the_files_that_it_needs() -> None:
    copied = [source for words in instructions() if words[0] == "COPY" for source in words[1:-1]]
    packages = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert sorted(copied) == sorted(
        ["pyproject.toml", PROJECT["readme"], *PROJECT["license-files"], *packages]
    )
    assert all((ROOT / source).exists() for source in copied)
    sent = (PACKAGING / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    assert sent[0] == "*" and {f"!{source}" for source in copied} == {line for line in sent if line[0] == "!"}


def test_the_readme_states_what_is_installed_imported_and_typed() -> None:
    text = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    assert f"`{PROJECT['name']}` is installed, `protemb_sdk` is imported, `protemb` is the command" in text
    assert "protemb" in PROJECT["scripts"]
