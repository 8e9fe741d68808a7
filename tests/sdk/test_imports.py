"""Importing is fast and loads heavy dependencies only when they are needed."""

from __future__ import annotations

import subprocess
import sys

import protemb_sdk

HEAVY = (
    "torch", "lightning", "numba", "onnxruntime", "gemmi", "pyarrow", "matplotlib", "biotite", "scipy",
    "urllib.request",
)  # fmt: skip


def loaded_after(code: str) -> set[str]:
    """Return the heavy packages that a new interpreter has loaded after running the code."""
    code += f"\nimport sys; print(' '.join(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_heavy_packages_are_loaded_only_when_they_are_needed() -> None:
    assert loaded_after("import protemb_sdk") == set()
    assert (
        loaded_after("from protemb_sdk import Embedder, Embedding, Chain, list_models; list_models()")
        == set()
    )
    assert loaded_after("from protemb_sdk import SitePredictor, list_readouts; list_readouts()") == set()
    assert loaded_after("import protemb_sdk.cli") == set()
    used = loaded_after("from protemb_sdk import Embedder; Embedder(device='cpu')")
    assert used == {"onnxruntime"}
    line = "([[0, 0, 3 * i] for i in range(9)], 'A' * 9)"
    embed = f"from protemb_sdk import Embedder; Embedder(device='cpu').embed({line}, %s)"
    light = {"gemmi", "onnxruntime"}
    for wanted in ("pair=False", "pair=True", "readouts=['mean']"):
        assert loaded_after(embed % wanted) == light
    # Numba loads SciPy if it is installed.
    assert loaded_after(embed % "readouts=['max']") - {"scipy"} == light | {"numba"}


def test_every_public_name_exists() -> None:
    for name in protemb_sdk.__all__:
        assert getattr(protemb_sdk, name) is not None
    assert sorted(protemb_sdk.__all__) == protemb_sdk.__all__ == sorted(protemb_sdk._HOME)
    assert set(dir(protemb_sdk)) >= set(protemb_sdk.__all__)
    errors = [
        value
        for name in protemb_sdk.__all__
        if name.endswith("Error")
        for value in [getattr(protemb_sdk, name)]
    ]
    assert len(errors) == 7 and all(issubclass(error, protemb_sdk.ProtembError) for error in errors)


def microseconds(module: str) -> int:
    """Return the cumulative time of an import, the best of several runs."""
    times = []
    for _ in range(7):
        done = subprocess.run(
            [sys.executable, "-X", "importtime", "-c", f"import {module}"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        for line in done.stderr.splitlines():
            if line.rpartition("|")[2].strip() == module:
                times.append(int(line.split("|")[1]))
    return min(times)


def test_the_import_takes_less_than_twice_as_long_as_numpy() -> None:
    assert microseconds("protemb_sdk") < 2 * microseconds("numpy")
