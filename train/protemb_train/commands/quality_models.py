"""Commands of `protemb-train quality` without rows: generate and read models, use the score network alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from protemb_sdk._base.console import console, say
from protemb_sdk._base.output import check_output, write_text_whole

Real = Annotated[Path, typer.Option(help="Models with their scores (decoys.npz).")]
Made = Annotated[list[Path] | None, typer.Option(help="Models generated from natives; may be repeated.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of CPU threads.")]


def decoys(
    corpus: Annotated[Path, typer.Argument(help="Corpus of protemb-train corpus, whose chains are natives.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Models to write (.npz).")],
    natives: Annotated[int, typer.Option(min=1, help="Number of chains, one per cluster.")] = 240,
    models: Annotated[int, typer.Option(min=1, help="Number of models of each.")] = 10,
    split: Annotated[str, typer.Option(help="Split of the corpus: train or val.")] = "train",
    kind: Annotated[
        list[str] | None, typer.Option(help="Kinds of errors (all but noisy and coils); may be repeated.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same models.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Generate models of natives with errors typical of prediction servers, and score them."""
    from protemb_train.downstream.quality.decoys import write_decoys
    from protemb_train.downstream.quality.generate import ORDINARY, Plan, generate, kinds_of

    check_output(out, ".npz", [corpus])
    plan = Plan(natives, models, split, seed, tuple(kind or ORDINARY))
    made = [d for of in generate(corpus, plan, workers) for d in of]
    write_decoys(made, out)
    summary = ", ".join(f"{kind} {n} ({gdt:.2f})" for kind, (n, gdt) in kinds_of(made).items())
    say(console, f"{out}: {len(made)} models, of each kind (mean GDT_TS): {summary}")


