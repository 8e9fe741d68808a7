"""`protemb-export`: exports checkpoints to verified ONNX graphs, and compares with the authors' release."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk import ProtembError
from protemb_sdk._base.console import console, run, say
from protemb_sdk._base.output import write_text_whole

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

Bundle = Annotated[
    str | None, typer.Option(help="Add OUT, in the folder of the SDK, to its registry, with this summary.")
]

OUR_LICENCE = "MIT"
RELEASED_LICENCE = "none stated by the authors: for verification, not for redistribution"

AUTHORS_TOLERANCE = 1e-4
"""Largest allowed absolute difference to the authors' published embedding."""


@app.command()
def model(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of protemb-train pretrain.")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="ONNX file; <name>-score.onnx is written to the same folder.")
    ],
    verify: Annotated[Path, typer.Option(help="Corpus (.arrow) whose chains are compared with PyTorch.")],
    sigma: Annotated[float, typer.Option(help="Noise level, angstrom.")] = 1.0,
    chains: Annotated[
        int, typer.Option(min=1, help="Number of chains to verify on, of 30 to 1,000 residues.")
    ] = 60,
    judgement: Annotated[
        Path | None, typer.Option(help="Result of protemb-train judge (.json), for the model card.")
    ] = None,
    protein_map: Annotated[
        Path | None,
        typer.Option(
            help="Linear map of the protein vector (.npz: matrix, bias), for a network with a single "
            "representation."
        ),
    ] = None,
    residue: Annotated[
        str | None,
        typer.Option(
            help="Contents of its residue embedding, separated by commas: state, structure, means of the "
            "last map, and surroundings. By default state,mean,column,contact,column-contact,surroundings."
        ),
    ] = None,
    score: Annotated[bool, typer.Option(help="Whether to write the score graph.")] = True,
    bundle: Bundle = None,
) -> None:
    """Export the embedding graph and the score graph of a trained network."""
    from protemb_export.pack import check_bundled, folded_level, pack, register
    from protemb_export.page import read_evaluation
    from protemb_export.targets import check_graph
    from protemb_export.vectors import read_vectors
    from protemb_export.verify import spread_over_lengths
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.network.checkpoint import load_network

    inputs = [path for path in (checkpoint, verify, judgement, protein_map) if path is not None]
    check_graph(out, inputs, ("score", "gpu"))
    if bundle is not None:
        check_bundled(out)
    network, record = load_network(checkpoint)
    level = folded_level(network, sigma)
    evaluation = None if judgement is None else read_evaluation(judgement, record)
    parity = pack(
        network,
        out,
        name=out.stem,
        sigma=level,
        record=record,
        licence=OUR_LICENCE,
        chains=spread_over_lengths(Corpus(verify), chains),
        score=score,
        evaluation=evaluation,
        vectors=read_vectors(network, protein_map, residue),
    )
    if bundle is not None:
        register(out, bundle)
    say(console, f"{out}: noise level {level:g} angstrom, largest deviations from PyTorch {parity.as_dict()}")


