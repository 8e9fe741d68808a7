"""What the three command lines share: one console, and errors of ours as one sentence and exit status 1."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType

from rich.console import Console

from protemb_sdk._errors import ProtembError, printable

console = Console(stderr=True)
out_console = Console()


def say(to: Console, line: str) -> None:
    """Print a line as it is: no markup, no wrapping, no colours for numbers, no control characters."""
    to.print(printable(line), soft_wrap=True, markup=False, highlight=False)


# What the extra `train` brings, as an ImportError names it.
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
    """Run a command line; SIGTERM, which batch systems send, cleans up as Ctrl-C does."""
    logging.basicConfig(format="%(message)s")
    signal.signal(signal.SIGTERM, _terminated)
    try:
        app()
    except ProtembError as error:
        _fail(str(error))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _TRAINING:
            raise
        _fail(f"this command needs {error.name}: pip install 'protemb-sdk[cpu,train]'")


def _fail(sentence: str) -> None:
    console.print("[bold red]error:[/] ", end="")
    say(console, sentence)
    raise SystemExit(1)


def _terminated(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
