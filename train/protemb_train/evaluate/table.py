"""Comparison of evaluations of several networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from protemb_train.evaluate import pretraining, quality, sites
from protemb_train.evaluate.measures import Measure
from protemb_train.evaluate.run import EvaluationError
from protemb_train.pretrain.judge import STATE_CHAINS

OF_NETWORK = {
    "denoising": "denoising loss / zero predictor",
    "type_accuracy": "residue types, accuracy",
    "type_nats": "residue types, nats",
}
OF_CONTENT = {
    "contact_sites": "contact sites of cut chains, AP",
    "sites, graph": "sites, our head, AUPRC",
    "sites, deepppisp": "sites, DeepPPISP, AUPRC",
    "sites, linear": "sites, ridge regression, AUPRC",
    "lddt_rho": "lDDT, rank correlation in a model",
    "gdt_ts_r": "GDT_TS, R",
}
OF_PROTEIN = {
    "mean_tm": "mean TM-score of ten hits",
    "first_tm": "TM-score of the first hit",
    "first_fold": "first hits with TM-score > .5, of those possible",
}


def as_table(found: Sequence[Mapping[str, Any]], against: str | None = None) -> str:
    """Return the Markdown page of several evaluations.

    Parameters
    ----------
    found : sequence of mapping
        Results of `read_evaluation` with different names.
    against : str, optional
        Name of the network whose values are subtracted in a second table, with paired intervals.

    Raises
    ------
    EvaluationError
        If two evaluations have the same name or different corpora, or none has the name `against`.
    """
    names = [f["name"] for f in found]
    if len(set(names)) < len(names):
        raise EvaluationError("two evaluations have the same name; set different names with --name")
    if len({f["settings"]["corpus_sha256"] for f in found}) > 1:
        raise EvaluationError("the evaluations are of different corpora; use one corpus for all")
    if against is not None and against not in names:
        raise EvaluationError(f"there is no evaluation {against!r}; available are {', '.join(names)}")
    lines = ["# Frozen networks, without test labels", "", *_about(found), ""]
    lines += ["Values with 95% intervals over chains, targets or queries.", "", *_tables(found, None)]
    if against is not None:
        base = found[names.index(against)]
        others = [f for f in found if f is not base]
        lines += ["", f"## Minus {against}", "", "Paired: the same bootstrap samples of chains for both."]
        lines += ["A residue vector that it lacks is compared with its first one.", ""]
        lines += _tables(others, base)
    return "\n".join(lines) + "\n"


def _tables(found: Sequence[Mapping[str, Any]], base: Mapping[str, Any] | None) -> list[str]:
    lines = _head(["network", "steps", *OF_NETWORK.values()])
    for f in found:
        cells = [_cell(f, key, base, key) for key in OF_NETWORK]
        lines.append(_line([f["name"], _steps(f), *cells]))
    lines += ["", *_head(["network", "residue vector", *OF_CONTENT.values()])]
    for f in found:
        for content in _contents(f):
            first = None if base is None else _alike_content(base, content)
            cells = [
                _cell(f, f"{key}, {content}", base, f"{key}, {first}" if first else "") for key in OF_CONTENT
            ]
            lines.append(_line([f["name"], content, *cells]))
    if any(key.startswith("mean_tm") for f in found for key in f["measures"]):
        lines += ["", *_head(["network", "width", *OF_PROTEIN.values()])]
        for f in found:
            for width in sorted(
                {int(k.rpartition(", ")[2]) for k in f["measures"] if k.startswith("mean_tm")}
            ):
                cells = [_cell(f, f"{key}, {width}", base, f"{key}, {width}") for key in OF_PROTEIN]
                lines.append(_line([f["name"], str(width), *cells]))
    return lines


def _alike_content(base: Mapping[str, Any], content: str) -> str | None:
    """Return the same content of the other network, or else its first."""
    there = _contents(base)
    return content if content in there else there[0] if there else None


def _contents(f: Mapping[str, Any]) -> list[str]:
    found = [key.partition(", ")[2] for key in f["measures"] if key.startswith("contact_sites, ")]
    return list(dict.fromkeys(found))


def _cell(f: Mapping[str, Any], key: str, base: Mapping[str, Any] | None, other: str) -> str:
    if key not in f["measures"]:
        return ""
    measure = Measure.from_dict(f["measures"][key])
    if base is not None:
        if other not in base["measures"]:
            return ""
        measure = measure.minus(Measure.from_dict(base["measures"][other]))
    low, high = measure.interval
    sign = "+" if base is not None else ""
    return f"{measure.value:{sign}.3f} ({low:{sign}.3f} to {high:{sign}.3f})"


def _steps(f: Mapping[str, Any]) -> str:
    steps = f["settings"]["encoder"].get("training_steps")
    return "" if steps is None else str(steps)


def _head(columns: Sequence[str]) -> list[str]:
    return [_line(columns), "|" + "---|" * len(columns)]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _about(found: Sequence[Mapping[str, Any]]) -> list[str]:
    settings = found[0]["settings"]
    models = next((f["models"] for f in found if "models" in f), [0, 0])
    site_chains = next((f["site_chains"] for f in found if "site_chains" in f), 0)
    limit = settings["fitted"]
    fitted = "" if limit is None else f", at most {limit} with a pair and as many with a relative"
    low, high = pretraining.LENGTHS
    return [
        f"- *Denoising*: {pretraining.DENOISED} whole validation chains of {low} to {high} residues, "
        f"every fourth noise level. *Residue types*: predicted from structure alone, {STATE_CHAINS} "
        "validation chains.",
        f"- *Contact sites*: a linear predictor, fitted on {pretraining.PIECES} pieces of training chains "
        f"that were cut in two, evaluated on {STATE_CHAINS} pieces of validation chains.",
        f"- *Sites*: the {site_chains} DeepPPISP training chains with coordinates, "
        f"{sites.FOLDS}-fold cross-validation by family, {settings['seeds']} seeds. Our graph head without "
        "PSSM; DeepPPISP's network with PSSM and DSSP. Pre-training may have seen these chains, without "
        "labels.",
        f"- *Quality*: {models[0]} real models of {models[1]} targets, none of CASP12, at most "
        f"{quality.LONGEST} residues and {quality.MOST} models of a target; {quality.FOLDS}-fold "
        "cross-validation by family of targets; a perceptron of single residue vectors predicts lDDT.",
        f"- *Folds*: {settings['queries']} validation chains are searched among {settings['chains']} "
        "validation and test chains of the corpus, one per 30% cluster; the reference is "
        "the TM-score of TM-align, normalised by the length of the query. The linear map is fitted for each "
        "network separately, on training chains"
        f'{fitted}. "Possible" refers to the hits of all networks evaluated before.',
        "- ProteinMPNN was trained on the PDB up to August 2021, which includes many of these chains.",
    ]
