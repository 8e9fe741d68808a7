"""The checks of `protemb doctor`, from ONNX Runtime to a reference vector."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from protemb_sdk._base.errors import ProtembError
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._base.names import short_hash
from protemb_sdk._base.threads import usable_threads
from protemb_sdk._base.version import __version__
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._model.models import EXAMPLE
from protemb_sdk._model.runtime import import_runtime, installed_wheels

GOLDEN_TOLERANCE = 1e-3
"""Of the vector's scale: other processors and CUDA sum in another order."""


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    passed: bool
    finding: str


def diagnose(model: str, device: str, threads: int | None = None, verbose: bool = False) -> list[Check]:
    """Return the results in order; checks after a failed one may be missing.

    `verbose` shows the whole hash of the file of the model.
    """
    checks = [
        Check("protemb", True, f"{__version__}, Python {platform.python_version()}, {platform.machine()}")
    ]

    def look(name: str, at: Callable[[], tuple[bool, str]]) -> bool:
        try:
            checks.append(Check(name, *at()))
        except ProtembError as error:
            checks.append(Check(name, False, str(error)))
        return checks[-1].passed

    if not look("ONNX Runtime", _wheels) or not look("providers", _providers):
        return checks
    look("threads", lambda: (True, f"{usable_threads()} usable (affinity and cgroup quota)"))
    made: list[Embedder] = []

    def session() -> tuple[bool, str]:
        made.append(Embedder(model, device))
        sha256 = made[0].provenance["model_sha256"]
        return True, f"{made[0]!r}, SHA-256 {sha256 if verbose else short_hash(sha256)} of the file"

    if look("session", session):
        look("reference vector", lambda: _golden(made[0]))
    return checks


def _wheels() -> tuple[bool, str]:
    wheels = installed_wheels()
    found = ", ".join(f"{name} {version}" for name, version in wheels.items()) or "none"
    if len(wheels) > 1:
        return (
            False,
            f"{found}: one overwrites the other; pip uninstall both, then install one of the extras cpu, gpu",
        )
    if not wheels:
        return False, f"no ONNX Runtime; for CUDA use the extra `gpu`, otherwise {how_to_install('cpu')}"
    return True, found


def _providers() -> tuple[bool, str]:
    return True, ", ".join(import_runtime().get_available_providers())


def _golden(embedder: Embedder) -> tuple[bool, str]:
    golden = embedder.card.get("golden")
    if golden is None:
        return True, "this model has none"
    found = embedder.embed(EXAMPLE).protein
    wanted = np.array(golden["protein"], dtype=np.float32)
    error = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return error < GOLDEN_TOLERANCE, f"{golden['structure']}, relative difference {error:.0e}"
