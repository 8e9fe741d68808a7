"""A table of labels in, a verified predictor out."""

from __future__ import annotations

from pathlib import Path

from rich.table import Table

from protemb_export.head import pack_head
from protemb_sdk._command import console, out_console, say
from protemb_sdk._embedder import Embedder
from protemb_sdk._output import writable_target
from protemb_train.downstream.labelled.head import TrainedLabels
from protemb_train.downstream.labelled.table import Per, class_counts, read_labels
from protemb_train.downstream.labelled.training import train_labels

VERIFIED = 20  # chains that the exported predictor is compared on


def finetune(
    labels: Path,
    structures: Path,
    out: Path,
    *,
    task: Per,
    model: str = "base",
    licence: str = "none stated",
    threads: int | None = None,
) -> TrainedLabels:
    """Train, judge and export a predictor of a user's labels, and say what it is worth.

    Parameters
    ----------
    labels, structures : Path
        As in `read_labels`.
    out : Path
        ONNX file.
    task : {"residue", "protein"}
        What a label is of.
    model : str
        Bundled model, or path of an `.onnx` file.
    licence : str
        Of the predictor.
    threads : int, optional
        CPU threads of the embedding.

    Raises
    ------
    LabelError
        If the table cannot be used.
    ParityError
        If ONNX Runtime says something else than PyTorch.
    OutputError
        If the file cannot be written.
    """
    writable_target(out)
    table = read_labels(labels, structures, task)
    counts = ", ".join(f"{name} {count}" for name, count in class_counts(table).items())
    say(console, f"{len(table.chains)} chains with labels; {counts or 'a quantity'}")
    if table.unmatched:
        say(console, f"note: {table.unmatched} rows are about no residue or chain of {structures}")
    embedder = Embedder(model, "cpu", threads=threads)
    trained = train_labels(table, embedder)
    chains = [labelled.chain for labelled in table.chains[:: -(-len(table.chains) // VERIFIED)]]
    worst = pack_head(trained, out, name=out.stem, licence=licence, chains=chains, embedder=embedder)
    _report(trained)
    say(out_console, f"{out}: largest deviation from PyTorch {worst:.1e}")
    return trained


def _report(trained: TrainedLabels) -> None:
    quality = trained.card["quality"]
    names = list(quality["embedding"])
    table = Table("on families held out", *names, box=None)
    for row, scores in quality.items():
        table.add_row(row, *(f"{scores[name]:g}" for name in names))
    out_console.print(table)
