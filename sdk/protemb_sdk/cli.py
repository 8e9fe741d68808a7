"""`protemb`: the command line: embed structure files, search, predict, draw, check an installation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import out_console, run, say
from protemb_sdk._base.errors import ProtembError
from protemb_sdk._base.limits import DEFAULT_TIMEOUT
from protemb_sdk._base.version import __version__
from protemb_sdk._cli.cluster import cluster
from protemb_sdk._cli.embed import embed
from protemb_sdk._cli.fetch import fetch as fetch_command
from protemb_sdk._cli.fetch import present
from protemb_sdk._cli.index import index
from protemb_sdk._cli.options import (
    Altloc,
    ChainId,
    Device,
    Fetch,
    Files,
    Head,
    MinPlddt,
    Model,
    OfSingleChains,
    Quiet,
    Threads,
    Timeout,
    Verbose,
    Workers,
)
from protemb_sdk._cli.plot import plot as plot_command
from protemb_sdk._cli.predict import predict
from protemb_sdk._cli.profile import profile
from protemb_sdk._cli.report import report
from protemb_sdk._cli.search import search
from protemb_sdk._cli.verify import verify

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _version(wanted: bool) -> None:
    if wanted:
        out_console.print(f"protemb-sdk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Structure embeddings of proteins."""


app.command()(embed)


@app.command(cls=OfSingleChains)
def sites(
    files: Files,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Table to write (.csv), one row for each residue.")
    ],
    chain: ChainId = None,
    structure: Annotated[
        Path | None,
        typer.Option(
            help="Also a copy of the structure (.pdb, .cif, .gz; one input only), with the prediction in "
            "percent (0-100) as B-factor of each atom of a predicted residue, 0 elsewhere."
        ),
    ] = None,
    head: Head = "sites",
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
    """Predict which residues of every protein chain lie in an interface, from each chain alone.

    There is no --complex and no --assembly, because the predictor was trained on single chains.

    Columns: source, chain, auth_seq, insertion_code, label_seq, residue_name, probability, site (1 or 0).
    Files that fail and chains that are skipped are listed with their reasons. The exit status is 0 if
    anything was predicted.
    """
    from protemb_sdk._cli.sites import predict_files

    files = present(files, fetch, timeout, quiet)
    predict_files(
        files,
        out,
        chain=chain,
        structure=structure,
        head=head,
        device=device,
        threads=threads,
        altloc=altloc,
        min_plddt=min_plddt,
        workers=workers,
        quiet=quiet,
        verbose=verbose,
    )


@app.command(cls=OfSingleChains)
def quality(
    files: Files,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Ranking to write, CSV.")] = None,
    residues: Annotated[Path | None, typer.Option(help="Also lDDT of every residue, CSV.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also a picture of the profiles of the best (extra plot).")
    ] = None,
    chain: ChainId = None,
    structures: Annotated[
        Path | None, typer.Option(help="Also a folder of copies, lDDT in percent (0-100) as B-factors.")
    ] = None,
    head: Head = "quality",
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
    """Rank models of one target by predicted quality, from C-alphas alone and without the native structure.

    There is no --complex and no --assembly, because the predictor was trained on single chains.

    Prints expected GDT_TS and lDDT of every protein chain, best first. Files that fail and chains that are
    skipped are listed with their reasons. The exit status is 0 if a chain was scored.
    """
    from protemb_sdk._cli.quality import score_files

    files = present(files, fetch, timeout, quiet)
    score_files(
        files,
        out=out,
        residues=residues,
        plot=plot,
        structures=structures,
        chain=chain,
        head=head,
        device=device,
        threads=threads,
        altloc=altloc,
        min_plddt=min_plddt,
        workers=workers,
        quiet=quiet,
        verbose=verbose,
    )


app.command("fetch")(fetch_command)
app.command()(profile)
app.command(cls=OfSingleChains)(predict)
app.command("plot")(plot_command)
app.command()(report)
app.command()(index)
app.command()(search)
app.command()(cluster)
app.command()(verify)


@app.command()
def models(verbose: Verbose = False) -> None:
    """List the bundled models and predictors."""
    from protemb_sdk._model.heads import list_heads
    from protemb_sdk._model.models import list_models

    for model in [*list_models(), *list_heads()]:
        out_console.print(f"[bold]{model.name}[/]  {model.summary}", soft_wrap=True, highlight=False)
        if verbose:
            for name, sha256 in model.sha256.items():
                say(out_console, f"    {sha256}  {name}")


@app.command()
def doctor(
    model: Model = "base",
    device: Device = "auto",
    threads: Threads = None,
    verbose: Verbose = False,
) -> None:
    """Check ONNX Runtime and its devices, threads, the model file and a reference vector."""
    from protemb_sdk._cli.doctor import diagnose

    checks = diagnose(model, device, threads, verbose)
    for check in checks:
        mark = "[green]ok[/]  " if check.passed else "[bold red]FAIL[/]"
        out_console.print(f"{mark} {check.name}: ", end="")
        say(out_console, check.finding)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ProtembError(f"doctor found a problem in: {', '.join(failed)}")


def main() -> None:
    """Run the command line; a `ProtembError` is printed as one sentence, with exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
