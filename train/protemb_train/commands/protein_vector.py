"""`protemb-train pairs` and `fit-map`: training pairs of the protein vector, and its linear map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say
from protemb_sdk._base.output import check_output


def fit_map(
    encoder: Annotated[
        str, typer.Argument(help="A checkpoint (.ckpt), or another method: proteinmpnn, 3di.")
    ],
    corpus: Annotated[Path, typer.Option(help="Corpus file (.arrow).")],
    pairs: Annotated[Path, typer.Option(help="File of protemb-train pairs, of that corpus.")],
    cache: Annotated[Path, typer.Option(help="Cache folder for features and TM-scores.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write (.npz).")],
    width: Annotated[
        int | None,
        typer.Option(min=1, help="Width of the protein vector; by default the better of 128, 256."),
    ] = None,
    fitted: Annotated[
        int | None, typer.Option(min=1, help="Largest number of chains of each kind; all by default.")
    ] = None,
    queries: Annotated[int, typer.Option(min=1, help="Number of validation chains as queries.")] = 200,
    chains: Annotated[int, typer.Option(min=2, help="Number of chains searched.")] = 1000,
    sigma: Annotated[
        float | None, typer.Option(help="Noise level of a checkpoint, angstrom; .3 or 1 by its family.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
) -> None:
    """Fit the linear map of the protein vector on training chains, and evaluate it on validation chains."""
    import torch

    from protemb_train.encoders.vectors import find_vector_encoder
    from protemb_train.protein_vector.fitting import fit_and_evaluate
    from protemb_train.protein_vector.linear_map import write_map

    check_output(out, ".npz", [encoder, corpus, pairs])
    torch.set_num_threads(threads)
    fitted_map = fit_and_evaluate(
        find_vector_encoder(encoder, sigma),
        corpus,
        pairs,
        cache,
        width=width,
        fitted=fitted,
        queries=queries,
        chains=chains,
        say=lambda line: say(console, line),
    )
    write_map(fitted_map, out)
    say(console, f"{out}: {fitted_map.matrix.shape[0]} features to {fitted_map.matrix.shape[1]} numbers")


def pairs(
    corpus: Annotated[Path, typer.Argument(help="Corpus file (.arrow); its training chains are paired.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File of pairs (.npz); an incomplete one is continued.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Number of pairs to align.")] = 24_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the chains, one per cluster.")] = 0,
) -> None:
    """Calculate TM-scores of pairs of similar training chains by TM-align (tmtools, GPL)."""
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.protein_vector.pairs import make_pairs

    check_output(out, ".npz", [corpus])
    made = make_pairs(Corpus(corpus, ["train"]), out, count, seed=seed, say=lambda line: say(console, line))
    say(console, f"{out}: {len(made.pair)} pairs of {len(made.ids)} chains, {len(made.alike())} similar")
