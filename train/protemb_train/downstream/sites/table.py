"""The table of the sites task: scores of both protocols, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_train.downstream.common.embeddings import NoEncoder
from protemb_train.downstream.common.metrics import BinaryScores, best_f_threshold, binary_scores
from protemb_train.downstream.common.table import (
    Difference,
    Spread,
    difference_table,
    encoder_cell,
    markdown,
    plain_differences,
    readout_line,
)
from protemb_train.downstream.sites.bootstrap import drawn_scores
from protemb_train.downstream.sites.data import SitesError
from protemb_train.downstream.sites.rows import SavedSeed

SCORES = ("accuracy", "precision", "recall", "f1", "mcc", "auprc", "auroc")

# By split and name.
PUBLISHED: dict[str, dict[str, dict[str, str]]] = {
    # Guo et al. 2022, Table 2, all 70 chains: accuracy, precision, recall, F and MCC.
    "test": {
        name: dict(zip((f"paper {score}" for score in SCORES), cells.split(), strict=False))
        for name, cells in {
            "paper: no embeddings": ".589±.012 .270±.006 .623±.018 .377±.004 .163±.006",
            "paper: sequence embeddings (TAPE)": ".592±.036 .274±.009 .635±.058 .382±.003 .174±.005",
            "paper: BC-30 embeddings": ".614±.016 .280±.005 .604±.026 .382±.001 .177±.002",
            "paper: BC-100 embeddings": ".621±.029 .285±.010 .601±.052 .386±.003 .185±.004",
        }.items()
    },
    # Yuan et al. 2022 (doi:10.1093/bioinformatics/btab643); Zhou et al. 2023 (doi:10.1093/bib/bbad122).
    "Test_60": {
        "published: DeepPPISP": {"clean mcc": ".167", "auprc": ".276"},
        "published: MaSIF-site": {"clean mcc": ".326", "auprc": ".439"},
        "published: GraphPPIS": {"clean mcc": ".333", "auprc": ".429"},
        "published: AGAT-PPIS": {"clean mcc": ".484", "auprc": ".574"},
    },
}

PROTOCOLS = ("clean", "paper")
SHOWN = {
    "auprc": "AUPRC",
    "auroc": "AUROC",
    "clean f1": "F, clean",
    "clean mcc": "MCC, clean",
    "paper f1": "F, paper",
    "paper mcc": "MCC, paper",
}
"""Columns of the page; the JSON file has all scores."""


def scores_of(kept: SavedSeed, protocol: str) -> BinaryScores:
    """Return the scores of one seed on the test chains.

    Parameters
    ----------
    kept : SavedSeed
        Saved seed.
    protocol : {"paper", "clean"}
        "paper": the threshold with the best F on the test chains, as in the published code;
        "clean": the one with the best F on the validation chains.
    """
    label, probability = kept.test_label, kept.test_probability
    if protocol == "clean":
        threshold = best_f_threshold(kept.validation_label, kept.validation_probability)
    else:
        threshold = best_f_threshold(label, probability)
    return binary_scores(label, probability, threshold)


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Scores of one row, calculated once for all differences.

    Parameters
    ----------
    seeds : list of int
        Seeds in order.
    test_id : ndarray of str
        Test chains.
    clean : list of BinaryScores
        Scores of each seed, protocol "clean".
    drawn : dict of str to ndarray
        Result of `drawn_scores`.
    """

    seeds: list[int]
    test_id: NDArray[np.str_]
    clean: list[BinaryScores]
    drawn: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, row: Sequence[SavedSeed]) -> Compared:
        """Score the seeds of a row."""
        clean = [scores_of(kept, "clean") for kept in row]
        return cls([kept.record["seed"] for kept in row], row[0].test_id, clean, drawn_scores(row))


def paired(a: Compared, b: Compared, score: str) -> Difference | None:
    """Return the difference of two rows in AUPRC or MCC (clean), None if seeds or test chains differ.

    The interval over samples is a bootstrap over test chains of the mean over seeds.
    """
    if a.seeds != b.seeds or not np.array_equal(a.test_id, b.test_id):
        return None
    by_seed = np.array([getattr(x, score) - getattr(y, score) for x, y in zip(a.clean, b.clean, strict=True)])
    low, high = np.nanquantile(a.drawn[score] - b.drawn[score], [0.025, 0.975])
    return Difference.of(by_seed, (float(low), float(high)))


