"""`protemb verify`: some rows of a store, embedded again."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, out_console, say
from protemb_sdk._base.errors import OutputError
from protemb_sdk._cli.options import Device, Threads


def verify(
    store: Annotated[Path, typer.Argument(help="Store, made by protemb embed FOLDER -o STORE.")],
    sample: Annotated[int, typer.Option(min=1, help="Rows to draw at random.")] = 20,
    seed: Annotated[int, typer.Option(help="Same seed, same rows.")] = 0,
    model: Annotated[str | None, typer.Option(help="Model of the store, if it is not bundled.")] = None,
    device: Device = "auto",
    threads: Threads = None,
) -> None:
    """Embed the files of some rows of a store again, and compare; exit status 1 if any differs."""
    from protemb_sdk._store.verify import verify_store

    found = verify_store(store, sample, seed, model=model, device=device, threads=threads)
    for skipped in found.missing:
        say(console, f"not compared: {skipped}")
    say(
        out_console,
        f"{found.rows} rows computed again, largest deviation {found.worst:.1e} of a vector's largest value",
    )
    if found.wrong:
        raise OutputError(
            f"{len(found.wrong)} rows are not what their files give: {', '.join(found.wrong[:5])}", store
        )
    if not found.rows:
        raise OutputError(f"none of the {len(found.missing)} files of the sample could be read", store)
