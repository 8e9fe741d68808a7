"""The quality table: the only reader of the test models.

It loads the networks of the rows, lets them predict, and scores them beside published energies of the same
models, the score network alone, and what was published on CASP13, which is another test set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from protemb_train.downstream.quality.decoys import Decoy, DecoyError
from protemb_train.downstream.quality.learnt import Learnt
from protemb_train.downstream.quality.scorer import together
from protemb_train.downstream.quality.scores import decoy_scores
from protemb_train.downstream.quality.training import Predicted, judged

COLUMNS = {
    "gdt_ts_rmse": "RMSE",
    "gdt_ts_r": "R",
    "gdt_ts_r_target": "R_target",
    "gdt_ts_z": "z",
    "gdt_ts_frl5": "FRL5",
    "residue_cad_rho": "CAD rho",
    "residue_cad_rho_decoy": "CAD rho_decoy",
    "residue_lddt_rho": "lDDT rho",
    "residue_lddt_rho_decoy": "lDDT rho_decoy",
    "gdt_ts_mean": "mean GDT_TS said",
}
CASP13 = {
    "paper, no embeddings": ".201 | .793 | .751 | 1.026 | .045 | .637 | .390 | .774 | .510",
    "paper, sequence embeddings (TAPE)": ".158 | .799 | .772 | 1.101 | .037 | .624 | .387 | .754 | .502",
    "paper, BC-30 embeddings": ".149 | .818 | .775 | 1.272 | .035 | .649 | .415 | .782 | .530",
    "paper, BC-100 embeddings": ".133 | .848 | .787 | 1.345 | .031 | .667 | .424 | .800 | .534",
    "GraphQA's own repository": ".130 | .855 | .779 | 1.274 | .030 | | | .797 | .527",
}
"""Published on CASP13 (72 targets), Guo et al. 2022 and Baldassarre et al. 2021."""
ENERGIES = {
    "voromqa_score": ("VoroMQA, all atoms", 1.0),
    "goap_energy": ("GOAP, all atoms", -1.0),
    "dfire_energy": ("DFIRE, all atoms", -1.0),
    "rw_plus_energy": ("RW+, all atoms", -1.0),
    "icosa_energy": ("ICOSA", -1.0),
}
COMPARED = ("gdt_ts_r_target", "gdt_ts_z", "residue_lddt_rho_decoy")
DRAWS = 1000


def read_energies(path: Path, decoys: Sequence[Decoy]) -> dict[str, NDArray[np.float64]]:
    """Return published scores of models, higher for better, NaN where there is none.

    Raises
    ------
    DecoyError
        If the table cannot be read, or knows none of the models.
    """
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        head, rows = lines[0], {line[0]: line for line in lines[1:]}
        where = {name: head.index(name) for name in ENERGIES}
    except (OSError, ValueError, IndexError) as error:
        raise DecoyError(f"not a table of energies (a line a model, tabs between) ({error})", path) from error
    keys = [PurePosixPath(d.id).stem for d in decoys]
    if not any(key in rows for key in keys):
        raise DecoyError(f"knows none of the {len(decoys)} models", path)
    return {
        label: np.array([sign * float(rows[k][where[name]]) if k in rows else np.nan for k in keys])
        for name, (label, sign) in ENERGIES.items()
    }


@dataclass(frozen=True, slots=True)
class Gain:
    """Mean of a row minus another's, with 95% intervals over seeds and over targets."""

    mean: float
    seeds: tuple[float, float]
    targets: tuple[float, float]

    def __str__(self) -> str:
        seeds, targets = (f"{low:+.3f} to {high:+.3f}" for low, high in (self.seeds, self.targets))
        return f"{self.mean:+.3f} ({seeds}; {targets})"


def by_target(decoys: Sequence[Decoy], said: Predicted) -> dict[str, NDArray[np.float64]]:
    """Return R, z and rho_decoy of each target by itself, in the order of their names."""
    target = np.array([d.target for d in decoys])
    found: dict[str, list[float]] = {name: [] for name in COMPARED}
    for name in np.unique(target):
        of = np.flatnonzero(target == name).tolist()
        scores = judged([decoys[n] for n in of], said.of(of))
        for key in COMPARED:
            found[key].append(scores[key])
    return {key: np.array(values) for key, values in found.items()}


def gains(
    a: Sequence[Mapping[str, NDArray[np.float64]]], b: Sequence[Mapping[str, NDArray[np.float64]]]
) -> dict[str, Gain]:
    """Return differences of two rows from scores of targets, seed by seed (a sequence of them).

    Over seeds: Student's t on differences of like seeds. Over targets: bootstrap, the mean over seeds.
    """
    found = {}
    for key in COMPARED:
        difference = np.stack([x[key] for x in a]) - np.stack([y[key] for y in b])
        by_seed, targets = np.nanmean(difference, axis=1), np.nanmean(difference, axis=0)
        mean, half = float(by_seed.mean()), float("nan")
        if len(by_seed) > 1:
            half = float(stats.t.ppf(0.975, len(by_seed) - 1) * stats.sem(by_seed))
        drawn = np.random.default_rng(0).integers(0, len(targets), (DRAWS, len(targets)))
        low, high = np.nanquantile(np.nanmean(targets[drawn], axis=1), [0.025, 0.975])
        found[key] = Gain(mean, (mean - half, mean + half), (float(low), float(high)))
    return found


