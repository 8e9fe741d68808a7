"""`protemb-train probe`: linear probes of frozen embeddings of held-out chains."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say
from protemb_sdk._base.output import check_output, check_own, write_text_whole


def probe(
    corpus: Annotated[Path, typer.Option(help="Corpus file (.arrow).")],
    encoder: Annotated[
        list[str],
        typer.Option(
            help="NAME=FILE: a checkpoint of pretrain or an .onnx model; or NAME=proteinmpnn, NAME=3di."
        ),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="JSON file to write, with a table (.md).")],
    sigma: Annotated[
        list[float] | None,
        typer.Option(help="Noise level of the embeddings, angstrom (1 by default); may be repeated."),
    ] = None,
    fit_chains: Annotated[int, typer.Option(min=3, help="Number of chains of split val for fitting.")] = 150,
    test_chains: Annotated[int, typer.Option(min=3, help="Number of chains of split test.")] = 150,
    min_length: Annotated[int, typer.Option(min=1, help="Omit shorter chains.")] = 40,
    max_length: Annotated[int, typer.Option(min=1, help="Omit longer chains.")] = 300,
    untrained_seeds: Annotated[
        int, typer.Option(min=1, help="Number of untrained networks of each architecture.")
    ] = 3,
    samples: Annotated[int, typer.Option(min=1, help="Number of bootstrap samples.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of the chains and of the bootstrap.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads of the network; by default that of torch.")
    ] = None,
) -> None:
    """Fit linear probes of frozen embeddings on held-out chains, with untrained networks and controls."""
    import torch

    from protemb_train.base.origin import origin
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.probe.encoders import encoders, named_files
    from protemb_train.probe.probe import held_out_sides
    from protemb_train.probe.probe import probe as run
    from protemb_train.probe.table import ProbeReport

    files = named_files(encoder)
    check_output(out, ".json", [corpus, *files.values()], beside=[".md"])
    check_own(out.with_suffix(".md"), b"protemb-train probe")
    if threads:
        torch.set_num_threads(threads)
    rows = encoders(
        files,
        sigma or [1.0],
        training=Corpus(corpus, ["train"]),
        untrained_seeds=untrained_seeds,
    )
    sides = held_out_sides(corpus, (fit_chains, test_chains), (min_length, max_length), seed)
    found = run(*sides, rows, samples=samples, seed=seed, say=lambda line: say(console, line))
    counts = {
        name: {
            "chains": len(side.traces),
            "residues": sum(len(trace.residue_type) for trace in side.traces),
            "ids": [trace.id for trace in side.traces],
        }
        for name, side in zip(("fit", "test"), sides, strict=True)
    }
    about = {
        "command": shlex.join(["protemb-train", *sys.argv[1:]]),
        "origin": origin(),
        "corpus": corpus.name,
        "corpus_sha256": Corpus(corpus).sha256,
        "corpus_clusters_sha256": Corpus(corpus, ["train"]).clusters_sha256,
        **counts,
    }
    report = ProbeReport(found, rows, about)
    write_text_whole(out.with_suffix(".md"), report.as_markdown())
    write_text_whole(out, json.dumps(report.as_dict()) + "\n")  # last: marks both files as complete
    say(console, str(out.with_suffix(".md")))
