"""Error messages if an optional package or ONNX Runtime is missing."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import protemb_sdk._cli.doctor as doctor
import protemb_sdk._model.runtime as runtime
from protemb_sdk import DeviceError, Embedder, EmbeddingError, OutputError, ray
from protemb_sdk._cli.doctor import diagnose
from protemb_sdk._store.fill import embed_into_store


def test_without_onnx_runtime_the_two_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    for module in (runtime, doctor):
        monkeypatch.setattr(module, "installed_wheels", dict)
    wanted = r"for CUDA use the extra `gpu`, otherwise install the extra `cpu`: pip install '\.\[cpu\]'"
    with pytest.raises(DeviceError, match=wanted):
        Embedder()
    found = diagnose("base", "auto")
    assert [(check.name, check.passed) for check in found] == [("protemb", True), ("ONNX Runtime", False)]
    assert "pip install '.[cpu]'" in found[-1].finding


def test_onnx_runtime_that_does_not_load_has_its_own_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(runtime, "installed_wheels", lambda: {"onnxruntime": "1.99"})
    with pytest.raises(DeviceError, match=r"\(onnxruntime 1\.99\) is installed but does not load"):
        Embedder()
    assert [(c.name, c.passed) for c in diagnose("base", "auto")][-1] == ("providers", False)


def test_two_wheels_of_onnx_runtime_are_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        doctor, "installed_wheels", lambda: {"onnxruntime": "1.99", "onnxruntime-gpu": "1.98"}
    )
    found = diagnose("base", "cpu")[-1]
    assert not found.passed and "one overwrites the other; pip uninstall both" in found.finding


def test_missing_pyarrow_and_ray_name_their_extras(
    embedder: Embedder, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(OutputError, match=r"a store needs pyarrow; install the extra `store`"):
        embed_into_store(embedder, structures / "1orc.pdb", tmp_path / "store")
    monkeypatch.setitem(sys.modules, "ray.data", None)
    with pytest.raises(EmbeddingError, match=r"Ray is not installed; install the extra `ray`"):
        ray.embed(structures / "1orc.pdb", embedder)
    assert list(tmp_path.iterdir()) == []
