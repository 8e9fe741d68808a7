"""Where commands write, checked before they work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protemb_sdk import Model
from protemb_sdk._base.output import check_output


def check_graph(out: Path, inputs: Iterable[Path], sides: Iterable[str] = ()) -> None:
    """Check that a graph can be written, and that neither it nor graphs beside it are read.

    Parameters
    ----------
    out : Path
        ONNX file.
    inputs : iterable of Path
        What the command reads.
    sides : iterable of str
        Kinds of graphs beside it that are written, or removed as an older one's.

    Raises
    ------
    OutputError
        If not, or its name does not end as a graph's.
    """
    check_output(out, ".onnx", inputs, beside=[f"-{kind}.onnx" for kind in sides])


def files_of(model: Model) -> list[Path]:
    """Return the graphs of a model."""
    return [path for path in (model.path, model.score_path, model.gpu_path) if path is not None]
