"""Train, evaluate and export a predictor of a table of labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.progress import Progress
from rich.table import Table

from protemb_export.card import weights_sha256
from protemb_export.errors import ExportError
from protemb_export.head import pack_head
from protemb_export.pack import pack
from protemb_export.storage import load_graph
from protemb_export.targets import check_graph, files_of
from protemb_export.vectors import vectors_of_graph
from protemb_sdk import Chain, Embedder
from protemb_sdk._base.console import console, out_console, say
from protemb_sdk._base.output import written_whole
from protemb_sdk._model.models import beside, find_model
from protemb_train.downstream.labels.head import TrainedLabels
from protemb_train.downstream.labels.table import LabelTable, Per, class_counts, read_labels
from protemb_train.downstream.labels.training import evaluate_again, train_labels
from protemb_train.downstream.labels.unfrozen import train_on
from protemb_train.network.checkpoint import load_network

ENCODER_TOO = "embedding, encoder trained too"
LEAST_HELD_OUT = 20  # chains from which on scores are reported without a note
VERIFIED = 20  # chains on which the exported predictor is compared


def finetune(
    labels: Path,
    structures: Path,
    out: Path,
    *,
    task: Per,
    model: str = "base",
    unfreeze: Path | None = None,
    licence: str = "none stated",
    threads: int | None = None,
) -> TrainedLabels:
    """Train, evaluate and export a predictor of a user's labels.

    Parameters
    ----------
    labels, structures : Path
        As in `read_labels`.
    out : Path
        ONNX file.
    task : {"residue", "protein"}
        Whether labels are per residue or per protein.
    model : str
        Bundled model, or path of an `.onnx` file.
    unfreeze : Path, optional
        Checkpoint that the model was exported from. The encoder is trained too and, if that improves the loss
        on the validation families, written as `<out>-encoder.onnx`, where the SDK finds it.
    licence : str
        Licence of the predictor.
    threads : int, optional
        CPU threads of the embedding.

    Raises
    ------
    LabelError
        If the table cannot be used.
    ExportError
        If the model was not exported from that checkpoint.
    ParityError
        If ONNX Runtime and PyTorch differ.
    OutputError
        If the file cannot be written.
    """
    inputs = [labels, structures, *files_of(find_model(model))]
    check_graph(out, inputs if unfreeze is None else [*inputs, unfreeze], ["encoder"])
    table = read_labels(labels, structures, task)
    counts = ", ".join(f"{name} {count}" for name, count in class_counts(table).items())
    say(console, f"{len(table.chains)} chains with labels; {counts or 'a quantity'}")
    if table.unmatched:
        say(console, f"note: {table.unmatched} rows match no residue or chain of {structures}")
    embedder = Embedder(model, "cpu", threads=threads)
    with _shown("embedding") as progress:
        trained = train_labels(table, embedder, progress)
    chains = [labelled.chain for labelled in table.chains[:: -(-len(table.chains) // VERIFIED)]]
    better = None
    if unfreeze is not None:
        better = _unfrozen(trained, unfreeze, table, embedder, chains, out, licence, threads)
    if better is None:
        worst = pack_head(trained, out, name=out.stem, licence=licence, chains=chains, embedder=embedder)
        beside(out, "encoder").unlink(missing_ok=True)  # from an earlier head
    else:
        trained, worst = better
    _report(trained)
    say(out_console, f"{out}: largest deviation from PyTorch {worst:.1e}")
    return trained


def _unfrozen(
    trained: TrainedLabels,
    checkpoint: Path,
    table: LabelTable,
    embedder: Embedder,
    chains: Sequence[Chain],
    out: Path,
    licence: str,
    threads: int | None,
) -> tuple[TrainedLabels, float] | None:
    """Train a head with its encoder and write both, as in `finetune`; None if that is not better."""
    network, record = load_network(checkpoint)
    if weights_sha256(network) != embedder.card["weights_sha256"]:
        raise ExportError(
            f"is not the checkpoint of the model {embedder.model.name}; pass the one it was exported from",
            checkpoint,
        )
    with _shown("encoder and head") as progress:
        model, tuned, losses = train_on(trained, network, embedder.noise_level, table, progress)
    if not any(loss < losses[0] for loss in losses[1:]):
        say(console, "note: training the encoder did not improve the validation loss; it is left unchanged")
        return None
    about = {"from_weights_sha256": embedder.card["weights_sha256"], "watching_loss": losses}
    encoder = beside(out, "encoder")
    with written_whole(encoder) as part:
        pack(
            tuned, part, name=encoder.stem, sigma=embedder.noise_level, record=record | {"finetuned": about},
            licence=licence, chains=chains, score=False,
            vectors=vectors_of_graph(load_graph(embedder.model.path), embedder.card, network),
        )  # fmt: skip
        own = Embedder(part, "cpu", threads=threads)
        trained = evaluate_again(trained, model, table, own, ENCODER_TOO)
        worst = pack_head(trained, out, name=out.stem, licence=licence, chains=chains, embedder=own)
    return trained, worst


@contextmanager
def _shown(what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on stderr if that is a terminal."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _report(trained: TrainedLabels) -> None:
    quality = trained.card["quality"]
    names = list(quality["embedding"])
    table = Table("on held-out families", *names, box=None)
    for row, scores in quality.items():
        table.add_row(row, *(f"{scores[name]:g}" for name in names))
    out_console.print(table)
    held_out = trained.card["training"]["chains"][2]
    if held_out < LEAST_HELD_OUT:
        say(
            console,
            f"note: the scores are of {held_out} held-out chains; with fewer than {LEAST_HELD_OUT} the rows "
            "may differ by chance. Label more chains, of several families, to judge the predictor",
        )
