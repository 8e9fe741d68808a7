"""The table of rows: both protocols, mean and deviation over seeds, and paired differences with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from protemb_train.downstream.common.metrics import BinaryScores, best_f_threshold, binary_scores
from protemb_train.downstream.sites.bootstrap import drawn_scores
from protemb_train.downstream.sites.data import SitesError
from protemb_train.downstream.sites.rows import Kept

# By split and protocol: name, and the cells of COLUMNS.
PUBLISHED: dict[tuple[str, str], dict[str, str]] = {
    # Guo et al. 2022, Table 2, all 70 chains.
    ("test", "paper"): {
        "paper: no embeddings": (
            ".589 +- .012 | .270 +- .006 | .623 +- .018 | .377 +- .004 | .163 +- .006 | |"
        ),
        "paper: sequence embeddings (TAPE)": (
            ".592 +- .036 | .274 +- .009 | .635 +- .058 | .382 +- .003 | .174 +- .005 | |"
        ),
        "paper: BC-30 embeddings": (
            ".614 +- .016 | .280 +- .005 | .604 +- .026 | .382 +- .001 | .177 +- .002 | |"
        ),
        "paper: BC-100 embeddings": (
            ".621 +- .029 | .285 +- .010 | .601 +- .052 | .386 +- .003 | .185 +- .004 | |"
        ),
    },
    # Yuan et al. 2022 (doi:10.1093/bioinformatics/btab643); Zhou et al. 2023 (doi:10.1093/bib/bbad122).
    ("Test_60", "clean"): {
        "published: DeepPPISP": "| | | | .167 | .276 |",
        "published: MaSIF-site": "| | | | .326 | .439 |",
        "published: GraphPPIS": "| | | | .333 | .429 |",
        "published: AGAT-PPIS": "| | | | .484 | .574 |",
    },
}

COLUMNS = {
    "accuracy": "ACC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F",
    "mcc": "MCC",
    "auprc": "AUPRC",
    "auroc": "AUROC",
}


def scores_of(kept: Kept, protocol: str) -> BinaryScores:
    """Return the scores of one seed on the test chains.

    Parameters
    ----------
    kept : Kept
        A run.
    protocol : {"paper", "clean"}
        "paper": the threshold with the best F on the test chains themselves, as the published code has it;
        "clean": the one with the best F on the validation chains.
    """
    label, probability = kept.test_label, kept.test_probability
    if protocol == "clean":
        threshold = best_f_threshold(kept.validation_label, kept.validation_probability)
    else:
        threshold = best_f_threshold(label, probability)
    return binary_scores(label, probability, threshold)


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of a row minus another's, by seed, with two 95% intervals: over seeds and over test chains."""

    mean: float
    seeds: tuple[float, float]
    chains: tuple[float, float]

    def __str__(self) -> str:
        seeds, chains = (f"{low:+.3f} to {high:+.3f}" for low, high in (self.seeds, self.chains))
        return f"{self.mean:+.3f} ({seeds}; {chains})"


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """What differences of a row are taken from, computed once.

    Parameters
    ----------
    seeds : list of int
        In order.
    test_id : ndarray of str
        Test chains.
    clean : list of BinaryScores
        Of each seed, protocol "clean".
    drawn : dict of str to ndarray
        From `drawn_scores`.
    """

    seeds: list[int]
    test_id: NDArray[np.str_]
    clean: list[BinaryScores]
    drawn: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, row: Sequence[Kept]) -> Compared:
        """Score the seeds of a row."""
        clean = [scores_of(kept, "clean") for kept in row]
        return cls([kept.record["seed"] for kept in row], row[0].test_id, clean, drawn_scores(row))


