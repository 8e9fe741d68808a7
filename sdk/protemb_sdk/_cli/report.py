"""`protemb report`: one page about a set of structures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import note_replaced, out_console, say
from protemb_sdk._base.limits import DEFAULT_TIMEOUT
from protemb_sdk._cli.fetch import present
from protemb_sdk._cli.options import (
    Altloc,
    Assembly,
    Chains,
    Complex,
    Device,
    Fetch,
    Files,
    MinPlddt,
    Model,
    Quiet,
    Threads,
    Timeout,
    Workers,
    chosen,
)


def report(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write, HTML.")],
    model: Model = "base",
    chain: Chains = None,
    together: Complex = False,
    assembly: Assembly = None,
    clusters: Annotated[
        float | None,
        typer.Option(
            min=-1,
            max=1,
            help="Also show clusters as protemb cluster makes them, with this --similarity (extra search).",
        ),
    ] = None,
    device: Device = "auto",
    threads: Threads = None,
    altloc: Altloc = "highest",
    min_plddt: MinPlddt = None,
    workers: Workers = 1,
    fetch: Fetch = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    quiet: Quiet = False,
) -> None:
    """Write one page about a set of structures: a map, a table, neighbours, chains in three dimensions.

    It opens in a browser without a network, and holds all that it shows.
    """
    from protemb_sdk._base.output import check_apart, check_ending, writable_target
    from protemb_sdk._cli.runs import check_chain, results_of
    from protemb_sdk._cli.summary import nothing_done, number_of, report_notes, report_skipped, size_of
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._model.models import find_model
    from protemb_sdk.report import write_report

    writable_target(out)
    files = present(files, fetch, timeout, quiet)
    check_apart([out], [*files, find_model(model).path])
    check_ending(out, ".html")
    one, several = chosen(chain, together, assembly)
    check_chain(files, one)
    note_replaced([out], quiet=quiet)
    embedder = Embedder(model, device, threads=threads, altloc=altloc, min_plddt=min_plddt, **several)
    with results_of(files, one, embedder.embed, embedder.embed_many, workers=workers, quiet=quiet) as (
        run,
        skipped,
    ):
        found = list(run)
    if not found:
        raise nothing_done(skipped, "embedded", out)
    count = write_report(
        found, out, skipped=skipped, provenance=embedder.provenance, cluster_similarity=clusters
    )
    if not quiet:
        report_notes(embedding.chain for embedding in found)
        noun = "embedding" if any(embedding.chain.is_complex for embedding in found) else "chain"
        say(out_console, f"{number_of(count, noun)} -> {out}, {size_of(out)}")
    report_skipped(skipped)
