"""What the three command lines share: one console, and errors of ours as one sentence and exit status 1."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType

from rich.console import Console

from protemb_sdk._errors import ProtembError

console = Console(stderr=True)
out_console = Console()


def say(to: Console, line: str) -> None:
    """Print a line as it is: no markup, no wrapping, no colours for numbers."""
    to.print(line, soft_wrap=True, markup=False, highlight=False)


# What an ImportError names, and the extra that brings it.
_EXTRAS = {"torch": "train", "lightning": "train", "onnx": "train", "onnxscript": "train", "pyarrow": "train"}


def run(app: Callable[[], None]) -> None:
    """Run a command line; SIGTERM, which batch systems send, cleans up as Ctrl-C does."""
    logging.basicConfig(format="%(message)s")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except ProtembError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        _fail(f"this command needs {error.name}: pip install 'protemb-sdk[cpu,{extra}]'")


def _fail(sentence: str) -> None:
    console.print("[bold red]error:[/] ", end="")
    say(console, sentence)
    raise SystemExit(1)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
