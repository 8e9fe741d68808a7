"""Which models there are: the bundled ones by name, any other ONNX file of ours by its path."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from protemb_sdk._errors import ModelError

BUNDLED = Path(__file__).parent / "bundled"
CONTRACT = "1"
"""Version of the graph contract that this SDK speaks (see export/README.md)."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be loaded.

    Parameters
    ----------
    name : str
        Name to pass to `Embedder(model=...)`.
    path : Path
        Embedding graph.
    score_path : Path or None
        Score graph, where there is one.
    summary : str
        What it is, in one line.
    sha256 : dict of str to str
        Expected hash per file name; empty for files outside the registry.
    """

    name: str
    path: Path
    score_path: Path | None
    summary: str
    sha256: dict[str, str]


@cache
def _registry() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = json.loads((BUNDLED / "registry.json").read_text(encoding="utf-8"))
    return loaded


def list_models() -> list[Model]:
    """Return the bundled models, the default first."""
    return [
        Model(
            name=name,
            path=BUNDLED / entry["embedding"],
            score_path=BUNDLED / entry["score"] if "score" in entry else None,
            summary=entry["summary"],
            sha256=dict(entry["sha256"]),
        )
        for name, entry in _registry().items()
    ]


def find_model(model: str | PathLike[str]) -> Model:
    """Return a bundled model by name, or the model in a file.

    A file `x.onnx` brings its score graph along where `x-score.onnx` lies beside it.

    Raises
    ------
    ModelError
        If there is no such name and no such file.
    """
    if not isinstance(model, str | PathLike):
        raise ModelError(f"model={model!r}: pass the name of a bundled model, or the path of an .onnx file")
    bundled = list_models()
    for known in bundled:
        if known.name == model:
            return known
    path = Path(model)
    if not os.path.isfile(path):
        names = ", ".join(known.name for known in bundled)
        raise ModelError(
            f"no model named {str(model)!r}: bundled are {names}; otherwise pass the path of an .onnx file"
        )
    score = path.with_name(path.name.removesuffix(".onnx") + "-score.onnx")
    return Model(path.stem, path, score if score.is_file() else None, "a file of the caller's", {})


def read_graph(model: Model, path: Path) -> tuple[bytes, str]:
    """Return a graph file's bytes and SHA-256, checked against the registry where it is listed there."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror})") from error
    digest = hashlib.sha256(content).hexdigest()
    expected = model.sha256.get(path.name)
    if expected is not None and digest != expected:
        raise ModelError(
            f"{path}: the bundled model is damaged (SHA-256 {digest[:12]}..., not {expected[:12]}...); "
            "reinstall protemb-sdk"
        )
    return content, digest
