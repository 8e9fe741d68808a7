"""`protemb plot`: a picture of a chain, or of each chain of a file."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protemb_sdk._base.console import note_replaced, out_console, say
from protemb_sdk._base.errors import ProtembError, StructureError
from protemb_sdk._base.limits import DEFAULT_TIMEOUT
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
    Timeout,
    chosen,
)
from protemb_sdk._structure.chain import Skipped, no_protein_chain

if TYPE_CHECKING:
    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk._structure.chain import Chain


def plot(
    file: File,
    out: Annotated[Path, typer.Option("-o", "--out", help="Picture to write: .png, .svg, .pdf.")],
    chain: Chains = None,
    together: Complex = False,
    assembly: Assembly = None,
    every: Annotated[
        bool, typer.Option("--all", help="Each protein chain; their names are added to that of the picture.")
    ] = False,
    sites: Annotated[bool, typer.Option("--sites", help="Also a profile of interface sites.")] = False,
    quality: Annotated[
        bool, typer.Option("--quality", help="Also a profile of expected lDDT, for models of structures.")
    ] = False,
    model: Model = "base",
    device: Device = "auto",
    threads: Threads = None,
    altloc: Altloc = "highest",
    fetch: Fetch = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    min_plddt: MinPlddt = None,
) -> None:
    """Draw a chain: its distance map beside its pair embedding, its residue embedding along the chain.

    Residues are numbered as in the file. The same colour means alike to the network; colours of two chains
    are not comparable.
    """
    from protemb_sdk._base.output import check_apart, picture_kind, writable_target
    from protemb_sdk._cli.summary import nothing_done, report_notes, report_skipped
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._model.models import find_model
    from protemb_sdk._predict.quality import QualityScorer
    from protemb_sdk._predict.sites import SitePredictor
    from protemb_sdk.plot import save_picture

    if every and (chain or together or assembly):
        raise StructureError("--all draws each chain on its own; omit --chain, --complex and --assembly")
    (file,) = present([file], fetch, timeout)
    one, several = chosen(chain, together, assembly)
    picture_kind(writable_target(out))
    inputs = [file, find_model(model).path]
    check_apart([out], inputs)
    embedder = Embedder(model, device, threads=threads, altloc=altloc, min_plddt=min_plddt, **several)
    predictor = SitePredictor(device=device, threads=threads) if sites else None
    scorer = QualityScorer(device=device, threads=threads) if quality else None

    def draw(embedding: Embedding, target: Path) -> None:
        known = embedding.chain
        touching = None if predictor is None else predictor.predict(known)
        right = None if scorer is None else scorer.score(known)
        say(out_console, str(save_picture(embedding, target, touching, right)))
        report_notes([known])

    if not every:
        note_replaced([out])
        draw(embedder.embed(file, one, pair=True), out)
        return
    read = embedder.read(file)
    if not read.chains:
        raise no_protein_chain(str(file), read.skipped)
    targets = _targets(out, read.chains)
    check_apart(targets, inputs)
    note_replaced(targets)
    skipped = list(read.skipped)
    failed = 0
    for known, target in zip(read.chains, targets, strict=True):
        try:
            draw(embedder.embed_chain(known, pair=True), target)
        except ProtembError as error:
            failed += 1
            skipped.append(Skipped.of(error, known.source or known.name, known.chain_id or " "))
    if failed == len(targets):
        raise nothing_done(skipped, "drawn", None)
    report_skipped(skipped)


def _targets(out: Path, chains: Sequence[Chain]) -> list[Path]:
    """Return a file for each chain, named after it; a number tells apart names that a disk may confuse."""
    found: dict[str, Path] = {}
    for chain in chains:
        name = f"{out.stem}_{re.sub(r'[^0-9A-Za-z-]', '_', chain.chain_id)}"
        number = 1
        while (numbered := name if number == 1 else f"{name}_{number}").casefold() in found:
            number += 1
        found[numbered.casefold()] = out.with_name(numbered + out.suffix)
    return list(found.values())
