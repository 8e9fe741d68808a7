"""`protemb predict`: labels of files by a head of the user, in one table."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from protemb_sdk._base.console import note_replaced, out_console, say
from protemb_sdk._base.errors import ModelError
from protemb_sdk._base.limits import DEFAULT_TIMEOUT
from protemb_sdk._base.output import check_apart, check_ending, writable_target, writing_csv
from protemb_sdk._cli.fetch import present
from protemb_sdk._cli.options import (
    Altloc,
    ChainId,
    Device,
    Fetch,
    Files,
    MinPlddt,
    Quiet,
    Threads,
    Timeout,
    Workers,
)
from protemb_sdk._cli.runs import check_chain, results_of
from protemb_sdk._cli.summary import Notes, nothing_done, number_of, report_skipped
from protemb_sdk._structure.columns import RESIDUE, residues_of, source_of


def predict(
    files: Files,
    head: Annotated[Path, typer.Option(help="Head made by protemb finetune (.onnx).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write, CSV.")],
    model: Annotated[
        str | None, typer.Option(help="Model that the head was trained on, if it is not bundled.")
    ] = None,
    chain: ChainId = None,
    device: Device = "auto",
    threads: Threads = None,
    altloc: Altloc = "highest",
    min_plddt: MinPlddt = None,
    workers: Workers = 1,
    fetch: Fetch = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    quiet: Quiet = False,
) -> None:
    """Predict the labels of a fine-tuned head for every protein chain of the files.

    There is no --complex and no --assembly, because the head was trained on single chains.

    One row for each residue or chain: source, chain, the residue, label, and the probability of each class.
    The exit status is 0 if a chain was predicted.
    """
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._model.models import find_model
    from protemb_sdk._predict.labels import LabelPredictor

    files = present(files, fetch, timeout, quiet)
    check_chain(files, chain)
    _check_own(head)
    own = [head] if model is None else [head, find_model(model).path]
    check_apart([writable_target(out)], [*files, *own])
    check_ending(out, ".csv")
    note_replaced([out], quiet=quiet)
    predictor = (
        LabelPredictor(head, device, threads=threads, altloc=altloc, min_plddt=min_plddt)
        if model is None
        else LabelPredictor(
            head, embedder=Embedder(model, device, threads=threads, altloc=altloc, min_plddt=min_plddt)
        )
    )
    chains, notes = 0, Notes()
    names = [f"probability_{name}" for name in predictor.classes or ()]
    first = RESIDUE if predictor.per_residue else RESIDUE[:2]
    with (
        writing_csv(out, (*first, "label", *names)) as table,
        results_of(
            files, chain, predictor.predict, predictor.predict_many, workers=workers, quiet=quiet
        ) as (run, skipped),
    ):  # fmt: skip
        for prediction in run:
            chains += 1
            notes.add(prediction.chain)
            table.writerows(_rows(prediction))
        if not chains:
            raise nothing_done(skipped, "embedded", out)
    if not quiet:
        notes.report()
        say(out_console, f"{number_of(chains, 'chain')} -> {out}")
    report_skipped(skipped)


def _check_own(head: Path) -> None:
    from protemb_sdk._model.heads import list_heads

    if os.path.exists(head):
        return
    if str(head) in {bundled.name for bundled in list_heads()}:
        raise ModelError(
            f"is a bundled head, use the command protemb {head}; predict needs a head of your "
            "own, made by protemb finetune",
            head,
        )
    raise ModelError("no such file; pass a head made by protemb finetune (.onnx)", head)


def _rows(prediction: Any) -> list[tuple[object, ...]]:
    chain = prediction.chain
    where: list[tuple[object, ...]] = [(source_of(chain), chain.chain_id)]
    labels, values = [prediction.label], [prediction.value]
    if prediction.per_residue:
        where = list(residues_of(chain))
        labels, values = list(prediction.label), list(prediction.value)
    rows = []
    for first, label, value in zip(where, labels, values, strict=True):
        cells = (str(label), *(f"{v:.6f}" for v in value)) if prediction.classes else (f"{float(label):.6g}",)
        rows.append((*first, *cells))
    return rows
