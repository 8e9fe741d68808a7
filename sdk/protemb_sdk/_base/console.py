"""Shared code of the three command lines: console output, error messages and exit status."""

from __future__ import annotations

import inspect
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType

from rich.console import Console

from protemb_sdk._base.errors import ProtembError, StructureError, printable
from protemb_sdk._base.extras import how_to_install
from protemb_sdk._base.identifiers import as_address, how_to_fetch

console = Console(stderr=True)
out_console = Console()


def say(to: Console, line: str) -> None:
    """Print a line without markup, emoji, wrapping, colours for numbers or control characters."""
    to.print(printable(line), soft_wrap=True, markup=False, emoji=False, highlight=False)


def check_there(files: Iterable[Path]) -> None:
    """Check that inputs exist.

    Raises
    ------
    StructureError
        If an input is missing.
    """
    for missing in (path for path in files if not os.path.exists(path)):
        name = str(missing)
        hint = how_to_fetch(name, "add --fetch")
        raise StructureError(f"no such file or folder, or it cannot be read{hint}", as_address(name) or name)


def note_replaced(targets: Iterable[Path], *, quiet: bool = False) -> None:
    """Tell before any work which outputs are files that are there already."""
    for target in targets:
        if not quiet and os.path.isfile(target):
            say(console, f"note: {target} exists and will be replaced")


# Packages of the extra `train`, by their import names.
_TRAINING = frozenset(
    {
        "torch",
        "lightning",
        "matplotlib",
        "onnx",
        "onnxscript",
        "pyarrow",
        "pyopal",
        "sklearn",
        "scipy",
        "biotite",
        "tensorboard",
    }
)


def run(app: Callable[[], None]) -> None:
    """Run a command line; SIGTERM, as sent by batch systems, is handled like Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):  # the encoding of a terminal may lack some characters
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="replace")
    logging.basicConfig(format="%(message)s")
    signal.signal(signal.SIGTERM, _terminated)
    for command in getattr(app, "registered_commands", ()):  # Typer keeps the line breaks of docstrings
        paragraphs = inspect.cleandoc(command.callback.__doc__ or "").split("\n\n")
        command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    try:
        app()
    except ProtembError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _TRAINING:
            raise
        _fail(f"this command needs {error.name}; {how_to_install('cpu', 'train')}")


def _fail(sentence: str) -> None:
    console.print("[bold red]error:[/] ", end="")
    say(console, sentence)
    raise SystemExit(1)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
