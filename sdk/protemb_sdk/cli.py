"""`protemb`: embed structure files, search, predict, draw, check an installation; no logic here."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protemb_sdk._base.console import check_there, out_console, run, say
from protemb_sdk._base.errors import OutputError, ProtembError, StructureError
from protemb_sdk._base.limits import DEFAULT_BYTES, DEFAULT_RESIDUES
from protemb_sdk._base.output import check_apart, writable_target
from protemb_sdk._base.version import __version__
from protemb_sdk._cli.labels import predict
from protemb_sdk._cli.plot import plot as plot_command
from protemb_sdk._cli.plot import report
from protemb_sdk._cli.profile import profile
from protemb_sdk._cli.search import index, search, verify
from protemb_sdk._cli.summary import Tally, nothing_done, report_skipped
from protemb_sdk._model.readouts import READOUTS, check_readouts

if TYPE_CHECKING:
    from collections.abc import Generator

    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk._embed.many import EmbeddingRun

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


@app.command()
def embed(
    files: Annotated[
        list[Path], typer.Argument(help="Structure files (PDB, mmCIF, mmJSON, .gz) and folders.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, .npz or .parquet; or a folder.")],
    chain: Annotated[str | None, typer.Option(help="Only this chain (author or label name).")] = None,
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    pair: Annotated[
        bool, typer.Option("--pair", help="Keep pair embeddings (4 C L^2 bytes a chain; not into .parquet).")
    ] = False,
    readout: Annotated[
        list[str] | None,
        typer.Option(help=f"Further readout of the residues, may be repeated: {', '.join(READOUTS)}."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Chains of one length at once, for a GPU; with one worker.")
    ] = 1,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in all.")] = None,
    altloc: Annotated[str, typer.Option(help="highest (occupancy), first, or a letter.")] = "highest",
    model_number: Annotated[int, typer.Option(help="Which model of an NMR entry, from 1.")] = 1,
    min_residues: Annotated[int, typer.Option(min=1, help="Skip shorter chains.")] = 3,
    residue_limit: Annotated[int, typer.Option(min=1, help="Refuse longer chains.")] = DEFAULT_RESIDUES,
    byte_limit: Annotated[
        int, typer.Option(min=1, help="Refuse files that are larger, unzipped.")
    ] = DEFAULT_BYTES,
    time_limit: Annotated[
        float | None, typer.Option(help="Seconds that a chain may spend in the network.")
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first file that cannot be embedded.")
    ] = False,
    engine: Annotated[
        str, typer.Option(help="Into a folder: local, or ray (workers are its actors).")
    ] = "local",
    half: Annotated[bool, typer.Option("--half", help="Into a folder: embeddings in float16.")] = False,
    level: Annotated[
        str, typer.Option(help="Into a folder: protein, residue (with it) or pair (with both).")
    ] = "residue",
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print errors and what was skipped, nothing else.")
    ] = False,
) -> None:
    """Embed every protein chain of the files into one output file, or of thousands into a folder.

    Files that fail and chains that are passed over are listed with their reasons, on screen and in the
    output. The exit status is 0 if anything was embedded (with --strict: if every file was).

    A folder (one that is there, or a name without an ending) becomes a store of Parquet files: called again,
    the command goes on where it stopped, and does only what is missing or may do well now. Tar archives are
    read as streams.
    """
    from protemb_sdk._embed.collect import collecting
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.many import inputs_of

    check_there(files)
    readouts = check_readouts(readout or ())
    embedder = Embedder(
        model, device, threads=threads, altloc=altloc, model_number=model_number, min_residues=min_residues,
        residue_limit=residue_limit, byte_limit=byte_limit, time_limit=time_limit,
    )  # fmt: skip
    if out.suffix.lower() not in (".npz", ".parquet") and (os.path.isdir(out) or not out.suffix):
        if chain is not None or strict:
            raise OutputError(f"{out}: a store takes whole files, without --chain and --strict")
        level = "pair" if pair else level
        _fill(embedder, files, out, engine, workers, batch, level, readouts, half, quiet)
        return
    if out.suffix.lower() in (".npz", ".parquet") and (half or level != "residue" or engine != "local"):
        raise OutputError(
            f"{out}: --half, --level and --engine are for a folder; name one, without an ending"
        )
    check_apart([writable_target(out)], [*files, embedder.model.path])
    tally = Tally()
    with collecting(out, pair=pair, readouts=readouts) as collection:
        run: Generator[Embedding, None, None] | EmbeddingRun
        if chain is not None:
            if len(files) != 1 or os.path.isdir(files[0]):
                raise StructureError("--chain goes with exactly one file")
            embedding = embedder.embed(files[0], chain, pair=pair, readouts=readouts)
            run, skipped = (each for each in (embedding,)), []
        else:
            inputs = inputs_of(files, byte_limit)
            run = embedder.embed_many(
                inputs,
                workers=workers,
                batch=batch,
                pair=pair,
                readouts=readouts,
                progress=not quiet and not (isinstance(inputs, list) and len(inputs) == 1),
                on_error="raise" if strict else "skip",
            )
            skipped = run.skipped
        with closing(run):
            for embedding in run:
                collection.add(embedding)
                tally.add(embedding)
        if not tally.chains:
            raise nothing_done(skipped, "embedded", out)
        collection.finish(skipped, embedder.provenance)
    if not quiet:
        tally.report(embedder.provenance, out)
    report_skipped(skipped)


def _fill(
    embedder: Embedder,
    files: list[Path],
    out: Path,
    engine: str,
    workers: int,
    batch: int,
    level: str,
    readouts: tuple[str, ...],
    half: bool,
    quiet: bool,
) -> None:
    """Embed into a store, and say what was done."""
    from protemb_sdk._store.fill import embed_into_store
    from protemb_sdk._store.writer import LEVELS, SKIPPED

    if level not in LEVELS:
        raise OutputError(f"--level is {', '.join(LEVELS[:-1])} or {LEVELS[-1]}, not {level!r}")
    if engine not in ("local", "ray"):
        raise OutputError(f"--engine is local or ray, not {engine!r}")
    levels, dtype = LEVELS[: LEVELS.index(level) + 1], "float16" if half else "float32"
    if engine == "ray":
        from protemb_sdk import ray

        filled = ray.embed_into_store(
            embedder, files, out, actors=workers, levels=levels, readouts=readouts, dtype=dtype
        )
    else:
        filled = embed_into_store(
            embedder, files, out, workers=workers, batch=batch, levels=levels, readouts=readouts, dtype=dtype,
            progress=not quiet,
        )  # fmt: skip
    report_skipped(filled.skipped)
    if not quiet:
        say(
            out_console,
            f"{filled.chains} chains of {filled.inputs} inputs -> {out}; {filled.before} inputs were there "
            f"before; {filled.failed} inputs or chains failed; what is not there: {out / SKIPPED}",
        )
    if filled.failed and not filled.chains and not filled.before:
        raise StructureError(f"none of the inputs could be embedded; their reasons are in {out / SKIPPED}")


@app.command()
def sites(
    files: Annotated[
        list[Path], typer.Argument(help="Structure files (PDB, mmCIF, mmJSON, .gz) and folders.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write, CSV, a row a residue.")],
    chain: Annotated[str | None, typer.Option(help="Only this chain (author or label name).")] = None,
    structure: Annotated[
        Path | None,
        typer.Option(
            help="Also a copy of the structure (.pdb or .cif, .gz too; one input only), the prediction in "
            "percent (0-100) as B-factor of each atom of a predicted residue, 0 elsewhere."
        ),
    ] = None,
    head: Annotated[str, typer.Option(help="Bundled head, or path of an .onnx file.")] = "sites",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in all.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print errors and what was skipped, nothing else.")
    ] = False,
) -> None:
    """Predict which residues of every protein chain lie in an interface, from each chain alone.

    Columns: source, chain, auth_seq, insertion_code, label_seq, residue_name, probability, site (1 or 0).
    Files that fail and chains that are passed over are listed with their reasons. The exit status is 0 if
    anything was predicted.
    """
    from protemb_sdk._cli.sites import predict_files

    check_there(files)
    predict_files(
        files,
        out,
        chain=chain,
        structure=structure,
        head=head,
        device=device,
        threads=threads,
        workers=workers,
        quiet=quiet,
    )


@app.command()
def quality(
    files: Annotated[
        list[Path], typer.Argument(help="Models: structure files (PDB, mmCIF, mmJSON, .gz) and folders.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Ranking to write, CSV.")] = None,
    residues: Annotated[Path | None, typer.Option(help="Also lDDT of every residue, CSV.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Also a picture of the profiles of the best (extra plot).")
    ] = None,
    structures: Annotated[
        Path | None, typer.Option(help="Also a folder of copies, lDDT in percent (0-100) as B-factors.")
    ] = None,
    head: Annotated[str, typer.Option(help="Bundled head, or path of an .onnx file.")] = "quality",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in all.")] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
    quiet: Annotated[
        bool, typer.Option("-q", "--quiet", help="Print errors and what was skipped, nothing else.")
    ] = False,
) -> None:
    """Rank models of one target: how right each is, from its C-alphas alone, without the native.

    Prints expected GDT_TS and lDDT of every protein chain, best first. Files that fail and chains that are
    passed over are listed with their reasons. The exit status is 0 if anything was scored.
    """
    from protemb_sdk._cli.quality import score_files

    check_there(files)
    score_files(
        files,
        out=out,
        residues=residues,
        plot=plot,
        structures=structures,
        head=head,
        device=device,
        threads=threads,
        workers=workers,
        quiet=quiet,
    )


app.command()(profile)
app.command()(predict)
app.command("plot")(plot_command)
app.command()(report)
app.command()(index)
app.command()(search)
app.command()(verify)


@app.command()
def models() -> None:
    """List the bundled models, and the predictors on top of them."""
    from protemb_sdk._model.heads import list_heads
    from protemb_sdk._model.models import list_models

    for model in [*list_models(), *list_heads()]:
        out_console.print(f"[bold]{model.name}[/]  {model.summary}", soft_wrap=True, highlight=False)


@app.command()
def doctor(
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Check wheels, providers, a real session, threads, the model's hash and a golden vector."""
    from protemb_sdk._cli.doctor import diagnose

    checks = diagnose(model, device)
    for check in checks:
        mark = "[green]ok[/]  " if check.passed else "[bold red]FAIL[/]"
        out_console.print(f"{mark} {check.name}: ", end="")
        say(out_console, check.finding)
    failed = [check.name for check in checks if not check.passed]
    if failed:
        raise ProtembError(f"doctor found a fault in: {', '.join(failed)}")


def main() -> None:
    """Run the command line; an error of ours is one sentence and exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