def as_table(rows: Mapping[str, Sequence[SavedSeed]], base: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Return the page of a results folder and the values it summarises.

    Parameters
    ----------
    rows : mapping of str to sequence of SavedSeed
        Saved seeds of each row.
    base : sequence of str
        Rows to subtract.

    Returns
    -------
    page : str
        Markdown.
    values : dict
        "scores": by protocol, row and score; "published"; "rows": encoder and data; "differences": by
        subtracted row, row and score, protocol "clean".

    Raises
    ------
    SitesError
        If a name in `base` is not a row.
    """
    for name in base:
        if name not in rows:
            raise SitesError(f"there is no row {name!r}; available are {', '.join(rows)}")
    scores = {
        protocol: {name: _spreads(seeds, protocol) for name, seeds in rows.items()} for protocol in PROTOCOLS
    }
    differences = _differences(rows, base)
    parts = [_scores_part(rows, scores)]
    if base:
        parts.append(_differences_part(rows, differences))
    parts.append(_rows_part(rows))
    values = {
        "scores": {
            protocol: {name: {key: s.as_dict() for key, s in of.items()} for name, of in every.items()}
            for protocol, every in scores.items()
        },
        "published": _published(rows),
        "rows": {name: _about(seeds) for name, seeds in rows.items()},
        "differences": plain_differences(differences),
    }
    return "\n\n".join(parts) + "\n", values


def _spreads(seeds: Sequence[SavedSeed], protocol: str) -> dict[str, Spread]:
    found = [scores_of(kept, protocol).as_dict() for kept in seeds]
    return {name: Spread.of([scores[name] for scores in found]) for name in found[0] if name in SCORES}


def _published(rows: Mapping[str, Sequence[SavedSeed]]) -> dict[str, dict[str, str]]:
    """Return the published values of the split, which are listed beside a row without an embedding."""
    split = set(next(iter(rows.values()))[0].test_split)
    bare = any(seeds[0].record["encoder"] == NoEncoder.about for seeds in rows.values())
    return PUBLISHED.get(str(next(iter(split))), {}) if bare and len(split) == 1 else {}


def _scores_part(
    rows: Mapping[str, Sequence[SavedSeed]], scores: Mapping[str, Mapping[str, Mapping[str, Spread]]]
) -> str:
    def cell(name: str, key: str) -> Spread:
        protocol, _, score = key.rpartition(" ")
        return scores[protocol or "clean"][name][score]

    lines: list[list[object]] = [[name, *(cell(name, key) for key in SHOWN)] for name in rows]
    lines += [[name, *(cells.get(key, "") for key in SHOWN)] for name, cells in _published(rows).items()]
    return (
        "## Scores\n\nMean±standard deviation over seeds. F and MCC: threshold with the best F on validation "
        "chains (*clean*), or on test chains as in the paper (*paper*, optimistic). More scores: JSON file "
        "of this name.\n\n" + markdown(["row", *SHOWN.values()], lines)
    )


def _differences(
    rows: Mapping[str, Sequence[SavedSeed]], base: Sequence[str]
) -> dict[str, dict[str, dict[str, Difference]]]:
    compared = {name: Compared.of(row) for name, row in rows.items()} if base else {}
    found: dict[str, dict[str, dict[str, Difference]]] = {}
    for other in base:
        found[other] = {}
        for name, row in compared.items():
            both = {score: paired(row, compared[other], score) for score in ("auprc", "mcc")}
            if name != other and all(both.values()):
                found[other][name] = {score: d for score, d in both.items() if d is not None}
    return found


def _differences_part(
    names: Iterable[str], differences: Mapping[str, Mapping[str, Mapping[str, Difference]]]
) -> str:
    return (
        "## Differences in AUPRC\n\nPaired by seed, with 95% intervals over test chains (bootstrap). The "
        "JSON file also has intervals over seeds, and the differences in MCC (clean).\n\n"
        + difference_table(names, differences, "auprc")
    )


def _about(seeds: Sequence[SavedSeed]) -> dict[str, Any]:
    record = seeds[0].record
    return {key: record[key] for key in ("encoder", "features", "chains")} | {
        "epochs": [len(kept.record["curve"]) for kept in seeds]
    }


def _rows_part(rows: Mapping[str, Sequence[SavedSeed]]) -> str:
    lines = []
    for name, seeds in rows.items():
        about = _about(seeds)
        limits = dict.fromkeys((min(about["epochs"]), max(about["epochs"])))
        chains = "/".join(str(n) for n in about["chains"])
        features = "yes" if about["features"] else "no"
        epochs = " to ".join(str(n) for n in limits)
        lines.append([name, encoder_cell(about["encoder"]), features, chains, len(seeds), epochs])
    prevalence = next(iter(rows.values()))[0].test_label.mean()
    readouts = readout_line({name: seeds[0].record["encoder"] for name, seeds in rows.items()})
    return (
        f"## Rows\n\n{prevalence:.1%} of the test residues are sites. Chains: training, validation, "
        f"test. {readouts}".rstrip()
        + "\n\n"
        + markdown(["row", "encoder", "PSSM, DSSP", "chains", "seeds", "epochs"], lines)
    )
