"""ONNX Runtime: the installed wheels, its import, and the execution providers of a device."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from importlib import metadata
from typing import Any

from protemb_sdk._base.errors import DeviceError
from protemb_sdk._base.extras import how_to_install

Provider = str | tuple[str, dict[str, Any]]

WHEELS = ("onnxruntime", "onnxruntime-gpu")

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"

# TF32 rounds to 10 bits. For graphs with convolutions: on an H100 a change of length costs 33 ms with cuDNN's
# default algorithm, 55 with its heuristic, 300 with a search; the chain itself costs 4 (benchmarks/cuda.md).
CUDA_OPTIONS = {"use_tf32": "0", "cudnn_conv_algo_search": "DEFAULT"}


def installed_wheels() -> dict[str, str]:
    """Return the installed ONNX Runtime distributions and their versions."""
    found = {}
    for wheel in WHEELS:
        try:
            found[wheel] = metadata.version(wheel)
        except metadata.PackageNotFoundError:
            continue
    return found


def import_runtime() -> Any:
    """Return the `onnxruntime` module.

    Raises
    ------
    DeviceError
        If it is not installed, or does not load.
    """
    try:
        import onnxruntime
    except ImportError as error:
        wheels = installed_wheels()
        if not wheels:
            raise DeviceError(
                "ONNX Runtime is not installed; for CUDA use the extra `gpu`, otherwise "
                + how_to_install("cpu")
            ) from None
        raise DeviceError(
            f"ONNX Runtime ({_names(wheels)}) is installed but does not load: {first_line(error)}"
        ) from error
    return onnxruntime


def choose_providers(device: str, providers: Sequence[Provider] | None) -> list[Provider]:
    """Return execution providers for "auto", "cpu", "cuda" or "cuda:N", or the caller's own.

    Raises
    ------
    DeviceError
        If the device is unknown or the installed wheel cannot serve it; never a silent fallback.
    """
    available = import_runtime().get_available_providers()
    if providers is not None:
        providers = [providers] if isinstance(providers, str) else list(providers)
        if not providers:
            raise DeviceError(f"providers= is empty; ONNX Runtime here has {', '.join(available)}")
        missing = [name for name in map(name_of, providers) if name not in available]
        if missing:
            raise DeviceError(f"ONNX Runtime here has no {', '.join(missing)}; it has {', '.join(available)}")
        return providers
    device = str(device)
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]+)?", device):
        raise DeviceError(f"no device named {device!r}; use 'auto', 'cpu', 'cuda' or 'cuda:0'")
    kind, _, number = device.partition(":")
    cuda: Provider = (CUDA, {"device_id": number or "0", **CUDA_OPTIONS})
    if kind == "cuda":
        if CUDA not in available:
            raise DeviceError(f"{device} was asked for, but {_why_no_cuda()}")
        return [cuda]
    if kind == "auto" and CUDA in available:
        return [cuda]
    return [CPU]


def _why_no_cuda() -> str:
    wheels = installed_wheels()
    names = _names(wheels)
    if len(wheels) > 1:
        return (
            f"both {names} are installed, and one overwrites the other; "
            f"pip uninstall both, then {how_to_install('gpu')}"
        )
    if "onnxruntime-gpu" in wheels:
        return f"{names} offers no CUDA provider on this machine; check it with protemb doctor"
    return (
        f"{names} is a CPU build; pip uninstall onnxruntime, then (CUDA 13, cuDNN 9) {how_to_install('gpu')}"
    )


def _names(wheels: Mapping[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in wheels.items()) or "no known wheel"


def first_line(error: Exception) -> str:
    """Return the first line of a message, or the type of an error without one."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def name_of(provider: Provider) -> str:
    """Return the name of a provider that may have options."""
    return provider if isinstance(provider, str) else provider[0]


def options_of(provider: Provider) -> dict[str, Any]:
    """Return the options of a provider that may have none."""
    return {} if isinstance(provider, str) else provider[1]
