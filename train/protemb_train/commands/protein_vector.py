"""`protemb-train pairs` and `fit-map`: what the vector of a protein is learnt from, and its linear map."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say
from protemb_sdk._base.output import check_output


def pairs(
    corpus: Annotated[Path, typer.Argument(help="Corpus file (.arrow); its training chains are paired.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="File of pairs (.npz); one begun is gone on with.")
    ],
    count: Annotated[int, typer.Option(min=1, help="Pairs to align.")] = 24_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the chains, one of each cluster.")] = 0,
) -> None:
    """TM-scores of pairs of training chains that may share a fold, by TM-align (tmtools, GPL)."""
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.protein_vector.pairs import make_pairs

    check_output(out, ".npz", [corpus])
    made = make_pairs(Corpus(corpus, ["train"]), out, count, seed=seed, say=lambda line: say(console, line))
    say(console, f"{out}: {len(made.pair)} pairs of {len(made.ids)} chains, {len(made.alike())} alike")
