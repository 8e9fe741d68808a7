"""`protemb-train quality`: training models, rows of the table, the table, and the scorer of the SDK."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say
from protemb_sdk._base.output import check_output, write_text_whole
from protemb_train.commands import quality_models as models_cli
from protemb_train.commands.quality_models import Made, Real, Threads
from protemb_train.commands.sites import READOUTS

Encoding = Annotated[
    str, typer.Option(help="none, a model, an .onnx or .ckpt file, a sequence model, proteinmpnn, 3di.")
]
Cache = Annotated[Path, typer.Option(help="Cache folder for embeddings.")]

app = typer.Typer(no_args_is_help=True, help="Model quality: the paper's first task.")
for command in (
    models_cli.decoys,
    models_cli.casp,
    models_cli.names,
    models_cli.zero_shot,
    models_cli.refine,
):
    app.command()(command)


@app.command()
def row(
    name: Annotated[str, typer.Argument(help="Name of the row and of its folder.")],
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of rows; existing seeds are kept.")],
    cache: Cache,
    made: Made = None,
    watched: Annotated[
        list[Path] | None, typer.Option(help="Models generated for validation; may be repeated.")
    ] = None,
    encoder: Encoding = "none",
    network: Annotated[
        str,
        typer.Option(
            help="graphqa, residues (GraphQA without embeddings of pairs), head or compatibility, ours."
        ),
    ] = "graphqa",
    readout: Annotated[
        list[str] | None,
        typer.Option(
            help="Vectors of residues: readouts of the pair map, residue or profile; may be repeated. "
            f"By default mean for graphqa, {', '.join(READOUTS)} for other networks."
        ),
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="Network that predicts residue types: a file of quality names.")
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Number of epochs over the training targets; 12, for compatibility 20."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 5,
    threads: Threads = None,
) -> None:
    """Train the missing seeds of one row of the table; test models are not read."""
    import torch

    from protemb_train.downstream.common.embeddings import find_encoder
    from protemb_train.downstream.quality.data import real_decoys, training_models
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.naming import load_names
    from protemb_train.downstream.quality.rows import Row, run_row
    from protemb_train.downstream.quality.training import RECIPES, Recipe

    if threads:
        torch.set_num_threads(threads)
    fitted, held, left_out = real_decoys(real)
    learning = training_models(fitted, [d for path in made or [] for d in read_decoys(path)])
    validation = training_models(held, [d for path in watched or [] for d in read_decoys(path)])
    say(
        console,
        f"{name}: {len(learning)} training models, {len(validation)} validation models, "
        f"{len(left_out)} targets excluded as relatives of test targets",
    )
    recipe = RECIPES.get(network, Recipe())
    wanted = Row(
        name=name,
        network=network,
        encoder=find_encoder(
            encoder, readout or (READOUTS[:1] if network == "graphqa" else READOUTS), threads
        ),
        recipe=recipe if epochs is None else replace(recipe, epochs=epochs),
        namer=None if names is None else load_names(names)[0],
    )
    for trained_row in run_row(wanted, learning, validation, out, seeds=range(seeds), cache=cache):
        shown = {
            kind: {n: round(of[n], 3) for n in ("gdt_ts_r_target", "gdt_ts_z", "residue_lddt_rho_decoy")}
            for kind, of in trained_row.record["validation"].items()
        }
        say(console, f"{name}, seed {trained_row.record['seed']}: validation {shown}")


@app.command()
def finetune(
    name: Annotated[str, typer.Argument(help="Name of the new row.")],
    start: Annotated[str, typer.Option("--from", help="Row of GraphQA to continue from.")],
    rows: Annotated[Path, typer.Option(help="Folder of rows.")],
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint of its encoder.")],
    real: Real,
    made: Made = None,
    watched: Annotated[
        list[Path] | None, typer.Option(help="Models generated for validation; may be repeated.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Fine-tune a row together with its encoder, end to end, on models of up to 200 residues."""
    import torch

    from protemb_train.downstream.quality.data import real_decoys, training_models
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.rows import fine_tune_row
    from protemb_train.downstream.quality.trained import load_rows
    from protemb_train.network.checkpoint import load_network

    if threads:
        torch.set_num_threads(threads)
    fitted, held, _ = real_decoys(real)
    sides = [
        training_models(side, [d for path in files or [] for d in read_decoys(path)])
        for side, files in ((fitted, made), (held, watched))
    ]
    frozen = load_rows(rows, only=start)[start]
    for tuned in fine_tune_row(name, frozen, load_network(checkpoint)[0], sides[0], sides[1], rows):
        last = tuned.record["curve"][-1]
        say(
            console, f"{name}, seed {tuned.record['seed']}: validation R_target {last['gdt_ts_r_target']:.3f}"
        )


