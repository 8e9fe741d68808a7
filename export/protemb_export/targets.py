"""Checks of output paths, made before a command starts its work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protemb_sdk import Model
from protemb_sdk._base.output import check_output


def check_graph(out: Path, inputs: Iterable[Path], sides: Iterable[str] = ()) -> None:
    """Check that a graph can be written, and that no input is overwritten.

    Parameters
    ----------
    out : Path
        ONNX file.
    inputs : iterable of Path
        Files that the command reads.
    sides : iterable of str
        Suffixes of the graphs next to it that are written, or removed if they exist.

    Raises
    ------
    OutputError
        If the check fails, or the name has the wrong suffix.
    """
    check_output(out, ".onnx", inputs, beside=[f"-{kind}.onnx" for kind in sides])


def files_of(model: Model) -> list[Path]:
    """Return the graphs of a model."""
    return [path for path in (model.path, model.score_path, model.gpu_path) if path is not None]
