"""`protemb-train quality`: models to learn from, rows of the table, the table, and the scorer of the SDK."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk import list_models
from protemb_sdk._command import console, say
from protemb_sdk._output import writable_target, write_text_whole

Real = Annotated[Path, typer.Option(help="Models with their scores (decoys.npz).")]
Made = Annotated[list[Path] | None, typer.Option(help="Models made of natives; may come again.")]
Encoding = Annotated[
    str, typer.Option(help="none, a bundled model, an .onnx file, or a folder of a sequence model.")
]
Cache = Annotated[Path, typer.Option(help="Folder to keep embeddings in.")]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads.")]

app = typer.Typer(no_args_is_help=True, help="Model quality: the paper's first task.")


@app.command()
def decoys(
    corpus: Annotated[Path, typer.Argument(help="Corpus of protemb-train corpus, whose chains are natives.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Models to write (.npz).")],
    natives: Annotated[int, typer.Option(min=1, help="Chains, one a cluster.")] = 240,
    models: Annotated[int, typer.Option(min=1, help="Models of each.")] = 10,
    split: Annotated[str, typer.Option(help="Of the corpus: train or val.")] = "train",
    seed: Annotated[int, typer.Option(help="Same seed, same models.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes.")] = 1,
) -> None:
    """Make models of natives that are wrong in the ways of servers, and score them."""
    from protemb_train.downstream.quality.decoys import write_decoys
    from protemb_train.downstream.quality.generate import Plan, generate, kinds_of

    writable_target(out)
    made = [d for of in generate(corpus, Plan(natives, models, split, seed), workers) for d in of]
    write_decoys(made, out)
    told = ", ".join(f"{kind} {n} ({gdt:.2f})" for kind, (n, gdt) in kinds_of(made).items())
    say(console, f"{out}: {len(made)} models, of each kind (mean GDT_TS): {told}")


@app.command()
def casp(
    folder: Annotated[
        Path,
        typer.Argument(help="native/TARGET.pdb and decoys/TARGET/ or .tar.gz; or, with --native, models."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Models to write (.npz).")],
    native: Annotated[
        Path | None,
        typer.Option(help="Native of all models, where FOLDER (or tarball) holds those of one target."),
    ] = None,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
) -> None:
    """Score models against their natives: an edition of CASP, or a folder or tarball of one target."""
    from protemb_train.downstream.quality.casp import read_casp, read_target
    from protemb_train.downstream.quality.decoys import DecoyError, write_decoys

    writable_target(out)
    if native is None:
        found, left_out = read_casp(folder, split)
    else:
        found, left_out = read_target(folder, native, native.stem, folder.name, split)
    if not found:
        raise DecoyError(f"{folder}: no model could be compared with its native ({'; '.join(left_out[:3])})")
    write_decoys(found, out)
    say(console, f"{out}: {len(found)} models of {len({d.target for d in found})} targets")
    for reason in left_out:
        say(console, f"left out: {reason}")


@app.command()
def row(
    name: Annotated[str, typer.Argument(help="Name of the row, and of its folder.")],
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of rows; seeds that are there stay.")],
    cache: Cache,
    made: Made = None,
    watched: Annotated[
        list[Path] | None, typer.Option(help="Models made of natives for validation; may come again.")
    ] = None,
    encoder: Encoding = "none",
    network: Annotated[str, typer.Option(help="graphqa, as published, or head, ours.")] = "graphqa",
    epochs: Annotated[int, typer.Option(min=1, help="Random models of each training target.")] = 12,
    seeds: Annotated[int, typer.Option(min=1, help="Runs.")] = 5,
    threads: Threads = None,
) -> None:
    """Train one row of the table, the seeds that are not there yet; test models are not read."""
    import torch

    from protemb_train.downstream.embeddings import find_encoder
    from protemb_train.downstream.quality.data import learnable, real_decoys
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.rows import Row, run_row
    from protemb_train.downstream.quality.training import Recipe
    from protemb_train.downstream.quality.vectors import READOUTS

    if threads:
        torch.set_num_threads(threads)
    learnt, held, left_out = real_decoys(real)
    learning = learnable(learnt, [d for path in made or [] for d in read_decoys(path)])
    validation = learnable(held, [d for path in watched or [] for d in read_decoys(path)])
    say(
        console,
        f"{name}: {len(learning)} models to learn from, {len(validation)} to watch, "
        f"{len(left_out)} targets left out as relatives of test targets",
    )
    wanted = Row(
        name=name,
        network=network,
        encoder=find_encoder(encoder, READOUTS, threads),
        recipe=Recipe(epochs=epochs),
    )
    for learnt_row in run_row(wanted, learning, validation, out, seeds=range(seeds), cache=cache):
        told = {
            kind: {n: round(of[n], 3) for n in ("gdt_ts_r_target", "gdt_ts_z", "residue_lddt_rho_decoy")}
            for kind, of in learnt_row.record["validation"].items()
        }
        say(console, f"{name}, seed {learnt_row.record['seed']}: validation {told}")


@app.command()
def zero_shot(
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="Findings to write (.json).")],
    made: Made = None,
    model: Annotated[str, typer.Option(help="Whose score network.")] = "base",
    models: Annotated[int, typer.Option(min=2, help="Models of a target, at most.")] = 10,
    targets: Annotated[int, typer.Option(min=1, help="Targets of real and of made models, at most.")] = 40,
    threads: Threads = None,
) -> None:
    """Scan noise levels of the score network as a judge, on training targets."""
    from protemb_sdk import Embedder
    from protemb_train.downstream.quality.data import few_a_target, learnable, real_decoys
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.zero_shot import correlations, scan

    writable_target(out)
    learnt, _, _ = real_decoys(real)
    every = learnable(learnt, [d for path in made or [] for d in read_decoys(path)])
    chosen = [
        d
        for side in (False, True)
        for d in few_a_target([d for d in every if d.made == side], models, targets=targets)
    ]
    embedder = Embedder(model, "cpu", threads=threads)
    found = scan(embedder, chosen)
    sides = {"real": [not d.made for d in chosen], "made": [d.made for d in chosen]}
    told = {
        side: correlations(
            [d for d, k in zip(chosen, keep, strict=True) if k], {s: v[keep] for s, v in found.items()}
        )
        for side, keep in sides.items()
        if any(keep)
    }
    mean = {s: sum(of[s][1] for of in told.values()) / len(told) for s in found}
    best = max(mean, key=lambda s: mean[s])
    page = {"model": model, "models": len(chosen), "sigma": best, "r, r_target, z": told}
    write_text_whole(out, json.dumps(page, indent=1) + "\n")
    say(console, f"{out}: {best:g} angstrom is best, R_target {mean[best]:.3f}")


@app.command()
def scorer(
    name: Annotated[str, typer.Argument(help="Row of our head on a structure embedding.")],
    rows: Annotated[Path, typer.Option(help="Folder of rows.")],
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, for protemb-export head.")],
    cache: Cache,
    watched: Annotated[
        list[Path] | None, typer.Option(help="Models made of natives for validation; may come again.")
    ] = None,
    encoder: Encoding = "base",
    measured: Annotated[
        Path | None, typer.Option(help="What table found (.json beside the page), for the model card.")
    ] = None,
    threads: Threads = None,
) -> None:
    """Put the seeds of a row together into the scorer of the SDK, measured on validation models."""
    import torch

    from protemb_train.downstream.embeddings import find_encoder
    from protemb_train.downstream.quality.data import learnable, real_decoys
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.rows import load_rows
    from protemb_train.downstream.quality.scorer import assemble, by_source, save_scorer, together
    from protemb_train.downstream.quality.table import predictions
    from protemb_train.downstream.quality.vectors import READOUTS

    writable_target(out)
    if threads:
        torch.set_num_threads(threads)
    seeds = load_rows(rows, only=name)[name]
    held = learnable(real_decoys(real)[1], [d for path in watched or [] for d in read_decoys(path)])
    said = predictions({name: seeds}, held, [find_encoder(encoder, READOUTS, threads)], cache)[name]
    quality = {"watched": by_source(held, together(said))}
    if measured is not None:
        quality["CASP12"] = json.loads(measured.read_text(encoding="utf-8"))[f"{name}, together"]
    save_scorer(assemble(seeds, READOUTS, quality), out)
    say(console, f"{out}: {len(seeds)} heads of {name}")


@app.command()
def table(
    rows: Annotated[Path, typer.Argument(help="Folder of rows.")],
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write (.md).")],
    cache: Cache,
    encoder: Annotated[
        list[str] | None, typer.Option(help="Encoders of the rows that are not bundled; may come again.")
    ] = None,
    energies: Annotated[Path | None, typer.Option(help="Published energies of the test models.")] = None,
    zero_shot: Annotated[
        Path | None, typer.Option(help="What zero-shot found: its noise level and model are used.")
    ] = None,
    against: Annotated[list[str] | None, typer.Option(help="Row to subtract; may come again.")] = None,
    threads: Threads = None,
) -> None:
    """Let every row predict the test models, and write the table: the only command that reads them."""
    import numpy as np
    import torch

    from protemb_sdk import Embedder
    from protemb_train.downstream.embeddings import find_encoder
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.downstream.quality.rows import load_rows
    from protemb_train.downstream.quality.table import as_table, predictions, read_energies
    from protemb_train.downstream.quality.vectors import READOUTS
    from protemb_train.downstream.quality.zero_shot import still

    writable_target(out)
    if threads:
        torch.set_num_threads(threads)
    found = load_rows(rows)
    test = read_decoys(real, test=True)
    named = {str(of[0].record["encoder"]["encoder"]) for of in found.values()} & {
        "none",
        *(model.name for model in list_models()),
    }
    encoders = [find_encoder(name, READOUTS, threads) for name in [*sorted(named), *(encoder or [])]]
    said = predictions(found, test, encoders, cache)
    others = {}
    if zero_shot is not None:
        judge = json.loads(zero_shot.read_text(encoding="utf-8"))
        embedder = Embedder(judge["model"], "cpu", threads=threads)
        others[f"score network of {judge['model']} alone, {judge['sigma']:g} angstrom"] = np.array(
            [still(embedder, d, judge["sigma"]) for d in test]
        )
    if energies is not None:
        others |= read_energies(energies, test)
    page, scores = as_table(test, found, said, others, against or [])
    write_text_whole(out, page)
    write_text_whole(out.with_suffix(".json"), json.dumps(scores, indent=1) + "\n")
    say(console, f"{out}: {len(found)} rows on {len(test)} models")


@app.command()
def refine(
    corpus: Annotated[Path, typer.Argument(help="Corpus of protemb-train corpus; test chains are natives.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write (.md).")],
    noise: Annotated[
        list[float] | None, typer.Option(help="Noise in angstrom (1, 2, 4 by default); may come again.")
    ] = None,
    model: Annotated[str, typer.Option(help="Whose score network.")] = "base",
    chains: Annotated[int, typer.Option(min=1, help="Test chains, one a cluster.")] = 20,
    max_length: Annotated[int, typer.Option(min=50, help="Leave longer chains out.")] = 150,
    threads: Threads = None,
) -> None:
    """Perturb natives, move them back by annealed Langevin sampling, and compare RMSD before and after."""
    from protemb_sdk import Embedder
    from protemb_sdk._chain import ALPHABET
    from protemb_train.corpus import Corpus
    from protemb_train.refine import Coords, as_table, refine_native

    writable_target(out)
    read = Corpus(corpus, ["test"])
    embedder = Embedder(model, "cpu", threads=threads)
    found = []
    for position in read.one_a_cluster(chains, (50, max_length)):
        trace = read[position]
        sequence = "".join(ALPHABET[t] for t in trace.residue_type)

        def score(
            x: Coords, sigma: float, rest: tuple[object, ...] = (sequence, trace.residue_index)
        ) -> Coords:
            return embedder.score((x, *rest), sigma=sigma).astype("float64")

        native = trace.ca_coords.astype("float64")
        found += [refine_native(native, level, score) for level in noise or [1.0, 2.0, 4.0]]
    write_text_whole(out, as_table(found))
    say(console, f"{out}: {chains} chains")