@app.command()
def int8(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of protemb-train pretrain.")],
    model: Annotated[str, typer.Argument(help="Bundled model, or float32 graph, exported from it.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    corpus: Annotated[
        Path, typer.Option(help="Corpus (.arrow): training chains for calibration, held-out ones to compare.")
    ],
    chains: Annotated[int, typer.Option(min=1, help="Number of chains for calibration.")] = 24,
    compared: Annotated[int, typer.Option(min=1, help="Number of chains compared with float32.")] = 200,
    bundle: Bundle = None,
) -> None:
    """Export a network with its pair map in 8-bit integers, for the CPU.

    The network must have a single representation.
    """
    from protemb_export.pack import check_bundled, pack_int8, register
    from protemb_export.targets import check_graph, files_of
    from protemb_export.verify import spread_over_lengths
    from protemb_sdk._model.models import find_model
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.network.checkpoint import load_network

    if bundle is not None:
        check_bundled(out)
    exact = find_model(model)
    check_graph(out, [checkpoint, *files_of(exact), corpus])
    calibration = spread_over_lengths(Corpus(corpus, ["train"]), chains, longest=500)
    held_out = spread_over_lengths(Corpus(corpus, ["val", "test"]), compared)
    alike = pack_int8(load_network(checkpoint)[0], exact, out, calibration, held_out)
    if bundle is not None:
        register(out, bundle, exact.score_path)
    say(console, f"{out}: cosines to float32 {alike.as_dict()}")


@app.command()
def half(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of protemb-train pretrain.")],
    model: Annotated[str, typer.Argument(help="Bundled model, or float32 graph, exported from it.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    corpus: Annotated[Path, typer.Option(help="Corpus (.arrow) whose held-out chains are compared.")],
    compared: Annotated[int, typer.Option(min=1, help="Number of chains compared with float32.")] = 200,
    bundle: Bundle = None,
) -> None:
    """Export a network with its blocks in float16, for GPUs."""
    from protemb_export.pack import check_bundled, pack_half, register
    from protemb_export.targets import check_graph, files_of
    from protemb_export.verify import spread_over_lengths
    from protemb_sdk._model.models import find_model
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.network.checkpoint import load_network

    if bundle is not None:
        check_bundled(out)
    exact = find_model(model)
    check_graph(out, [checkpoint, *files_of(exact), corpus])
    held_out = spread_over_lengths(Corpus(corpus, ["val", "test"]), compared)
    alike = pack_half(load_network(checkpoint)[0], exact, out, held_out)
    if bundle is not None:
        register(out, bundle, exact.score_path)
    say(console, f"{out}: cosines to float32 {alike.as_dict()}")


@app.command()
def gpu(
    model: Annotated[
        str, typer.Argument(help="Bundled model, or graph; <name>-gpu.onnx is written to its folder.")
    ],
    verify: Annotated[Path, typer.Option(help="Corpus (.arrow) whose chains are compared with the model.")],
    chains: Annotated[
        int, typer.Option(min=1, help="Number of chains to verify on, of 30 to 1,000 residues.")
    ] = 60,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            help="Checkpoint of the model, so that chains of different lengths share a batch; for networks "
            "with a single representation."
        ),
    ] = None,
) -> None:
    """Write an equivalent graph without convolutions, which the SDK uses on CUDA devices."""
    from protemb_export.pack import pack_gpu, register
    from protemb_export.targets import check_graph
    from protemb_export.verify import spread_over_lengths
    from protemb_sdk import list_models
    from protemb_sdk._model.models import beside, find_model
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.network.checkpoint import load_network

    exact = find_model(model)
    check_graph(
        beside(exact.path, "gpu"), [path for path in (exact.path, verify, checkpoint) if path is not None]
    )
    network = None if checkpoint is None else load_network(checkpoint)[0]
    parity = pack_gpu(exact, spread_over_lengths(Corpus(verify), chains), network)
    for bundled in list_models():
        if bundled.path.samefile(exact.path):
            register(bundled.path, bundled.summary, bundled.score_path)
    say(console, f"{exact.path.stem}-gpu.onnx: largest deviations from {exact.name} {parity.as_dict()}")


@app.command()
def head(
    predictor: Annotated[
        Path, typer.Argument(help="Output of protemb-train sites predictor or quality scorer.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    verify: Annotated[Path, typer.Option(help="Corpus (.arrow) whose chains are compared with PyTorch.")],
    chains: Annotated[int, typer.Option(min=1, help="Number of chains to verify on.")] = 20,
    bundle: Bundle = None,
) -> None:
    """Export a predictor that takes an embedding as input."""
    from protemb_export.head import pack_head, register_head
    from protemb_export.pack import check_bundled
    from protemb_export.targets import check_graph, files_of
    from protemb_export.verify import spread_over_lengths
    from protemb_sdk._base.output import check_apart
    from protemb_sdk._model.models import find_model
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.downstream.quality import scorer
    from protemb_train.downstream.sites.predictor import load_predictor
    from protemb_train.network.checkpoint import read_tensors

    check_graph(out, [predictor, verify])
    if bundle is not None:
        check_bundled(out)
    of_quality = read_tensors(predictor).get("format") == scorer.FORMAT
    trained = scorer.load_scorer(predictor) if of_quality else load_predictor(predictor)
    check_apart([out], files_of(find_model(trained.card["encoder"]["name"])))
    worst = pack_head(
        trained,
        out,
        name=out.stem,
        licence=OUR_LICENCE,
        chains=spread_over_lengths(Corpus(verify), chains),
    )
    if bundle is not None:
        register_head(out, bundle, trained.card)
    say(console, f"{out}: largest deviation from PyTorch {worst:.1e}")


@app.command()
def finetune(
    labels: Annotated[
        Path, typer.Option(help="CSV: structure, chain, residue (for residue labels: 52 or 52A), label.")
    ],
    structures: Annotated[Path, typer.Option(help="Folder of the structures.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    task: Annotated[str, typer.Option(help="Labels are per residue or per protein.")] = "residue",
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    unfreeze: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of the model: also train the encoder, written to <name>-encoder.onnx."),
    ] = None,
    licence: Annotated[str, typer.Option(help="Licence of the predictor.")] = "none stated",
    threads: Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.")] = None,
) -> None:
    """Train a predictor of your own labels on an embedding, evaluate it and export it.

    Words, or up to 10 different whole numbers, are classes; other numbers are a quantity. A fifth of the
    families of related chains is held out for evaluation. `protemb predict` and
    `protemb_sdk.LabelPredictor` run the predictor, without PyTorch.
    """
    from protemb_export.finetune import finetune as run

    if task not in ("residue", "protein"):
        raise ProtembError(f"--task must be residue or protein, not {task!r}")
    run(
        labels, structures, out, task=task, model=model, unfreeze=unfreeze, licence=licence,  # type: ignore[arg-type]
        threads=threads,
    )  # fmt: skip


@app.command()
def card(
    graph: Annotated[Path, typer.Argument(help="Exported ONNX file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write (.md).")],
    hugging_face: Annotated[
        bool,
        typer.Option("--hugging-face", help="README.md of a Hugging Face repository, with metadata (YAML)."),
    ] = False,
) -> None:
    """Write the model card of an exported graph from its metadata."""
    from protemb_export.hugging_face import as_hugging_face_page
    from protemb_export.page import read_card
    from protemb_export.pages import page_of
    from protemb_sdk._base.output import check_output

    check_output(out, ".md", [graph])
    found = read_card(graph)
    write_text_whole(out, as_hugging_face_page(found) if hugging_face else page_of(found))
    say(console, str(out))


@app.command()
def released(
    checkpoint: Annotated[Path, typer.Argument(help="model.pth of the authors of the paper.")],
    structure: Annotated[Path, typer.Option(help="Structure whose embedding they published.")],
    embedding: Annotated[
        Path, typer.Option(help="Their embedding: npz with pair (C, L, L), residue, protein.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="ONNX file to write.")],
    level: Annotated[int, typer.Option(min=0, help="Index of the noise level; 0 is the largest.")] = 20,
) -> None:
    """Convert the authors' checkpoint and compare the embedding of the SDK with the published one."""
    from protemb_export.pack import pack
    from protemb_export.released import differences, load_released, read_published
    from protemb_export.targets import check_graph
    from protemb_sdk import Embedder, read_chain

    check_graph(out, [checkpoint, structure, embedding], ("score", "gpu"))
    network = load_released(checkpoint)
    if level >= len(network.levels_K):
        raise ProtembError(
            f"noise level {level} does not exist; {checkpoint} has 0 to {len(network.levels_K) - 1}"
        )
    published = read_published(embedding)
    chain = read_chain(structure)
    sigma = float(network.levels_K[level])
    record = {"steps": None, "record": {"released by": "the paper's authors", "file": checkpoint.name}}
    pack(
        network,
        out,
        name=out.stem,
        sigma=sigma,
        record=record,
        licence=RELEASED_LICENCE,
        chains=[chain],
        score=False,
    )
    found = differences(Embedder(out, "cpu").embed(structure, pair=True), published, embedding)
    report = ", ".join(f"{name} {value:.1e}" for name, value in found.items())
    say(
        console,
        f"{chain.id}, noise level {level} ({sigma:.4f} angstrom), largest absolute differences: {report}",
    )
    if not max(found.values()) <= AUTHORS_TOLERANCE:
        raise ProtembError(f"differs from the published embedding by more than {AUTHORS_TOLERANCE:g}")


def main() -> None:
    """Run the command line; a `ProtembError` is printed as one message, with exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