def casp(
    folder: Annotated[
        Path,
        typer.Argument(help="native/TARGET.pdb and decoys/TARGET/ or .tar.gz; or, with --native, models."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Models to write (.npz).")],
    native: Annotated[
        Path | None,
        typer.Option(help="Native of all models, if FOLDER (or tarball) contains those of one target."),
    ] = None,
    split: Annotated[str, typer.Option(help="train or test.")] = "train",
) -> None:
    """Score models against their natives: a CASP edition, or a folder or tarball of one target."""
    from protemb_train.downstream.quality.casp import read_casp, read_target
    from protemb_train.downstream.quality.decoys import DecoyError, write_decoys

    check_output(out, ".npz", [folder, native])
    if native is None:
        found, left_out = read_casp(folder, split)
    else:
        found, left_out = read_target(folder, native, native.stem, folder.name, split)
    if not found:
        raise DecoyError(f"no model could be compared with its native ({'; '.join(left_out[:3])})", folder)
    write_decoys(found, out)
    say(console, f"{out}: {len(found)} models of {len({d.target for d in found})} targets")
    for reason in left_out:
        say(console, f"excluded: {reason}")


def names(
    corpus: Annotated[Path, typer.Argument(help="Corpus of protemb-train corpus; its training chains.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File to write, for row.")],
    epochs: Annotated[int, typer.Option(min=1, help="Number of epochs of one chain per cluster.")] = 8,
    seed: Annotated[int, typer.Option(help="Seed of weights, chains and noise.")] = 0,
    hidden: Annotated[int, typer.Option(min=1, help="Width of the network.")] = 96,
    layers: Annotated[int, typer.Option(min=1, help="Number of message-passing layers.")] = 4,
    batch: Annotated[int, typer.Option(min=1, help="Chains per step.")] = 8,
    workers: Annotated[int, typer.Option(min=0, help="Number of processes that create batches.")] = 0,
    threads: Threads = None,
) -> None:
    """Train a network that predicts masked residue types of natives, without labels."""
    import torch

    from protemb_train.downstream.quality.naming import save_names, train_namer

    check_output(out, (".pt", ".ckpt"), [corpus])
    if threads:
        torch.set_num_threads(threads)
    namer, record = train_namer(
        corpus, epochs, seed, hidden=hidden, layers=layers, batch=batch, workers=workers
    )
    save_names(namer, record, out)
    last = next(entry for entry in reversed(record["curve"]) if "val" in entry)
    say(console, f"{out}: {last['val_accuracy']:.1%} of masked types correct, {last['val']:.3f} nats")


def zero_shot(
    real: Real,
    out: Annotated[Path, typer.Option("-o", "--out", help="Results to write (.json).")],
    made: Made = None,
    model: Annotated[str, typer.Option(help="Model with a score network.")] = "base",
    models: Annotated[int, typer.Option(min=2, help="Largest number of models per target.")] = 10,
    targets: Annotated[
        int, typer.Option(min=1, help="Largest number of real and of generated targets.")
    ] = 40,
    threads: Threads = None,
) -> None:
    """Score training targets with the score network at different noise levels."""
    from protemb_sdk import Embedder
    from protemb_train.downstream.quality.data import few_per_target, real_decoys, training_models
    from protemb_train.downstream.quality.decoys import read_decoys
    from protemb_train.experiments.zero_shot import correlations, scan

    check_output(out, ".json", [real, model, *(made or [])])
    fitted, _, _ = real_decoys(real)
    every = training_models(fitted, [d for path in made or [] for d in read_decoys(path)])
    chosen = [
        d
        for side in (False, True)
        for d in few_per_target([d for d in every if d.made == side], models, targets=targets)
    ]
    embedder = Embedder(model, "cpu", threads=threads)
    found = scan(embedder, chosen)
    sides = {"real": [not d.made for d in chosen], "made": [d.made for d in chosen]}
    summary = {
        side: correlations(
            [d for d, k in zip(chosen, keep, strict=True) if k], {s: v[keep] for s, v in found.items()}
        )
        for side, keep in sides.items()
        if any(keep)
    }
    mean = {s: sum(of[s][1] for of in summary.values()) / len(summary) for s in found}
    best = max(mean, key=lambda s: mean[s])
    page = {"model": model, "models": len(chosen), "sigma": best, "r, r_target, z": summary}
    write_text_whole(out, json.dumps(page, indent=1) + "\n")
    say(console, f"{out}: {best:g} angstrom is best, R_target {mean[best]:.3f}")


def refine(
    corpus: Annotated[Path, typer.Argument(help="Corpus of protemb-train corpus; test chains are natives.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write (.md).")],
    noise: Annotated[
        list[float] | None, typer.Option(help="Noise in angstrom (1, 2, 4 by default); may be repeated.")
    ] = None,
    model: Annotated[str, typer.Option(help="Model with a score network.")] = "base",
    chains: Annotated[int, typer.Option(min=1, help="Number of test chains, one per cluster.")] = 20,
    max_length: Annotated[int, typer.Option(min=50, help="Omit longer chains.")] = 150,
    threads: Threads = None,
) -> None:
    """Perturb natives, denoise them by annealed Langevin sampling, and compare RMSD before and after."""
    from protemb_sdk import ALPHABET, Embedder
    from protemb_train.corpus.corpus import Corpus
    from protemb_train.experiments.refine import Coords, as_table, refine_native

    check_output(out, ".md", [corpus, model])
    read = Corpus(corpus, ["test"])
    embedder = Embedder(model, "cpu", threads=threads)
    found = []
    for position in read.one_per_cluster(chains, (50, max_length)):
        trace = read[position]
        sequence = "".join(ALPHABET[t] for t in trace.residue_type)

        def score(
            x: Coords, sigma: float, rest: tuple[object, ...] = (sequence, trace.residue_index)
        ) -> Coords:
            return embedder.denoising_gradient((x, *rest), sigma=sigma).astype("float64")

        native = trace.ca_coords.astype("float64")
        found += [refine_native(native, level, score) for level in noise or [1.0, 2.0, 4.0]]
    write_text_whole(out, as_table(found))
    say(console, f"{out}: {chains} chains")
