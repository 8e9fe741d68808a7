"""An installation with an old Python ends at once and says which one is needed."""

from __future__ import annotations

import runpy
import sys
import tomllib
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> types.SimpleNamespace:
    """Return what hatch_build.py defines; the base class is of hatchling, which is there in a build only."""
    for name in ("hatchling", "hatchling.metadata", "hatchling.metadata.plugin"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    interface = types.ModuleType("interface")
    interface.MetadataHookInterface = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "hatchling.metadata.plugin.interface", interface)
    return types.SimpleNamespace(**runpy.run_path(str(ROOT / "hatch_build.py")))


def test_the_oldest_python_is_that_of_the_metadata(hook: types.SimpleNamespace) -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["project"]["requires-python"] == ">=" + ".".join(map(str, hook.OLDEST))
    assert "custom" in settings["tool"]["hatch"]["metadata"]["hooks"]


@pytest.mark.parametrize("version", [(3, 10, 13, "final", 0), (3, 11, 4, "final", 0), (2, 7, 18)])
def test_an_old_python_is_refused(
    hook: types.SimpleNamespace, version: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = {"name": "protemb-sdk"}
    hook.OldPython().update(metadata)  # this one is new enough
    monkeypatch.setattr(sys, "version_info", version)
    found = ".".join(map(str, version[:3]))
    with pytest.raises(SystemExit, match=rf"protemb needs Python 3\.11\.5 or newer, and this is {found};"):
        hook.OldPython().update(metadata)
    assert metadata == {"name": "protemb-sdk"}
