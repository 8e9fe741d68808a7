"""`protemb plot`: a picture of a chain."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import out_console, say
from protemb_sdk._cli.fetch import present
from protemb_sdk._cli.options import (
    Altloc,
    Assembly,
    Chains,
    Complex,
    Device,
    Fetch,
    File,
    MinPlddt,
    Model,
    Threads,
    chosen,
)


def plot(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture to write: .png, .svg, .pdf.")],
    chain: Chains = None,
    together: Complex = False,
    assembly: Assembly = None,
    sites: Annotated[bool, typer.Option("--sites", help="Also a profile of interface sites.")] = False,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also a profile of expected lDDT, for models of structures.")
    ] = False,
    model: Model = "base",
    device: Device = "auto",
    threads: Threads = None,
    altloc: Altloc = "highest",
    fetch: Fetch = False,
    min_plddt: MinPlddt = None,
) -> None:
    """Draw a chain: its distance map beside its pair embedding, its residue embedding along the chain.

    Residues are numbered as in the file. The same colour means alike to the network; colours of two chains
    are not comparable.
    """
    from protemb_sdk._base.output import check_apart, picture_kind, writable_target
    from protemb_sdk._cli.summary import report_notes
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._model.models import find_model
    from protemb_sdk._predict.quality import QualityScorer
    from protemb_sdk._predict.sites import SitePredictor
    from protemb_sdk.plot import save_picture

    (file,) = present([file], fetch)
    one, several = chosen(chain, together, assembly)
    picture_kind(writable_target(out))
    check_apart([out], [file, find_model(model).path])
    embedder = Embedder(model, device, threads=threads, altloc=altloc, min_plddt=min_plddt, **several)
    embedding = embedder.embed(file, one, pair=True)
    known = embedding.chain
    if min_plddt is not None:
        report_notes([known])
    touching = SitePredictor(device=device, threads=threads).predict(known) if sites else None
    right = QualityScorer(device=device, threads=threads).score(known) if quality else None
    say(out_console, str(save_picture(embedding, out, touching, right)))
