"""`protemb`: embed structure files, list models, check an installation. No logic of its own."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from protemb_sdk._errors import ProtembError, StructureError
from protemb_sdk._version import __version__

if TYPE_CHECKING:
    from protemb_sdk._chain import Skipped
    from protemb_sdk._embedding import Embedding

SHOWN = 20  # chains and skipped ones listed in full; beyond it, counts

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
out_console = Console()
console = Console(stderr=True)


def _version(wanted: bool) -> None:
    if wanted:
        out_console.print(f"protemb-sdk {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """Structure embeddings of proteins."""


@app.command()
def embed(
    files: Annotated[
        list[Path], typer.Argument(help="Structure files (PDB, mmCIF, mmJSON, .gz) and folders.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write: .npz or .parquet.")],
    chain: Annotated[str | None, typer.Option(help="Only this chain (author or label name).")] = None,
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    pair: Annotated[
        bool, typer.Option("--pair", help="Keep pair embeddings (.npz; 4 C L^2 bytes a chain).")
    ] = False,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in all.")] = None,
    altloc: Annotated[str, typer.Option(help="highest (occupancy), first, or a letter.")] = "highest",
    model_number: Annotated[int, typer.Option(help="Which model of an NMR entry, from 1.")] = 1,
    min_residues: Annotated[int, typer.Option(min=1, help="Skip shorter chains.")] = 3,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that cannot be embedded.")
    ] = False,
    quiet: Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")] = False,
) -> None:
    """Embed every protein chain of the files into one output file.

    Files that fail and chains that are passed over are listed with their reasons, on screen and in the
    output. The exit status is 0 if anything was embedded (with --strict: if every file was).
    """
    from protemb_sdk._collect import collecting
    from protemb_sdk._embedder import Embedder
    from protemb_sdk._many import inputs_of

    for missing in (path for path in files if not path.exists()):
        raise StructureError(f"{missing}: no such file or folder")
    embedder = Embedder(
        model, device, threads=threads, altloc=altloc, model_number=model_number, min_residues=min_residues
    )
    shown: list[Embedding] = []
    count = residues = 0
    with collecting(out, pair=pair) as collection:
        if chain is not None:
            if len(files) != 1 or files[0].is_dir():
                raise StructureError("--chain goes with exactly one file")
            run, skipped = iter([embedder.embed(files[0], chain, pair=pair)]), []
        else:
            inputs = list(inputs_of(files))
            alone = strict or len(inputs) == 1
            run = embedder.embed_many(
                inputs, workers=workers, pair=pair, progress=not quiet, on_error="raise" if alone else "skip"
            )
            skipped = run.skipped
        for embedding in run:
            collection.add(embedding)
            count, residues = count + 1, residues + len(embedding)
            if len(shown) < SHOWN:
                shown.append(embedding)
        if not count:
            _report_skipped(skipped)
            raise StructureError(
                f"none of the {len(skipped)} inputs could be embedded; {out} was not written"
            )
        collection.finish(skipped, embedder.provenance)
    if not quiet:
        _report(shown, count, residues, embedder.provenance, out)
    _report_skipped(skipped)


def _report(shown: list[Embedding], count: int, residues: int, provenance: dict[str, Any], out: Path) -> None:
    if count <= SHOWN:
        table = Table("chain", "residues", "gaps", "protein", "residue", "pair", box=None)
        for e in shown:
            pair = "-" if e.pair is None else str(e.pair.shape)
            gaps = str(int(e.gap_after.sum()))
            table.add_row(e.id, str(len(e)), gaps, str(e.protein.shape), str(e.residue.shape), pair)
        out_console.print(table)
    for e in shown if count <= SHOWN else []:
        for note in e.notes:
            console.print(f"note: {e.id}: {note}", soft_wrap=True, markup=False, highlight=False)
    line = "  ".join(f"{key}={value}" for key, value in provenance.items())
    out_console.print(line, soft_wrap=True, markup=False, highlight=False)
    out_console.print(
        f"{count} chains, {residues} residues -> {out}", soft_wrap=True, markup=False, highlight=False
    )


def _report_skipped(skipped: list[Skipped]) -> None:
    if len(skipped) <= SHOWN:
        for s in skipped:
            console.print(f"skipped: {s}", soft_wrap=True, markup=False, highlight=False)
        return
    whole = sum(1 for s in skipped if not s.chain)
    console.print(
        f"skipped: {whole} files and {len(skipped) - whole} chains; reasons in the output file, in short:"
    )
    kinds = Counter("".join("N" if c.isdigit() else c for c in s.reason)[:100] for s in skipped)
    for reason, number in kinds.most_common(SHOWN):
        console.print(f"  {number:5d}  {reason}", soft_wrap=True, markup=False, highlight=False)


@app.command()
def models() -> None:
    """List the bundled models."""
    from protemb_sdk._models import list_models

    for model in list_models():
        out_console.print(f"[bold]{model.name}[/]  {model.summary}", soft_wrap=True, highlight=False)


@app.command()
def doctor(
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Check wheels, providers, a real session, threads, the model's hash and a golden vector."""
    from protemb_sdk._doctor import diagnose

    checks = diagnose(model, device)
    for check in checks:
        mark = "[green]ok[/]  " if check.passed else "[bold red]FAIL[/]"
        out_console.print(f"{mark} {check.name}: ", end="")
        out_console.print(check.finding, soft_wrap=True, markup=False, highlight=False)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ProtembError(f"doctor found a fault in: {', '.join(failed)}")


def main() -> None:
    """Run the command line; an error of ours is one sentence and exit status 1."""
    logging.basicConfig(format="%(message)s")
    try:
        app()
    except ProtembError as error:
        console.print("[bold red]error:[/] ", end="")
        console.print(str(error), soft_wrap=True, markup=False, highlight=False)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
