"""`protemb profile`: log probabilities of residue types at each place of a chain, from its structure."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import note_replaced
from protemb_sdk._base.limits import DEFAULT_TIMEOUT
from protemb_sdk._base.output import check_apart, check_ending, writable_target
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
    Verbose,
    Workers,
    chosen,
)
from protemb_sdk._cli.runs import check_chain, results_of
from protemb_sdk._cli.summary import ProfileTally, nothing_done, report_skipped


def profile(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write, CSV, one row for each residue.")],
    chain: Chains = None,
    together: Complex = False,
    assembly: Assembly = None,
    model: Model = "base",
    device: Device = "auto",
    threads: Threads = None,
    altloc: Altloc = "highest",
    min_plddt: MinPlddt = None,
    workers: Workers = 1,
    fetch: Fetch = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Write the log probability of each residue type at each residue, from the structure alone.

    Columns: id, chain, auth_seq, insertion_code, residue_name, and for each type A to Y the natural
    logarithm of its probability. The residue types of the chain are not used. Files that fail and chains that
    are skipped are listed with their reasons. The exit status is 0 if any chain has a profile.
    """
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.profiles import writing_profiles

    files = present(files, fetch, timeout, quiet)
    one, several = chosen(chain, together, assembly)
    check_chain(files, one)
    embedder = Embedder(model, device, threads=threads, altloc=altloc, min_plddt=min_plddt, **several)
    check_apart([writable_target(out)], [*files, embedder.model.path])
    check_ending(out, ".csv")
    note_replaced([out], quiet=quiet)
    tally = ProfileTally()
    with (
        writing_profiles(out) as table,
        results_of(
            files, one, partial(embedder.embed, profile=True), embedder.embed_many,
            workers=workers, quiet=quiet, profile=True,
        ) as (run, skipped),
    ):  # fmt: skip
        for embedding in run:
            assert embedding.profile is not None  # asked for
            table.add(embedding.chain, embedding.profile)
            tally.add(embedding)
        if not tally.chains:
            raise nothing_done(skipped, "embedded", out)
    if not quiet:
        tally.report(embedder.provenance if verbose else None, out)
    report_skipped(skipped)