def paired(a: Compared, b: Compared, score: str) -> Difference | None:
    """Return the difference of two rows in AUPRC or MCC (clean), None if seeds or test chains differ.

    Over seeds: Student's t on the differences of like seeds. Over chains: bootstrap of the test chains, the
    mean over seeds recomputed each time.
    """
    if a.seeds != b.seeds or not np.array_equal(a.test_id, b.test_id):
        return None
    by_seed = np.array([getattr(x, score) - getattr(y, score) for x, y in zip(a.clean, b.clean, strict=True)])
    mean = float(by_seed.mean())
    half = (
        float(stats.t.ppf(0.975, len(by_seed) - 1) * stats.sem(by_seed)) if len(by_seed) > 1 else float("nan")
    )
    low, high = np.nanquantile(a.drawn[score] - b.drawn[score], [0.025, 0.975])
    return Difference(mean, (mean - half, mean + half), (float(low), float(high)))


def as_table(rows: Mapping[str, Sequence[Kept]], base: Sequence[str]) -> str:
    """Return the page of a results folder: both protocols, and differences to the rows named in `base`.

    Raises
    ------
    SitesError
        If there is no row of a name in `base`.
    """
    for name in base:
        if name not in rows:
            raise SitesError(f"there is no row {name!r}; there are {', '.join(rows)}")
    parts = []
    for protocol, told in (
        ("paper", "the threshold with the best F on the test chains themselves (comparable, but optimistic)"),
        ("clean", "the threshold with the best F on whole validation chains"),
    ):
        head = f"| row | {' | '.join(COLUMNS.values())} |\n|---|{'---|' * len(COLUMNS)}"
        lines = [f"| {name} | {_cells(seeds, protocol)} |" for name, seeds in rows.items()]
        split = next(iter(rows.values()))[0].test_split
        named = PUBLISHED.get((split[0], protocol), {}) if len(set(split)) == 1 else {}
        published = [f"| {name} | {cells} |" for name, cells in named.items()]
        parts.append(f"## Protocol *{protocol}*: {told}\n\n" + "\n".join([head, *lines, *published]))
    if base:
        parts.append(_differences(rows, base))
    parts.append(_what(rows))
    return "\n\n".join(parts) + "\n"


def _cells(seeds: Sequence[Kept], protocol: str) -> str:
    found = [scores_of(kept, protocol).as_dict() for kept in seeds]
    values = {name: [scores[name] for scores in found] for name in COLUMNS}
    return " | ".join(
        f"{np.mean(v):.3f} +- {np.std(v, ddof=1) if len(v) > 1 else 0:.3f}".replace("0.", ".")
        for v in values.values()
    )


def _differences(rows: Mapping[str, Sequence[Kept]], base: Sequence[str]) -> str:
    head = " | ".join(f"AUPRC - {name} | MCC - {name}" for name in base)
    lines = [f"| row | {head} |", "|---|" + "---|" * (2 * len(base))]
    compared = {name: Compared.of(row) for name, row in rows.items()}
    for name, row in compared.items():
        cells = []
        for other in base:
            for score in ("auprc", "mcc"):
                difference = paired(row, compared[other], score) if name != other else None
                cells.append(str(difference) if difference else "")
        if any(cells):
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return (
        "## Differences, protocol *clean*\n\nPaired by seed. In brackets 95% intervals: over seeds "
        "(Student's t), and over test chains (bootstrap).\n\n" + "\n".join(lines)
    )


def _what(rows: Mapping[str, Sequence[Kept]]) -> str:
    lines = [
        "| row | encoder | PSSM, DSSP | chains learnt, validation, test | seeds | epochs |",
        "|---|" + "---|" * 5,
    ]
    for name, seeds in rows.items():
        record = seeds[0].record
        encoder = ", ".join(f"{k} {v}" for k, v in record["encoder"].items() if k != "weights_sha256" and v)
        epochs = ", ".join(str(len(kept.record["curve"])) for kept in seeds)
        chains = ", ".join(str(n) for n in record["chains"])
        features = "yes" if record["features"] else "no"
        lines.append(f"| {name} | {encoder} | {features} | {chains} | {len(seeds)} | {epochs} |")
    prevalence = next(iter(rows.values()))[0].test_label.mean()
    return f"## What the rows are\n\n{prevalence:.1%} of the test residues are sites.\n\n" + "\n".join(lines)
