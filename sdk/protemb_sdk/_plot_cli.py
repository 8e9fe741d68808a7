"""What `protemb plot` does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._command import out_console, say


def plot(
    file: Annotated[Path, typer.Argument(help="Structure file (PDB, mmCIF, mmJSON, .gz).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture to write: .png, .svg, .pdf.")],
    chain: Annotated[str | None, typer.Option(help="Which chain, where there are several.")] = None,
    sites: Annotated[bool, typer.Option("--sites", help="Also a profile of interface sites.")] = False,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also a profile of expected lDDT, for models of structures.")
    ] = False,
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Draw a chain: its distance map beside its pair embedding, its residue embedding along the chain.

    Residues are numbered as in the file. The same colour means alike to the network; colours of two chains
    are not comparable.
    """
    from protemb_sdk._embedder import Embedder
    from protemb_sdk._output import figures, writable_target
    from protemb_sdk._quality import QualityScorer
    from protemb_sdk._sites import SitePredictor
    from protemb_sdk.plot import save_picture

    writable_target(out)
    figures()
    embedding = Embedder(model, device).embed(file, chain, pair=True)
    known = embedding.structure
    touching = SitePredictor(device=device).predict(known) if sites else None
    right = QualityScorer(device=device).score(known) if quality else None
    say(out_console, str(save_picture(embedding, out, touching, right)))
