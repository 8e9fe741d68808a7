"""`protemb-train`: build a corpus, pre-train a network, evaluate and probe it on whole chains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from protemb_sdk import ProtembError
from protemb_sdk._base.console import console, run, say
from protemb_sdk._base.output import check_output, check_own, write_text_whole
from protemb_train.commands import corpus as corpus_cli
from protemb_train.commands import evaluate as evaluate_cli
from protemb_train.commands import protein_vector as vector_cli
from protemb_train.commands import quality as quality_cli
from protemb_train.commands import sites as sites_cli
from protemb_train.commands.language import language
from protemb_train.commands.probe import probe

if TYPE_CHECKING:
    from protemb_train.network.config import NetworkConfig, PretrainConfig

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
app.command()(probe)
app.command()(language)


app.command()(corpus_cli.corpus)
app.command()(corpus_cli.prove)
app.command()(vector_cli.pairs)
app.command("fit-map")(vector_cli.fit_map)
app.add_typer(sites_cli.app, name="sites")
app.add_typer(quality_cli.app, name="quality")
app.add_typer(evaluate_cli.app, name="evaluate")


# Text near the start of files that a command writes in addition to its output file.
_TABLE, _PLOT = b" whole held-out chains", b"Matplotlib"


def _configured(preset: str, config: Path | None) -> tuple[str, NetworkConfig, PretrainConfig]:
    """Return preset, network and recipe from a file if given, or else from the name of a preset."""
    from protemb_train.network.presets import PRESETS, read_config

    if config is not None:
        return read_config(config)
    if preset not in PRESETS:
        raise ProtembError(f"there is no preset {preset!r}; available are {', '.join(PRESETS)}")
    return preset, *PRESETS[preset]


@app.command()
def pretrain(
    corpus: Annotated[Path, typer.Option(help="Corpus file (.arrow).")],
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Folder for checkpoints; an earlier run in it is continued.")
    ],
    preset: Annotated[str, typer.Option(help="paper, base, base-messages or base-1.")] = "base",
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a preset and changes to it, instead of --preset.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Total number of optimiser steps.")] = 6000,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of weights and batches.")] = 0,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Number of CPU threads; by default that of torch.")
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="Number of GPUs per machine.")] = 1,
    nodes: Annotated[int, typer.Option(min=1, help="Number of machines.")] = 1,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that create batches.")] = 0,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile with torch.compile.")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Use bfloat16 for convolutions.")] = False,
    progress: Annotated[bool, typer.Option(help="Show a progress bar.")] = True,
    damaged: Annotated[
        Path | None,
        typer.Option(help="Damaged structures of training chains (npz of quality decoys), for damage_loss."),
    ] = None,
    start: Annotated[
        Path | None, typer.Option(help="Checkpoint with the initial weights of a new run and its heads.")
    ] = None,
    pair_map: Annotated[
        Path | None,
        typer.Option("--map", help="Checkpoint of preset base-1 with the initial pair map of base."),
    ] = None,
) -> None:
    """Pre-train a network by denoising score matching, continuing an earlier run."""
    import torch

    from protemb_train.base.origin import file_record, origin
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.downstream.quality.decoys import read_damaged
    from protemb_train.network.checkpoint import load_heads, load_network
    from protemb_train.pretrain.pretrain import Machine, steps_done
    from protemb_train.pretrain.pretrain import pretrain as run

    preset, network, recipe = _configured(preset, config)
    record = {"preset": preset, "origin": origin()}
    files = ("damaged", damaged), ("start", start), ("map", pair_map)
    record |= {name: file_record(path) for name, path in files if path}
    if threads:
        torch.set_num_threads(threads)
    console.print(
        f"preset {preset} on {len(Corpus(corpus, ['train']))} chains, steps {steps_done(out)} to {steps}, "
        f"{'CUDA' if torch.cuda.is_available() else f'{torch.get_num_threads()} CPU threads'}",
        highlight=False,
    )
    machine = Machine(devices=devices, nodes=nodes, workers=workers, compile=compiled, bfloat16=bfloat16)
    last = run(
        corpus,
        network,
        recipe,
        out,
        steps=steps,
        seed=seed,
        record=record,
        machine=machine,
        progress=progress,
        damaged=read_damaged(damaged) if damaged else (),
        start=load_network(start)[0] if start else None,
        heads=load_heads(start) if start else None,
        pair_map=load_network(pair_map)[0] if pair_map else None,
    )
    say(console, str(last))


@app.command()
def judge(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of pretrain.")],
    corpus: Annotated[Path, typer.Option(help="Corpus file (.arrow).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="JSON file to write, with a table (.md).")],
    split: Annotated[str, typer.Option(help="Split; val is used to choose checkpoints.")] = "test",
    chains: Annotated[int, typer.Option(min=1, help="Number of random chains, one per cluster.")] = 100,
    max_length: Annotated[int, typer.Option(min=1, help="Omit longer chains.")] = 400,
) -> None:
    """Evaluate the loss per noise level on full-length held-out chains, relative to predicting zero."""
    from protemb_train.corpus.corpus import SPLITS, Corpus
    from protemb_train.network.checkpoint import load_network
    from protemb_train.pretrain.judge import judge as run
    from protemb_train.pretrain.levels import read_curve

    check_output(out, ".json", [checkpoint, corpus], beside=[".md"])
    check_own(out.with_suffix(".md"), _TABLE)
    network, record = load_network(checkpoint)
    if split not in SPLITS:
        raise ProtembError(f"there is no split {split!r}; available are {', '.join(SPLITS)}")
    held_out = Corpus(corpus, [split])
    training = record.get("record", {})
    if training.get("corpus_sha256", held_out.sha256) != held_out.sha256:
        say(
            console,
            f"warning: {corpus}: {checkpoint} was not trained on this corpus but on "
            f"{training.get('corpus')}, and its {split} chains may be in the training set; use that corpus, "
            "unless both have one split",
        )
    drawn = held_out.one_per_cluster(chains, (1, max_length))
    evaluation = run(network, (held_out[position] for position in drawn))
    values = evaluation.as_dict()
    loaded = {
        "checkpoint": record,
        "curve": read_curve(checkpoint.parent),
        "split": split,
        "corpus": corpus.name,
        "corpus_sha256": held_out.sha256,
        "judgement": values,
    }
    write_text_whole(out.with_suffix(".md"), evaluation.as_markdown())
    write_text_whole(out, json.dumps(loaded, indent=1) + "\n")  # last: marks both files as complete
    say(
        console,
        f"mean share {values['mean_share']:.3f} over {evaluation.chains} chains, floor {values['floor']:.3f}",
    )


@app.command()
def compare(
    judgements: Annotated[list[str], typer.Argument(help="NAME=FILE, with FILE a JSON file of judge.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write (.md), with a plot (.png).")],
) -> None:
    """Compare the evaluations of several networks in a table and a plot."""
    from protemb_train.pretrain.levels import as_table, draw, read_judgement

    pairs = [entry.partition("=") for entry in judgements]
    if not all(name and path for name, _, path in pairs):
        raise ProtembError("every evaluation needs a name: NAME=FILE, such as base=base.json")
    if out.suffix == ".png":
        raise ProtembError(f"is the name of the plot; name the table, such as {out.with_suffix('.md')}", out)
    check_output(out, ".md", [Path(path) for _, _, path in pairs], beside=[".png"])
    check_own(out.with_suffix(".png"), _PLOT)
    read = {name: read_judgement(Path(path)) for name, _, path in pairs}
    if len(read) < len(pairs):
        raise ProtembError("two evaluations have the same name; use different names")
    table = as_table(read)
    draw(read, out.with_suffix(".png"))
    write_text_whole(out, table)
    say(console, str(out))


@app.command()
def weights(
    checkpoint: Annotated[Path, typer.Argument(help="Checkpoint of pretrain.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Checkpoint to write.")],
) -> None:
    """Write the weights of a checkpoint, rounded to float16, without the state of its run."""
    from protemb_train.network.checkpoint import load_network, round_weights, save_network

    check_output(out, ".ckpt", [checkpoint])
    network, record = load_network(checkpoint)
    round_weights(network)
    save_network(network, record, out)
    say(console, str(out))


@app.command()
def untrained(
    out: Annotated[Path, typer.Option("-o", "--out", help="Checkpoint to write.")],
    preset: Annotated[str, typer.Option(help="paper, base, base-messages or base-1.")] = "base",
    config: Annotated[
        Path | None,
        typer.Option(help="TOML file of the run for which this is the control, instead of --preset."),
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Corpus for the batch statistics of paper, from whole chains.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**32 - 1, help="Seed of the weights.")] = 0,
) -> None:
    """Write the initial network of a run, which is the control in tables."""
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.network.checkpoint import save_network
    from protemb_train.probe.encoders import untrained as make

    check_output(out, ".ckpt", [config, corpus])
    preset, shape, _ = _configured(preset, config)
    network = make(shape, seed, Corpus(corpus, ["train"]) if corpus else None)
    record = {"network": network.config.as_dict(), "seed": seed, "record": {"preset": preset}, "steps": 0}
    save_network(network, record, out)
    say(console, str(out))


def main() -> None:
    """Run the command line; a `ProtembError` is printed as one message, with exit status 1."""
    run(app)


if __name__ == "__main__":
    main()