@app.command()
def scorer(
    names: Annotated[
        list[str], typer.Argument(help="Rows of networks without pair embeddings: any but graphqa.")
    ],
    rows: Annotated[Path, typer.Option(help="Folder of rows.")],
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, for protemb-export head.")],
    cache: Cache,
    watched: Annotated[
        list[Path] | None, typer.Option(help="Models generated for validation; may be repeated.")
    ] = None,
    evaluated: Annotated[
        list[Path] | None,
        typer.Option(
            help="Test models, for the evaluation alone; listed by the name of the file. May be repeated."
        ),
    ] = None,
    encoder: Encoding = "base",
    measured: Annotated[
        Path | None, typer.Option(help="Values of quality table (.json), for the model card.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Combine rows into the scorer of the SDK, calibrated and evaluated on validation models.

    The scorer is the mean of the rows, each the mean of its seeds.

    The errors are those of models of targets that the calibration was not fitted to.
    """
    import torch

    from protemb_train.downstream.quality.calibration import calibrate, cross_calibrated, fit_calibration
    from protemb_train.downstream.quality.data import real_decoys, training_models
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.predictions import predictions
    from protemb_train.downstream.quality.scorer import assemble, by_band, by_source, combined, save_scorer
    from protemb_train.downstream.quality.table import combination
    from protemb_train.downstream.quality.trained import load_rows

    check_output(out, (".ckpt", ".pt"), [real, encoder, measured, *(watched or []), *(evaluated or [])])
    if threads:
        torch.set_num_threads(threads)
    found = {name: load_rows(rows, only=name)[name] for name in names}
    held = training_models(real_decoys(real)[1], [d for path in watched or [] for d in read_decoys(path)])
    others = [replace(d, source=path.stem) for path in evaluated or [] for d in read_decoys(path, test=True)]
    every, count = [*held, *others], len(held)
    raw = combined(predictions(found, every, [encoder], cache, threads), names)
    of_held, of_others = raw.of(range(count)), raw.of(range(count, len(every)))
    weights = fit_calibration(held, of_held)
    predicted = cross_calibrated(held, of_held).followed_by(calibrate(of_others, weights))
    quality = {"watched": by_source(every, predicted), "bands": by_band(every, predicted)}
    if measured is not None:
        scores = json.loads(measured.read_text(encoding="utf-8"))["scores"][combination(names)]
        quality["CASP12"] = {key: score["mean"] for key, score in scores.items()}
    save_scorer(assemble(found, quality, weights), out)
    say(console, f"{out}: {combination(names)}")


@app.command()
def table(
    rows: Annotated[Path, typer.Argument(help="Folder of rows.")],
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write (.md).")],
    cache: Cache,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Encoders of the rows that are not bundled; may be repeated.")
    ] = None,
    energies: Annotated[Path | None, typer.Option(help="Published energies of the test models.")] = None,
    zero_shot: Annotated[
        Path | None, typer.Option(help="Result of zero-shot; its noise level and model are used.")
    ] = None,
    names: Annotated[
        Path | None, typer.Option(help="A file of quality names, to be evaluated alone.")
    ] = None,
    against: Annotated[list[str] | None, typer.Option(help="Row to subtract; may be repeated.")] = None,
    together: Annotated[
        list[str] | None,
        typer.Option(help="Rows whose mean is a line too, separated by commas; may be repeated."),
    ] = None,
    threads: Threads = None,
) -> None:
    """Let every row predict the test models, and write the table: the only command that reads them."""
    import numpy as np
    import torch

    from protemb_sdk import Embedder
    from protemb_train.downstream.quality.baselines import baselines
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.naming import load_names
    from protemb_train.downstream.quality.predictions import predictions
    from protemb_train.downstream.quality.table import as_table, curves_of, read_energies
    from protemb_train.downstream.quality.trained import load_rows
    from protemb_train.experiments.zero_shot import fitting, still

    read = [real, energies, zero_shot, names, *(encoder or [])]
    check_output(out, ".md", read, beside=[".json", "-curves.json"])
    curves = out.with_name(f"{out.stem}-curves.json")
    if threads:
        torch.set_num_threads(threads)
    found = load_rows(rows)
    test = read_decoys(real, test=True)
    predicted = predictions(found, test, encoder or [], cache, threads)
    others = baselines(test)
    if zero_shot is not None:
        judge = json.loads(zero_shot.read_text(encoding="utf-8"))
        embedder = Embedder(judge["model"], "cpu", threads=threads)
        others[f"score network of {judge['model']} alone, {judge['sigma']:g} angstrom"] = np.array(
            [still(embedder, d, judge["sigma"]) for d in test]
        )
    if names is not None:
        namer = load_names(names)[0]
        others["naming of hidden residues alone"] = np.array([fitting(namer, d) for d in test])
    if energies is not None:
        others |= read_energies(energies, test)
    means = [names.split(",") for names in together or []]
    page, values = as_table(test, found, predicted, others, against or [], means)
    write_text_whole(out, page)
    write_text_whole(out.with_suffix(".json"), json.dumps(values, indent=1) + "\n")
    write_text_whole(curves, json.dumps(curves_of(found)) + "\n")
    say(console, f"{out}: {len(found)} rows on {len(test)} models")
