"""Where commands write, checked before they work."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from protemb_sdk._errors import OutputError
from protemb_sdk._models import Model, beside
from protemb_sdk._output import check_apart, writable_target


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
    _check_ending(out, ".onnx")
    check_apart([writable_target(path) for path in (out, *(beside(out, kind) for kind in sides))], inputs)


def check_page(out: Path, inputs: Iterable[Path]) -> None:
    """Check that a page can be written, and is not read.

    Raises
    ------
    OutputError
        If not, or its name does not end as a page's.
    """
    _check_ending(out, ".md")
    check_apart([writable_target(out)], inputs)


def files_of(model: Model) -> list[Path]:
    """Return the graphs of a model."""
    return [path for path in (model.path, model.score_path, model.gpu_path) if path is not None]


def _check_ending(out: Path, ending: str) -> None:
    if out.suffix != ending:
        raise OutputError(f"{out}: end the name in {ending}")