def as_table(
    decoys: Sequence[Decoy],
    rows: Mapping[str, Sequence[Learnt]],
    said: Mapping[str, Sequence[Predicted]],
    others: Mapping[str, NDArray[np.float64]],
    against: Sequence[str],
) -> tuple[str, dict[str, dict[str, float]]]:
    """Return the page, and the mean scores of every row, of all its seeds together too.

    Parameters
    ----------
    decoys : sequence of Decoy
        Test models.
    rows, said : mapping
        Networks and what they say.
    others : mapping of str to ndarray
        Scores of models that nobody here has trained, on scales of their own: they are only ranked.
    against : sequence of str
        Rows to subtract.

    Raises
    ------
    DecoyError
        If there is no row of a name in `against`.
    """
    if unknown := [name for name in against if name not in said]:
        raise DecoyError(f"there is no row {unknown[0]!r}; there are {', '.join(said)}")
    targets = len({d.target for d in decoys})
    head = f"| row | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}"
    found = {name: [judged(decoys, s) for s in seeds] for name, seeds in said.items()}
    for name, seeds in said.items():
        if len(seeds) > 1 and rows[name][0].record["network"] != "graphqa":
            found[f"{name}, together"] = [judged(decoys, together(seeds))]
    lines = [f"| {name} | {_cells(scores)} |" for name, scores in found.items()]
    lines += [f"| {name} | {_ranked(decoys, scores)} |" for name, scores in others.items()]
    published = [f"| {name} | {cells} | |" for name, cells in CASP13.items()]
    parts = [
        f"## CASP12: {len(decoys)} models of {targets} targets\n\nGDT_TS (RMSE to FRL5), then residues; mean "
        f"true GDT_TS {np.mean([d.gdt_ts for d in decoys]):.3f}. "
        "Mean and standard deviation over seeds; energies are only ranked. The command that wrote this page "
        "is the only one that reads these models.\n\n" + "\n".join([head, *lines]),
        "## Published on CASP13: another, easier test set\n\n" + "\n".join([head, *published]),
    ]
    if against:
        parts.append(_differences(decoys, said, against))
    parts.append(_what(rows))
    means = {
        name: {
            key: round(float(np.mean([of[key] for of in scores])), 4) for key in COLUMNS if key in scores[0]
        }
        for name, scores in found.items()
    }
    return "\n\n".join(parts) + "\n", means


def curves_of(rows: Mapping[str, Sequence[Learnt]]) -> dict[str, list[list[dict[str, float]]]]:
    """Return the training curves of every seed of every row: loss, and some scores of watched models."""
    kept = ("loss", *COMPARED, "gdt_ts_rmse")
    return {
        name: [
            [{key: round(of[key], 4) for key in kept if key in of} for of in learnt.record["curve"]]
            for learnt in seeds
        ]
        for name, seeds in rows.items()
    }


def _cells(scores: Sequence[Mapping[str, float]]) -> str:
    values = {name: [of.get(name, float("nan")) for of in scores] for name in COLUMNS}
    return " | ".join(
        f"{np.mean(v):.3f} +- {np.std(v, ddof=1) if len(v) > 1 else 0:.3f}".replace("0.", ".")
        for v in values.values()
    )


def _ranked(decoys: Sequence[Decoy], scores: NDArray[np.float64]) -> str:
    known = np.flatnonzero(np.isfinite(scores))
    true, target = np.array([d.gdt_ts for d in decoys]), np.array([d.target for d in decoys])
    found = decoy_scores(true[known], scores[known], target[known])
    cells = ["", "", found.r_target, found.z, found.frl5, "", "", "", "", ""]
    return " | ".join(c if isinstance(c, str) else f"{c:.3f}".replace("0.", ".") for c in cells)


def _differences(
    decoys: Sequence[Decoy], said: Mapping[str, Sequence[Predicted]], against: Sequence[str]
) -> str:
    told = [COLUMNS[key] for key in COMPARED]
    found = {name: [by_target(decoys, s) for s in seeds] for name, seeds in said.items()}
    parts = []
    for other in against:
        lines = [f"| row - {other} | {' | '.join(told)} |", "|---|" + "---|" * len(told)]
        for name, seeds in found.items():
            if name != other and len(seeds) == len(found[other]):
                gain = gains(seeds, found[other])
                lines.append(f"| {name} | {' | '.join(str(gain[key]) for key in COMPARED)} |")
        parts.append("\n".join(lines))
    return (
        "## Differences\n\nPaired by seed; in brackets 95% intervals, over seeds (Student's t) and over "
        "targets (bootstrap). rho_decoy is here the mean of the targets' means.\n\n" + "\n\n".join(parts)
    )


def _mean_of(kind: str, validation: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    found = [of[kind]["gdt_ts_r_target"] for of in validation if kind in of]
    return f"{np.mean(found):.3f}" if found else ""


def _what(rows: Mapping[str, Sequence[Learnt]]) -> str:
    lines = [
        "| row | network | encoder | names | models (targets) learnt | watched | epochs | seeds "
        "| R_target watched, made models | real |",
        "|---|" + "---|" * 9,
    ]
    for name, seeds in rows.items():
        r: dict[str, Any] = seeds[0].record
        encoder = ", ".join(f"{k} {v}" for k, v in r["encoder"].items() if k != "weights_sha256" and v)
        namer = getattr(seeds[0].network, "namer", None)
        names = "" if namer is None else f"{len(namer.layers)} layers of {namer.input.out_features}"
        sizes = [f"{m} ({t})" for m, t in zip(r["models"], r["targets"], strict=True)]
        validation = [s.record["validation"] for s in seeds]
        watched = [_mean_of(kind, validation) for kind in ("made", "real")]
        epochs = str(r["recipe"]["epochs"])
        cells = [name, r["network"], encoder, names, *sizes, epochs, str(len(seeds)), *watched]
        lines.append(f"| {' | '.join(cells)} |")
    return "## What the rows are\n\n" + "\n".join(lines)
