"""`protemb-train sites`: rows of the PPI table, the table, and the predictor of the SDK."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._command import console, say
from protemb_sdk._output import writable_target, written_whole

app = typer.Typer(no_args_is_help=True, help="PPI sites: the paper's second task.")


@app.command()
def row(
    name: Annotated[str, typer.Argument(help="Name of the row, and of its folder.")],
    data: Annotated[Path, typer.Option(help="Labelled chains (deepppisp.npz or graphppis.npz).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of rows; seeds that are there stay.")],
    encoder: Annotated[
        str, typer.Option(help="none, a bundled model, an .onnx file, or a folder of a sequence model.")
    ] = "none",
    readout: Annotated[
        list[str] | None, typer.Option(help="Residue readout (mean by default); may come again.")
    ] = None,
    network: Annotated[str, typer.Option(help="deepppisp, deepppisp-published (100 M weights) or head.")] = (
        "deepppisp"
    ),
    features: Annotated[bool, typer.Option(help="PSSM and DSSP.")] = True,
    every_chain: Annotated[
        bool, typer.Option("--every-chain", help="Chains without coordinates too; not for structures.")
    ] = False,
    train_split: Annotated[str, typer.Option(help="Published split to learn from.")] = "train",
    test_split: Annotated[str, typer.Option(help="Published split to test on.")] = "test",
    seeds: Annotated[int, typer.Option(min=1, help="Runs.")] = 5,
    cache: Annotated[Path | None, typer.Option(help="Folder to keep embeddings in.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train one row of the table: the seeds that are not there yet."""
    import torch

    from protemb_train.downstream.sites.data import read_sites
    from protemb_train.downstream.sites.embeddings import find_encoder
    from protemb_train.downstream.sites.networks import find_network
    from protemb_train.downstream.sites.rows import Row, run_row

    if threads:
        torch.set_num_threads(threads)
    make, options = find_network(network)
    sites = read_sites(data)
    training, test = (
        [c for c in sites.of(s) if every_chain or c.has_coordinates] for s in (train_split, test_split)
    )
    left_out = len(sites.of(train_split, test_split)) - len(training) - len(test)
    say(
        console,
        f"{name}: {len(training)} and {len(test)} chains, {left_out} left out for want of coordinates; "
        f"{len(sites.notes)} chains have notes",
    )
    found = Row(
        name=name,
        encoder=find_encoder(encoder, readout or ["mean"], threads),
        make=make,
        features=features,
        options=options,
    )
    about = {"network": network, "data": data.name, "train": train_split, "test": test_split}
    for run in run_row(found, training, test, out, seeds=range(seeds), cache=cache, about=about):
        best = max(run.curve, key=lambda epoch: epoch["val_f"])
        say(console, f"{name}: validation F {best['val_f']:.3f}, AUPRC {best['val_auprc']:.3f}")


@app.command()
def table(
    rows: Annotated[Path, typer.Argument(help="Folder of rows.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write (.md).")],
    against: Annotated[
        list[str] | None, typer.Option(help="Row to take differences from; may come again.")
    ] = None,
) -> None:
    """Write the table of all rows in a folder, both protocols."""
    from protemb_train.downstream.sites.rows import read_rows
    from protemb_train.downstream.sites.table import as_table

    writable_target(out)
    page = as_table(read_rows(rows), against or [])
    with written_whole(out) as part:
        part.write_text(page, encoding="utf-8")
    say(console, str(out))


@app.command()
def predictor(
    data: Annotated[Path, typer.Option(help="GraphPPIS's chains (graphppis.npz).")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write; protemb-export head reads it.")],
    encoder: Annotated[str, typer.Option(help="A bundled model, or an .onnx file.")] = "base",
    readout: Annotated[list[str] | None, typer.Option(help="Residue readouts.")] = None,
    train_split: Annotated[str, typer.Option(help="Split to learn from.")] = "Train_335",
    held_out: Annotated[list[str] | None, typer.Option(help="Splits to measure on.")] = None,
    heads: Annotated[int, typer.Option(min=1, help="Heads that are averaged.")] = 5,
    cache: Annotated[Path | None, typer.Option(help="Folder to keep embeddings in.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
) -> None:
    """Train the predictor of the SDK: structure alone, no PSSM and no DSSP."""
    import torch

    from protemb_train.downstream.sites.data import read_sites
    from protemb_train.downstream.sites.embeddings import StructureEncoder
    from protemb_train.downstream.sites.predictor import save_predictor, train_predictor

    writable_target(out)
    if threads:
        torch.set_num_threads(threads)
    sites = read_sites(data)
    sets = {
        name: [chain for chain in sites.of(name) if chain.has_coordinates]
        for name in held_out or ("Test_60", "Test_315")
    }
    training = [chain for chain in sites.of(train_split) if chain.has_coordinates]
    names = readout or ["mean", "contact", "column", "column-contact", "max"]
    trained = train_predictor(
        training, StructureEncoder(encoder, names, threads), sets, heads=heads, cache=cache
    )
    trained.card["training"] |= {"data": data.name, "split": train_split}
    save_predictor(trained, out)
    for name, scores in trained.card["quality"].items():
        say(console, f"{name}: AUPRC {scores['auprc']:.3f}, MCC {scores['mcc']:.3f}")
