"""What the three command lines share: one console, and errors of ours as one sentence and exit status 1."""

from __future__ import annotations

import logging
from collections.abc import Callable

from rich.console import Console

from protemb_sdk._errors import ProtembError

console = Console(stderr=True)
out_console = Console()


def say(to: Console, line: str) -> None:
    """Print a line as it is: no markup, no wrapping, no colours for numbers."""
    to.print(line, soft_wrap=True, markup=False, highlight=False)


def run(app: Callable[[], None]) -> None:
    """Run a command line."""
    logging.basicConfig(format="%(message)s")
    try:
        app()
    except ProtembError as error:
        console.print("[bold red]error:[/] ", end="")
        say(console, str(error))
        raise SystemExit(1) from None
