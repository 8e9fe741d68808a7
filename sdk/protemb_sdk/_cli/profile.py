"""`protemb profile`: log probabilities of residue types at each place of a chain, from its structure."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protemb_sdk._base.console import check_there
from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.output import check_output
from protemb_sdk._cli.summary import ProfileTally, nothing_done, report_skipped

if TYPE_CHECKING:
    from collections.abc import Generator

    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk._embed.many import EmbeddingRun


def profile(
    files: Annotated[
        list[Path], typer.Argument(help="Structure files (PDB, mmCIF, mmJSON, .gz) and folders.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write, CSV, a row a residue.")],
    chain: Annotated[str | None, typer.Option(help="Only this chain (author or label name).")] = None,
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in all.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print errors and what was skipped, nothing else.")
    ] = False,
) -> None:
    """Write how well each residue type fits at each place of every protein chain, from structure alone.

    Columns: id, chain, auth_seq, insertion_code, residue_name, and for each type A to Y the natural
    logarithm of its probability. The residue types of the chain are not used. Files that fail and chains that
    are passed over are listed with their reasons. The exit status is 0 if there is a profile of anything.
    """
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.many import inputs_of
    from protemb_sdk._embed.profiles import writing_profiles

    check_there(files)
    if chain is not None and (len(files) != 1 or os.path.isdir(files[0])):
        raise StructureError("--chain goes with exactly one file")
    embedder = Embedder(model, device, threads=threads)
    check_output(out, ".csv", [*files, embedder.model.path])
    tally = ProfileTally()
    with writing_profiles(out) as table:
        run: Generator[Embedding, None, None] | EmbeddingRun
        if chain is not None:
            embedding = embedder.embed(files[0], chain, profile=True)
            run, skipped = (each for each in (embedding,)), []
        else:
            inputs = inputs_of(files)
            alone = isinstance(inputs, list) and len(inputs) == 1
            run = embedder.embed_many(
                inputs, workers=workers, profile=True, progress=not quiet and not alone, on_error="skip"
            )
            skipped = run.skipped
        with closing(run):
            for embedding in run:
                assert embedding.profile is not None  # asked for
                table.add(embedding.structure, embedding.profile)
                tally.add(embedding)
        if not tally.chains:
            raise nothing_done(skipped, "embedded", out)
    if not quiet:
        tally.report(embedder.provenance, out)
    report_skipped(skipped, kept=False)
