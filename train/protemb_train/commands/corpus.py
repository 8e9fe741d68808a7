"""Commands for the corpus: building it, and checking that it contains no relatives."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, out_console, say


def corpus(
    sources: Annotated[
        list[str],
        typer.Argument(help="Collection of chains (npz), or structures: folders, files, globs, lists."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Corpus file to write (.arrow).")],
    avoid: Annotated[
        list[Path] | None,
        typer.Option(help="FASTA, npz or FILE.npz:SPLIT,SPLIT whose relatives (30% identity) are removed."),
    ] = None,
    clusters: Annotated[
        str | None, typer.Option(help="Cluster file (RCSB by entity, or bc-NN.out), mmseqs, or column.")
    ] = None,
    drop_source: Annotated[
        list[str] | None, typer.Option(help="Source of the collection to exclude; may be repeated.")
    ] = None,
    unique: Annotated[
        bool, typer.Option("--unique", help="Keep only the first chain of each sequence.")
    ] = False,
    one_per_cluster: Annotated[
        bool, typer.Option("--one-per-cluster", help="Keep only the first chain of each cluster.")
    ] = False,
    thorough: Annotated[
        bool,
        typer.Option("--thorough/--quick", help="Also find relatives by exact alignment (minutes)."),
    ] = True,
    min_length: Annotated[int, typer.Option(min=3, help="Skip shorter chains of structures.")] = 25,
    max_length: Annotated[int, typer.Option(min=3, help="Skip longer chains of structures.")] = 2000,
    max_unknown: Annotated[
        float, typer.Option(min=0, max=1, help="Skip chains of structures with a larger share of X.")
    ] = 0.2,
    seed: Annotated[int, typer.Option(help="Seed of the split.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes (reading) and threads (aligning).")] = 1,
) -> None:
    """Build a corpus: read, remove relatives of downstream chains, split by cluster, write.

    An interrupted run continues when the command is repeated. Skipped chains are listed next to the corpus
    (.skipped.csv), and the report has the counts of every step (.json).
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from protemb_train.corpus.build import Recipe, build_corpus
    from protemb_train.corpus.chains import Limits
    from protemb_train.corpus.report import show_report

    recipe = Recipe(
        avoid=tuple(avoid or ()),
        drop_sources=tuple(drop_source or ()),
        clusters=clusters,
        unique=unique,
        one_per_cluster=one_per_cluster,
        thorough=thorough,
        seed=seed,
        limits=Limits(min_length, max_length, max_unknown),
    )
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("reading", total=None, visible=False)
        report = build_corpus(
            sources,
            out,
            recipe,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total, visible=True),
        )
    show_report(report, out_console)


def prove(
    corpus: Annotated[Path, typer.Argument(help="Corpus file (.arrow).")],
    avoid: Annotated[
        list[Path], typer.Option(help="FASTA, npz or FILE.npz:SPLIT,SPLIT with the downstream sequences.")
    ],
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also write the result (.md).")] = None,
    sample: Annotated[
        int | None, typer.Option(min=1, help="Downstream sequences to align exactly; all by default.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads; all by default.")] = None,
) -> None:
    """Check that no downstream sequence has a relative in a corpus, independent of how it was built.

    Two independent searches are made: MMseqs2, and exact alignment of all pairs. If either finds a relative,
    the pairs are listed and the exit status is 1.
    """
    from protemb_sdk._base.output import check_output, write_text_whole
    from protemb_sdk._base.threads import usable_threads
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.corpus.prove import prove as run
    from protemb_train.corpus.sources import file_to_avoid, sequences_to_avoid

    if out is not None:
        check_output(out, ".md", [corpus, *(file_to_avoid(source)[0] for source in avoid)])
    queries = [sequence for path in avoid for sequence in sequences_to_avoid(path)]
    proof = run(Corpus(corpus), queries, sample=sample, threads=threads or usable_threads())
    text = proof.as_markdown()
    for line in text.splitlines():
        say(out_console, line)
    if out is not None:
        write_text_whole(out, text)
    raise typer.Exit(0 if proof.clean else 1)
