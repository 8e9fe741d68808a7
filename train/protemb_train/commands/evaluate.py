"""`protemb-train evaluate`: evaluation of frozen networks without test labels, and its table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say
from protemb_sdk._base.output import check_output, write_text_whole

app = typer.Typer(
    no_args_is_help=True, help="Evaluate frozen networks on validation chains and by cross-validation."
)


@app.command()
def network(
    encoder: Annotated[
        str, typer.Argument(help="A checkpoint (.ckpt), or another method: proteinmpnn, 3di.")
    ],
    corpus: Annotated[Path, typer.Option(help="Corpus file (.arrow).")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="JSON file; existing results in it are not repeated.")
    ],
    cache: Annotated[Path, typer.Option(help="Cache folder for embeddings and TM-scores.")],
    name: Annotated[
        str | None, typer.Option(help="Name in the table; by default that of the encoder.")
    ] = None,
    contents: Annotated[
        list[str] | None,
        typer.Option(help="Residue vectors joined by +, such as state+means; may be repeated."),
    ] = None,
    sites: Annotated[Path | None, typer.Option(help="DeepPPISP's chains (deepppisp.npz).")] = None,
    real: Annotated[Path | None, typer.Option(help="Models of structures (decoys.npz).")] = None,
    pairs: Annotated[Path | None, typer.Option(help="File of protemb-train pairs.")] = None,
    head: Annotated[
        list[str] | None, typer.Option(help="Network for sites: graph, deepppisp, linear; all by default.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of cross-validations.")] = 2,
    queries: Annotated[int, typer.Option(min=1, help="Number of validation chains as queries.")] = 120,
    chains: Annotated[int, typer.Option(min=2, help="Number of chains searched.")] = 600,
    fitted: Annotated[
        int, typer.Option(min=1, help="Largest number of chains of each kind for the linear map.")
    ] = 600,
    sigma: Annotated[
        float | None, typer.Option(help="Noise level of a checkpoint, angstrom; .3 or 1 by its family.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
) -> None:
    """Evaluate a frozen network; test labels are not read."""
    import torch

    from protemb_train.downstream.sites.data import SitesError
    from protemb_train.encoders.vectors import find_vector_encoder
    from protemb_train.evaluate.run import Inputs, evaluate
    from protemb_train.evaluate.sites import HEADS

    check_output(out, ".json", [corpus, encoder, sites, real, pairs])
    for one in head or []:
        if one not in HEADS:
            raise SitesError(f"--head {one!r} is unknown; available are {', '.join(HEADS)}")
    torch.set_num_threads(threads)
    found = find_vector_encoder(encoder, sigma)
    inputs = Inputs(
        corpus=corpus,
        cache=cache,
        sites=sites,
        models=real,
        pairs=pairs,
        heads=tuple(head or HEADS),
        seeds=seeds,
        queries=queries,
        chains=chains,
        fitted=fitted,
    )
    wanted = contents or ["+".join(found.usual)]
    evaluate(name or found.name, found, wanted, inputs, out, say=lambda line: say(console, line))
    say(console, str(out))


@app.command()
def table(
    evaluations: Annotated[list[Path], typer.Argument(help="JSON files of evaluate network.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write (.md).")],
    against: Annotated[str | None, typer.Option(help="Name of the network to subtract.")] = None,
) -> None:
    """Write the table of several evaluations."""
    from protemb_train.evaluate.run import read_evaluation
    from protemb_train.evaluate.table import as_table

    check_output(out, ".md", evaluations)
    page = as_table([read_evaluation(path) for path in evaluations], against)
    write_text_whole(out, page)
    say(console, str(out))
