"""`protemb-train sites`: rows of the PPI table, the table, and the predictor of the SDK."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say
from protemb_sdk._base.output import check_output, write_text_whole

READOUTS = ("mean", "contact", "column", "column-contact")
"""Readouts of our heads, chosen on validation chains (train/results/README.md)."""

Data = Annotated[Path, typer.Option(help="Labelled chains (deepppisp.npz or graphppis.npz).")]
Encoding = Annotated[
    str, typer.Option(help="none, a model, an .onnx or .ckpt file, a sequence model, proteinmpnn, 3di.")
]
OurReadouts = Annotated[
    list[str] | None, typer.Option(help=f"Residue readouts; by default {', '.join(READOUTS)}.")
]
From = Annotated[Path | None, typer.Option(help="Pretrained network: a file of protemb-train sites start.")]
TestSplits = Annotated[
    list[str] | None, typer.Option(help="Published split to test on (test); may be repeated.")
]
Cache = Annotated[Path | None, typer.Option(help="Cache folder for embeddings.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.")]

app = typer.Typer(no_args_is_help=True, help="PPI sites: the paper's second task.")


@app.command()
def row(
    name: Annotated[str, typer.Argument(help="Name of the row and of its folder.")],
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of rows; existing seeds are kept.")],
    encoder: Encoding = "none",
    readout: Annotated[
        list[str] | None, typer.Option(help="Residue readout (mean by default); may be repeated.")
    ] = None,
    network: Annotated[
        str, typer.Option(help="deepppisp, deepppisp-published (100 M weights), graph, graph-unlabelled.")
    ] = "deepppisp",
    start: From = None,
    unfreeze: Annotated[
        Path | None, typer.Option(help="Checkpoint of the encoder, to be fine-tuned end to end.")
    ] = None,
    features: Annotated[bool, typer.Option(help="Use PSSM and DSSP.")] = True,
    every_chain: Annotated[
        bool, typer.Option("--every-chain", help="Include chains without coordinates; not for structures.")
    ] = False,
    train_split: Annotated[str, typer.Option(help="Published split to train on.")] = "train",
    test_split: TestSplits = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 5,
    cache: Cache = None,
    threads: Threads = None,
) -> None:
    """Train the missing seeds of one row of the table."""
    import torch

    from protemb_train.downstream.common.embeddings import find_encoder
    from protemb_train.downstream.sites.data import SitesError, read_sites
    from protemb_train.downstream.sites.networks import find_network
    from protemb_train.downstream.sites.rows import Row, run_row
    from protemb_train.downstream.sites.start import started_from
    from protemb_train.network.checkpoint import load_network

    if threads:
        torch.set_num_threads(threads)
    make, recipe = find_network(network)
    found_encoder = find_encoder(encoder, readout or ["mean"], threads)
    started = started_from(start, network, found_encoder)
    if started is None and not recipe.epochs:
        raise SitesError(f"network {network} is not trained here, so it requires --start")
    sites = read_sites(data)
    splits = [train_split], test_split or ["test"]
    training, test = ([c for c in sites.of(*side) if every_chain or c.has_coordinates] for side in splits)
    left_out = sum(len(sites.of(*side)) for side in splits) - len(training) - len(test)
    say(
        console,
        f"{name}: {len(training)} and {len(test)} chains, {left_out} excluded without coordinates; "
        f"{len(sites.notes)} chains have notes",
    )
    found = Row(
        name=name,
        encoder=found_encoder,
        make=make,
        features=features,
        recipe=recipe,
        start=None if started is None else started.start,
        unfrozen=None if unfreeze is None else load_network(unfreeze)[0],
    )
    about = {
        "network": network,
        "start": None if started is None else started.record,
        "fine-tuned": unfreeze is not None,
        "data": data.name,
        "train": train_split,
        "test": splits[1],
    }
    for run in run_row(found, training, test, out, seeds=range(seeds), cache=cache, about=about):
        if run.curve:
            best = max(run.curve, key=lambda epoch: epoch["val_f"])
            say(console, f"{name}: validation F {best['val_f']:.3f}, AUPRC {best['val_auprc']:.3f}")


@app.command()
def start(
    corpus: Annotated[
        Path, typer.Argument(help="Corpus of protemb-train corpus; its training chains are cut.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, for row and predictor.")],
    encoder: Encoding = "base",
    readout: OurReadouts = None,
    network: Annotated[str, typer.Option(help="A network that needs no PSSM.")] = "graph",
    seed: Annotated[int, typer.Option(help="Seed of chains, weights and batches.")] = 0,
    cache: Cache = None,
    threads: Threads = None,
) -> None:
    """Pretrain a network on unlabelled chains that are cut in two: predict the cut surface."""
    import torch

    from protemb_train.corpus.corpus import Corpus
    from protemb_train.downstream.common.embeddings import find_encoder
    from protemb_train.downstream.sites.cuts import cut_corpus
    from protemb_train.downstream.sites.networks import START_EPOCHS, find_network
    from protemb_train.downstream.sites.start import save_start, train_on_cuts

    check_output(out, (".pt", ".ckpt"), [corpus, encoder])
    if threads:
        torch.set_num_threads(threads)
    make, recipe = find_network(network)
    read = Corpus(corpus, splits=["train"])
    pieces = cut_corpus(read, seed=seed)
    say(console, f"{len(pieces)} pieces of {len(read)} chains")
    made = train_on_cuts(
        pieces,
        find_encoder(encoder, readout or READOUTS, threads),
        make,
        replace(recipe, epochs=START_EPOCHS),
        network=network,
        seed=seed,
        cache=cache,
    )
    made.about["corpus_sha256"] = read.sha256
    save_start(made, out)
    last = made.about["curve"][-1]
    say(console, f"{out}: AUPRC {last['val_auprc']:.3f} on held-out pieces")


@app.command()
def table(
    rows: Annotated[Path, typer.Argument(help="Folder of rows.")],
    out: Annotated[
        Path,
        typer.Option("-o", "--out", help="Page to write (.md); all values are written to a .json file."),
    ],
    against: Annotated[list[str] | None, typer.Option(help="Row to subtract; may be repeated.")] = None,
    split: Annotated[str | None, typer.Option(help="Only test chains of this published split.")] = None,
) -> None:
    """Write the table of all rows in a folder."""
    from protemb_train.downstream.sites.rows import read_rows
    from protemb_train.downstream.sites.table import as_table

    check_output(out, ".md", beside=[".json"])
    page, values = as_table(read_rows(rows, split), against or [])
    write_text_whole(out, page)
    write_text_whole(out.with_suffix(".json"), json.dumps(values, indent=1) + "\n")
    say(console, str(out))


@app.command()
def overlap(
    data: Data,
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write (.md).")],
    train_split: Annotated[str, typer.Option(help="Published split to train on.")] = "train",
    test_split: TestSplits = None,
) -> None:
    """List the test chains of a published split that have relatives among the training chains."""
    from protemb_train.downstream.common.overlap import as_overlap
    from protemb_train.downstream.sites.data import read_sites

    check_output(out, ".md", [data])
    sites = read_sites(data)
    training = sites.of(train_split)
    tests = [(name, sites.of(name)) for name in test_split or ["test"]]
    page = as_overlap(
        [(name, side, train_split, training) for name, side in tests]
        + [(train_split, training, train_split, training)]
    )
    write_text_whole(out, page)
    say(console, str(out))


@app.command()
def predictor(
    data: Annotated[Path, typer.Option(help="GraphPPIS's chains (graphppis.npz).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, for protemb-export head.")],
    encoder: Annotated[str, typer.Option(help="A bundled model, or an .onnx file.")] = "base",
    readout: OurReadouts = None,
    start: From = None,
    train_split: Annotated[str, typer.Option(help="Split to train on.")] = "Train_335",
    held_out: Annotated[
        list[str] | None, typer.Option(help="Splits for evaluation; may be repeated.")
    ] = None,
    heads: Annotated[int, typer.Option(min=2, help="Number of averaged heads, and of folds.")] = 7,
    cache: Cache = None,
    threads: Threads = None,
) -> None:
    """Train the predictor of the SDK from structure alone, without PSSM and DSSP."""
    import torch

    from protemb_train.downstream.common.embeddings import StructureEncoder
    from protemb_train.downstream.sites.data import read_sites
    from protemb_train.downstream.sites.predictor import save_predictor, train_predictor
    from protemb_train.downstream.sites.start import started_from

    check_output(out, (".ckpt", ".pt"), [data, encoder, start])
    if threads:
        torch.set_num_threads(threads)
    sites = read_sites(data)
    sets = {
        name: [chain for chain in sites.of(name) if chain.has_coordinates]
        for name in held_out or ("Test_60", "Test_315")
    }
    training = [chain for chain in sites.of(train_split) if chain.has_coordinates]
    found = StructureEncoder(encoder, readout or READOUTS, threads)
    started = started_from(start, "graph", found)
    trained = train_predictor(
        training,
        found,
        sets,
        start=None if started is None else started.start,
        heads=heads,
        cache=cache,
    )
    trained.card["training"] |= {
        "data": data.name,
        "split": train_split,
        "start": None if started is None else started.record,
    }
    save_predictor(trained, out)
    for name, scores in trained.card["quality"].items():
        say(console, f"{name}: AUPRC {scores['auprc']:.3f}, MCC {scores['mcc']:.3f}")
