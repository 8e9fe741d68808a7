"""Models by name and by path, devices and threads: used as requested, or refused with a clear error."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import onnxruntime
import pytest

from protemb_sdk import DeviceError, Embedder, ModelError, list_models
from protemb_sdk._model import models, runtime


def test_the_default_model_is_listed_first_and_exists() -> None:
    first = list_models()[0]
    assert first.name == "base" and first.path.is_file() and first.summary
    assert first.score_path is not None and first.score_path.is_file()
    assert first.gpu_path is not None and first.gpu_path.is_file()
    assert set(first.sha256) == {first.path.name, first.score_path.name, first.gpu_path.name}


@pytest.mark.parametrize("model", list_models(), ids=lambda model: model.name)
def test_the_files_of_a_bundled_model_have_their_recorded_hashes(model: models.Model) -> None:
    files = [model.path, *filter(None, (model.score_path, model.gpu_path))]
    assert {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in files} == model.sha256


def test_a_model_is_found_by_any_kind_of_path(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(models.BUNDLED.joinpath("base.onnx").read_bytes())
    for given in (path, str(path)):
        found = models.find_model(given)
        assert (found.name, found.path, found.score_path) == ("x", path, None)
    assert Embedder(path, device="cpu").provenance["model_sha256"] == next(
        digest for name, digest in list_models()[0].sha256.items() if name == "base.onnx"
    )


@pytest.mark.parametrize("name", ["bsae", "", "no/such.onnx", "x" * 5000, "a\0b"])
def test_the_error_for_an_unknown_model_lists_the_bundled_models(name: str) -> None:
    with pytest.raises(ModelError, match=r"no model named .* bundled are base.*pass the path of an \.onnx"):
        Embedder(name)


def test_a_damaged_bundled_model_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "bundled"
    shutil.copytree(models.BUNDLED, folder)
    monkeypatch.setattr(models, "BUNDLED", folder)
    assert Embedder(device="cpu").channels
    data = bytearray((folder / "base.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "base.onnx").write_bytes(data)
    with pytest.raises(ModelError, match=r"base\.onnx: the bundled model is damaged .*reinstall protemb-sdk"):
        Embedder(device="cpu")
    (folder / "base.onnx").unlink()
    with pytest.raises(ModelError, match=r"base\.onnx: cannot be read \(No such file"):
        Embedder(device="cpu")


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(99)])
def test_files_that_are_not_onnx_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(
        ModelError,
        match=r"x\.onnx: (is not a complete ONNX file|ONNX Runtime cannot load it|an ONNX file, but not one)",
    ):
        Embedder(path, device="cpu")


def foreign_model(path: Path, **metadata: str) -> Path:
    """Write an identity graph with the given metadata."""
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "foreign",
        [helper.make_tensor_value_info("x", kind, [1])],
        [helper.make_tensor_value_info("y", kind, [1])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, {f"protemb.{name}": value for name, value in metadata.items()})
    path.write_bytes(model.SerializeToString())
    return path


def test_an_onnx_file_of_another_program_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    with pytest.raises(ModelError, match=r"x\.onnx: an ONNX file, but not one of protemb's"):
        Embedder(foreign_model(path), device="cpu")
    with pytest.raises(ModelError, match=r"written for graph contract 99, and this SDK supports 1"):
        Embedder(foreign_model(path, contract="99"), device="cpu")
    for card in ("not json", "{}", "[]", json.dumps({"kind": "embedding", "sigma_range": [1, 2]})):
        with pytest.raises(ModelError, match=r"metadata are incomplete .*export it again"):
            Embedder(foreign_model(path, contract="1", card=card), device="cpu")


def test_a_score_graph_is_refused_as_an_embedding_graph() -> None:
    with pytest.raises(ModelError, match="holds the score graph; pass the embedding graph beside it"):
        Embedder(models.BUNDLED / "base-score.onnx", device="cpu")


# --- devices ----------------------------------------------------------------------------------------


def without_cuda(monkeypatch: pytest.MonkeyPatch, **wheels: str) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    named = {name.replace("_", "-"): version for name, version in wheels.items()}
    monkeypatch.setattr(runtime, "installed_wheels", lambda: named)


@pytest.mark.parametrize("device", ["cuda", "cuda:1"])
def test_the_error_for_missing_cuda_names_the_wheel_and_the_solution(
    monkeypatch: pytest.MonkeyPatch, device: str
) -> None:
    without_cuda(monkeypatch, onnxruntime="1.99")
    with pytest.raises(DeviceError, match=rf"{device} was asked for, but onnxruntime 1\.99 is a CPU build"):
        Embedder(device=device)
    without_cuda(monkeypatch, onnxruntime="1.99", onnxruntime_gpu="1.98")
    with pytest.raises(DeviceError, match=r"both onnxruntime 1\.99 and onnxruntime-gpu 1\.98 are installed"):
        Embedder(device=device)
    without_cuda(monkeypatch, onnxruntime_gpu="1.98")
    with pytest.raises(DeviceError, match=r"onnxruntime-gpu 1\.98 offers no CUDA provider .*protemb doctor"):
        Embedder(device=device)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:x", "cpu:0", "", None, "CPU"])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match=f"no device named {str(device)!r}; use 'auto', 'cpu', 'cuda'"):
        Embedder(device=device)


def test_providers_are_used_or_refused_by_name() -> None:
    for providers in (["CPUExecutionProvider"], "CPUExecutionProvider", [("CPUExecutionProvider", {})]):
        assert Embedder(providers=providers).device == "cpu"  # type: ignore[arg-type]
    with pytest.raises(DeviceError, match=r"has no MadeUpProvider; it has .*CPUExecutionProvider"):
        Embedder(providers=["MadeUpProvider"])
    with pytest.raises(DeviceError, match="providers= is empty"):
        Embedder(providers=[])


class _Cpu:
    """A session on the CPU, for any requested device."""

    def __init__(self, content: bytes, options: object, providers: list[object]) -> None:
        real = onnxruntime.capi.onnxruntime_inference_collection.InferenceSession
        self._real = real(content, options, providers=["CPUExecutionProvider"])

    def __getattr__(self, name: str) -> object:
        return getattr(self._real, name)


def with_broken_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    monkeypatch.setattr(onnxruntime, "InferenceSession", _Cpu)


def test_a_fallback_to_the_cpu_is_logged_or_an_error(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with_broken_cuda(monkeypatch)
    for asked in ({"device": "cuda"}, {"providers": ["CUDAExecutionProvider"]}):
        with pytest.raises(DeviceError, match="CUDAExecutionProvider was asked for and ONNX Runtime fell"):
            Embedder(**asked)  # type: ignore[arg-type]
    assert Embedder().device == "cpu"
    assert "CUDA is offered but cannot be used" in caplog.text and len(caplog.records) == 1
    assert Embedder(providers=["CUDAExecutionProvider", "CPUExecutionProvider"]).device == "cpu"
    assert "running on CPUExecutionProvider, the next of providers=" in caplog.text


def test_a_device_that_does_not_start_is_a_device_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object, **options: object) -> None:
        raise RuntimeError("CUDA failure 101: invalid device ordinal\nmore")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime, "InferenceSession", broken)
    with pytest.raises(DeviceError, match=r"CUDAExecutionProvider cannot be started \(CUDA failure 101"):
        Embedder(device="cuda:99")


# --- threads ----------------------------------------------------------------------------------------


def test_session_options_of_the_caller_are_used() -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    embedder = Embedder(device="cpu", session_options=options)
    assert embedder._session.threads == 1
    assert Embedder(device="cpu", threads=3)._session.threads == 3
