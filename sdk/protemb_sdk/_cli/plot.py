"""What `protemb plot` and `protemb report` do: pictures of a chain, a page about a set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import check_there, out_console, say


def plot(
    file: Annotated[Path, typer.Argument(help="Structure file (PDB, mmCIF, mmJSON, .gz).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture to write: .png, .svg, .pdf.")],
    chain: Annotated[str | None, typer.Option(help="Which chain, where there are several.")] = None,
    sites: Annotated[bool, typer.Option("--sites", help="Also a profile of interface sites.")] = False,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also a profile of expected lDDT, for models of structures.")
    ] = False,
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Draw a chain: its distance map beside its pair embedding, its residue embedding along the chain.

    Residues are numbered as in the file. The same colour means alike to the network; colours of two chains
    are not comparable.
    """
    from protemb_sdk._base.output import check_apart, picture_kind, writable_target
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._model.models import find_model
    from protemb_sdk._predict.quality import QualityScorer
    from protemb_sdk._predict.sites import SitePredictor
    from protemb_sdk.plot import save_picture

    picture_kind(writable_target(out))
    check_apart([out], [file, find_model(model).path])
    embedding = Embedder(model, device).embed(file, chain, pair=True)
    known = embedding.chain
    touching = SitePredictor(device=device).predict(known) if sites else None
    right = QualityScorer(device=device).score(known) if quality else None
    say(out_console, str(save_picture(embedding, out, touching, right)))


def report(
    files: Annotated[
        list[Path], typer.Argument(help="Structure files (PDB, mmCIF, mmJSON, .gz) and folders.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write, HTML.")],
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print errors and what was skipped, nothing else.")
    ] = False,
) -> None:
    """Write one page about a set of structures: a map, a table, neighbours, chains in three dimensions.

    It opens in a browser without a network, and holds all that it shows.
    """
    from protemb_sdk._base.output import check_apart, writable_target
    from protemb_sdk._cli.summary import nothing_done, report_skipped, size_of
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.many import inputs_of
    from protemb_sdk._model.models import find_model
    from protemb_sdk.report import write_report

    writable_target(out)
    check_there(files)
    check_apart([out], [*files, find_model(model).path])
    embedder = Embedder(model, device)
    inputs = inputs_of(files)
    alone = isinstance(inputs, list) and len(inputs) == 1
    with embedder.embed_many(
        inputs, workers=workers, progress=not quiet and not alone, on_error="skip"
    ) as run:
        found = list(run)
    if not found:
        raise nothing_done(run.skipped, "embedded", out)
    count = write_report(found, out, skipped=run.skipped, provenance=embedder.provenance)
    if not quiet:
        say(out_console, f"{count} chains -> {out}, {size_of(out)}")
    report_skipped(run.skipped, kept=False)
