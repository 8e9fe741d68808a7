"""`protemb-train language`: a small masked language model, for sequence embeddings without large weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say


def language(
    corpus: Annotated[Path, typer.Option(help="Corpus file (.arrow); its training sequences are used.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to write; it must not exist.")],
    steps: Annotated[int, typer.Option(min=1, help="Number of optimiser steps.")] = 1600,
    seed: Annotated[int, typer.Option(min=0, help="Seed of weights and batches.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of CPU threads; by default that of torch.")
    ] = None,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
) -> None:
    """Train a small masked language model on the corpus, with the architecture of ESM-2."""
    import torch

    from protemb_train.experiments.language import train_language

    if threads:
        torch.set_num_threads(threads)
    record = train_language(corpus, out, steps=steps, seed=seed, progress=progress)
    say(
        console,
        f"{out}: validation perplexity {record['validation_perplexity']:.2f}, "
        f"with frequencies alone {record['unigram_perplexity']:.2f}",
    )
