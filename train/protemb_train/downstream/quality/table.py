"""The table of the quality task. Only this module reads the test models.

It scores the predictions of all rows, published energies of the same models, and the denoising network alone.
Published results on CASP13, another test set, are listed below them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_train.downstream.common.table import (
    Difference,
    Spread,
    difference_table,
    encoder_cell,
    markdown,
    plain_differences,
    readout_line,
)
from protemb_train.downstream.quality.decoys import Decoy, DecoyError
from protemb_train.downstream.quality.scorer import combined
from protemb_train.downstream.quality.scores import decoy_scores
from protemb_train.downstream.quality.trained import TrainedNetwork
from protemb_train.downstream.quality.training import Predicted, all_scores

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
    "gdt_ts_mean": "mean predicted GDT_TS",
}
SHOWN = ("gdt_ts_rmse", "gdt_ts_r", "gdt_ts_r_target", "gdt_ts_z", "gdt_ts_frl5", "residue_lddt_rho_decoy")
"""Columns of the page; the JSON file has all scores."""
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
    """Return published scores of models, higher for better, NaN where missing.

    Raises
    ------
    DecoyError
        If the table cannot be read, or contains none of the models.
    """
    try:
        lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        head, rows = lines[0], {line[0]: line for line in lines[1:]}
        where = {name: head.index(name) for name in ENERGIES}
    except (OSError, ValueError, IndexError) as error:
        raise DecoyError(
            f"is not a tab-separated table of energies with one model per line ({error})",
            path,
        ) from error
    keys = [PurePosixPath(d.id).stem for d in decoys]
    if not any(key in rows for key in keys):
        raise DecoyError(f"contains none of the {len(decoys)} models", path)
    return {
        label: np.array([sign * float(rows[k][where[name]]) if k in rows else np.nan for k in keys])
        for name, (label, sign) in ENERGIES.items()
    }


def by_target(decoys: Sequence[Decoy], predicted: Predicted) -> dict[str, NDArray[np.float64]]:
    """Return R, z and rho_decoy of each target, in the order of their names."""
    target = np.array([d.target for d in decoys])
    found: dict[str, list[float]] = {name: [] for name in COMPARED}
    for name in np.unique(target):
        of = np.flatnonzero(target == name).tolist()
        scores = all_scores([decoys[n] for n in of], predicted.of(of))
        for key in COMPARED:
            found[key].append(scores[key])
    return {key: np.array(values) for key, values in found.items()}


def gains(
    a: Sequence[Mapping[str, NDArray[np.float64]]], b: Sequence[Mapping[str, NDArray[np.float64]]]
) -> dict[str, Difference]:
    """Return differences of two rows in the scores of `by_target`, given as one mapping per seed.

    The interval over samples is a bootstrap over targets of the mean over seeds.
    """
    found = {}
    for key in COMPARED:
        difference = np.stack([x[key] for x in a]) - np.stack([y[key] for y in b])
        by_seed, targets = np.nanmean(difference, axis=1), np.nanmean(difference, axis=0)
        drawn = np.random.default_rng(0).integers(0, len(targets), (DRAWS, len(targets)))
        low, high = np.nanquantile(np.nanmean(targets[drawn], axis=1), [0.025, 0.975])
        found[key] = Difference.of(by_seed, (float(low), float(high)))
    return found


def as_table(
    decoys: Sequence[Decoy],
    rows: Mapping[str, Sequence[TrainedNetwork]],
    predicted: Mapping[str, Sequence[Predicted]],
    others: Mapping[str, NDArray[np.float64]],
    against: Sequence[str],
    means: Sequence[Sequence[str]] = (),
) -> tuple[str, dict[str, Any]]:
    """Return the page and the values it summarises.

    Parameters
    ----------
    decoys : sequence of Decoy
        Test models.
    rows, predicted : mapping
        Networks and their predictions, per seed.
    others : mapping of str to ndarray
        Scores of other methods. Their scales differ from that of GDT_TS, so only rankings are compared.
    against : sequence of str
        Rows to subtract.
    means : sequence of sequence of str
        Rows whose mean is a line, too, as in a scorer of several rows.

    Returns
    -------
    page : str
        Markdown.
    values : dict
        "scores": all `COLUMNS` of each row, and of the mean of its seeds (", together"); "ranked": other
        methods; "differences": for each row of `against`.

    Raises
    ------
    DecoyError
        If a name in `against` or `means` is not a row.
    """
    if unknown := [name for name in [*against, *chain(*means)] if name not in predicted]:
        raise DecoyError(f"there is no row {unknown[0]!r}; available are {', '.join(predicted)}")
    found = {name: [all_scores(decoys, s) for s in seeds] for name, seeds in predicted.items()}
    for name in predicted:
        if rows[name][0].record["network"] != "graphqa":
            found[combination([name])] = [all_scores(decoys, combined(predicted, [name]))]
    joint = {combination(names): combined(predicted, names) for names in means}
    found |= {name: [all_scores(decoys, mean)] for name, mean in joint.items()}
    scores = {
        name: {key: Spread.of([of.get(key, float("nan")) for of in seeds]) for key in COLUMNS}
        for name, seeds in found.items()
    }
    ranked = {name: _ranked(decoys, values) for name, values in others.items()}
    differences = _differences(decoys, predicted, against, joint)
    page = [_scores_part(decoys, scores, ranked), _published_part()]
    if against:
        page.append(_differences_part([*rows, *joint], differences))
    page.append(_rows_part(rows))
    values = {
        "scores": {name: {key: s.as_dict() for key, s in of.items()} for name, of in scores.items()},
        "ranked": {name: {key: round(v, 4) for key, v in of.items()} for name, of in ranked.items()},
        "differences": plain_differences(differences),
    }
    return "\n\n".join(page) + "\n", values


def combination(names: Sequence[str]) -> str:
    """Return the name of the mean of rows in the table."""
    return f"{' + '.join(names)}, together"


def curves_of(rows: Mapping[str, Sequence[TrainedNetwork]]) -> dict[str, list[list[dict[str, float]]]]:
    """Return the training curves of every seed of every row: loss and validation scores."""
    kept = ("loss", *COMPARED, "gdt_ts_rmse")
    return {
        name: [
            [{key: round(of[key], 4) for key in kept if key in of} for of in seed.record["curve"]]
            for seed in seeds
        ]
        for name, seeds in rows.items()
    }


def _short(value: float) -> str:
    return f"{value:.3f}".replace("0.", ".")


def _scores_part(
    decoys: Sequence[Decoy],
    scores: Mapping[str, Mapping[str, Spread]],
    ranked: Mapping[str, Mapping[str, float]],
) -> str:
    lines = [[name, *(of[key] for key in SHOWN)] for name, of in scores.items()]
    lines += [[name, *(_short(of[key]) if key in of else "" for key in SHOWN)] for name, of in ranked.items()]
    head = markdown(["row", *(COLUMNS[key] for key in SHOWN)], lines)
    return (
        f"## CASP12: {len(decoys)} models of {len({d.target for d in decoys})} targets\n\n"
        "RMSE to FRL5 are for GDT_TS, the last column is for residues. Mean±standard deviation over seeds; "
        '"together" is the mean prediction of all seeds, with residues averaged with their neighbours in the '
        "chain. Energies are only ranked. Mean true GDT_TS: "
        f"{np.mean([d.gdt_ts for d in decoys]):.3f}. More scores are in the JSON file of this name.\n\n{head}"
    )


def _published_part() -> str:
    columns = list(COLUMNS)
    lines = []
    for name, cells in CASP13.items():
        values = [cell.strip() for cell in cells.split("|")]
        lines.append([name, *(values[columns.index(key)] for key in SHOWN)])
    head = markdown(["row", *(COLUMNS[key] for key in SHOWN)], lines)
    return f"## Published on CASP13: another, easier test set\n\n{head}"


def _ranked(decoys: Sequence[Decoy], scores: NDArray[np.float64]) -> dict[str, float]:
    known = np.flatnonzero(np.isfinite(scores))
    true, target = np.array([d.gdt_ts for d in decoys]), np.array([d.target for d in decoys])
    found = decoy_scores(true[known], scores[known], target[known])
    return {"gdt_ts_r_target": found.r_target, "gdt_ts_z": found.z, "gdt_ts_frl5": found.frl5}


def _differences(
    decoys: Sequence[Decoy],
    predicted: Mapping[str, Sequence[Predicted]],
    against: Sequence[str],
    joint: Mapping[str, Predicted],
) -> dict[str, dict[str, dict[str, Difference]]]:
    """Return differences by seed, of as many as both rows have; those of `joint` to the mean of seeds."""
    if not against:
        return {}
    found = {name: [by_target(decoys, s) for s in seeds] for name, seeds in predicted.items()}
    result: dict[str, dict[str, dict[str, Difference]]] = {}
    for other in against:
        result[other] = {}
        for name, seeds in found.items():
            if name != other:
                count = min(len(seeds), len(found[other]))
                result[other][name] = gains(seeds[:count], found[other][:count])
        base = [by_target(decoys, combined(predicted, [other]))]
        for name, one in joint.items():
            result[other][name] = gains([by_target(decoys, one)], base)
    return result


def _differences_part(
    names: Sequence[str], differences: Mapping[str, Mapping[str, Mapping[str, Difference]]]
) -> str:
    parts = [
        "## Differences",
        'Paired by seed ("together": of the mean predictions), with 95% intervals over targets (bootstrap). '
        "The JSON file also has intervals over seeds, and the differences in "
        f"{COLUMNS[COMPARED[1]]} (means of the targets' means).",
    ]
    for key in (COMPARED[0], COMPARED[2]):
        parts += [f"In {COLUMNS[key]}:", difference_table(names, differences, key)]
    return "\n\n".join(parts)


def _mean_of(kind: str, validation: Sequence[Mapping[str, Mapping[str, float]]]) -> str:
    found = [of[kind]["gdt_ts_r_target"] for of in validation if kind in of]
    return _short(float(np.mean(found))) if found else ""


def _rows_part(rows: Mapping[str, Sequence[TrainedNetwork]]) -> str:
    lines = []
    for name, seeds in rows.items():
        r: dict[str, Any] = seeds[0].record
        namer = getattr(seeds[0].network, "namer", None)
        names = "" if namer is None else f"{len(namer.layers)} of {namer.input.out_features}"
        sizes = [f"{m} ({t})" for m, t in zip(r["models"], r["targets"], strict=True)]
        validation = [s.record["validation"] for s in seeds]
        of_kind = [_mean_of(kind, validation) for kind in ("made", "real")]
        cells = [name, r["network"], encoder_cell(r["encoder"]), names, *sizes, r["recipe"]["epochs"]]
        lines.append([*cells, len(seeds), *of_kind])
    head = [
        "row", "network", "encoder", "type layers", "training", "validation", "epochs", "seeds",
        "R_target, generated", "R_target, real",
    ]  # fmt: skip
    readouts = readout_line({name: seeds[0].record["encoder"] for name, seeds in rows.items()})
    return (
        "## Rows\n\nModels (targets) of training and validation; layers of the network that predicts residue "
        "types; R_target on validation models, generated and real. "
        f"{readouts}".rstrip()
        + "\n\n"
        + markdown(head, lines)
    )
