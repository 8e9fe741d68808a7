"""`protemb index`: an index of a store, to be searched."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import out_console, say
from protemb_sdk._cli.summary import number_of, size_of


def index(
    store: Annotated[
        Path, typer.Argument(help="Store or .parquet file, made by protemb embed FOLDER -o STORE.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make.")],
) -> None:
    """Make an index of a store or of a .parquet file, to search it with `protemb search`."""
    from protemb_sdk.search import build_index

    count = build_index(store, out)
    say(out_console, f"{number_of(count, 'chain')} -> {out}, {size_of(*out.iterdir())}")
