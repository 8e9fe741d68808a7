"""`protemb embed`: embeddings of files in one output file, or of thousands in a store."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protemb_sdk._base.console import note_replaced, out_console, say
from protemb_sdk._base.errors import OutputError, StructureError
from protemb_sdk._base.limits import DEFAULT_BYTES, DEFAULT_RESIDUES, DEFAULT_TIMEOUT
from protemb_sdk._base.output import check_apart, writable_target
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
    Readouts,
    Threads,
    Timeout,
    Verbose,
    Workers,
    chosen,
    size,
)
from protemb_sdk._cli.runs import results_of
from protemb_sdk._cli.summary import Tally, count_skipped, nothing_done, number_of, report_skipped
from protemb_sdk._model.readouts import check_readouts

if TYPE_CHECKING:
    from protemb_sdk._embed.embedder import Embedder


def embed(
    files: Files,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, .npz or .parquet; or a folder.")],
    chain: Chains = None,
    together: Complex = False,
    assembly: Assembly = None,
    model: Model = "base",
    device: Device = "auto",
    pair: Annotated[
        bool, typer.Option("--pair", help="Keep pair embeddings (4 C L^2 bytes a chain; not into .parquet).")
    ] = False,
    readout: Readouts = None,
    workers: Workers = 1,
    batch: Annotated[
        int, typer.Option(min=1, help="Chains at once, for a GPU; workers then only read files.")
    ] = 1,
    threads: Threads = None,
    altloc: Altloc = "highest",
    min_plddt: MinPlddt = None,
    model_number: Annotated[int, typer.Option(help="Model number of an NMR entry, from 1.")] = 1,
    min_residues: Annotated[int, typer.Option(min=1, help="Skip shorter chains.")] = 3,
    residue_limit: Annotated[int, typer.Option(min=1, help="Refuse longer chains.")] = DEFAULT_RESIDUES,
    byte_limit: Annotated[
        int,
        typer.Option(parser=size, metavar="SIZE", show_default="2GiB", help="Refuse larger files, unzipped."),
    ] = DEFAULT_BYTES,
    memory_limit: Annotated[
        int,
        typer.Option(
            parser=size,
            metavar="SIZE",
            show_default="2GiB",
            help="Memory of a chain's map; longer chains are computed in strips.",
        ),
    ] = DEFAULT_BYTES,
    time_limit: Annotated[
        float | None, typer.Option(help="Time limit of a chain in the network, in seconds.")
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
    fetch: Fetch = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Embed every protein chain of the files into one output file, or of thousands into a folder.

    With --complex the protein chains of a file are embedded together, and the file has one embedding.

    Files that fail and chains that are skipped are listed with their reasons, on screen and in the
    output. The exit status is 0 if a chain was embedded (with --strict: if every file was).

    A folder (an existing one, or a name without an extension) becomes a store of Parquet files. Run again,
    the command continues: it computes what is missing, and tries again what may succeed now. Archives are
    read as streams.
    """
    from protemb_sdk._embed.collect import collecting
    from protemb_sdk._embed.embedder import Embedder

    files = present(files, fetch, timeout, quiet)
    one, several = chosen(chain, together, assembly)
    readouts = check_readouts(readout or ())
    embedder = Embedder(
        model, device, threads=threads, altloc=altloc, model_number=model_number, min_residues=min_residues,
        min_plddt=min_plddt, **several,
        residue_limit=residue_limit, byte_limit=byte_limit, memory_limit=memory_limit, time_limit=time_limit,
    )  # fmt: skip
    if out.suffix.lower() not in (".npz", ".parquet") and (os.path.isdir(out) or not out.suffix):
        if one is not None or strict:
            raise OutputError("a store takes whole files, without --chain and --strict", out)
        level = "pair" if pair else level
        _fill(embedder, files, out, engine, workers, batch, level, readouts, half, quiet)
        return
    if out.suffix.lower() in (".npz", ".parquet") and (half or level != "residue" or engine != "local"):
        raise OutputError("--half, --level and --engine are for a folder; name one, without an ending", out)
    check_apart([writable_target(out)], [*files, embedder.model.path])
    if out.suffix.lower() in (".npz", ".parquet"):
        note_replaced([out], quiet=quiet)
    tally = Tally()
    with (
        collecting(out, pair=pair, readouts=readouts) as collection,
        results_of(
            files, one, partial(embedder.embed, pair=pair, readouts=readouts), embedder.embed_many,
            workers=workers, quiet=quiet, strict=strict, byte_limit=byte_limit, batch=batch, pair=pair,
            readouts=readouts,
        ) as (run, skipped),
    ):  # fmt: skip
        for embedding in run:
            collection.add(embedding)
            tally.add(embedding)
        if not tally.chains:
            raise nothing_done(skipped, "embedded", out)
        collection.finish(skipped, embedder.provenance)
    if not quiet:
        tally.report(embedder.provenance if verbose else None, out)
    report_skipped(skipped, kept_in=out)


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
    from protemb_sdk._store.fill import KEPT, embed_into_store
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
    report_skipped(filled.skipped, kept_in=out / SKIPPED)
    if not quiet:
        skipped = count_skipped(filled.skipped) + " and more" * (len(filled.skipped) == KEPT)
        skipped += f" (details: {out / SKIPPED})" * bool(filled.skipped)
        say(
            out_console,
            f"{number_of(filled.chains, 'chain')} of {number_of(filled.inputs, 'input')} -> store {out}; "
            f"already in it: {number_of(filled.before, 'input')}; skipped: {skipped}",
        )
    if filled.failed and not filled.chains and not filled.before:
        raise StructureError(f"none of the inputs could be embedded; the reasons are in {out / SKIPPED}")
