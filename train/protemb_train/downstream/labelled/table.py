"""A table of labels, matched to the chains of a folder of structures."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._chain import Chain
from protemb_sdk._errors import ProtembError
from protemb_sdk._folders import find_structures
from protemb_sdk._structure import read_chains

Per = Literal["residue", "protein"]
# Distinct numbers from which on a label is a quantity, not a class.
QUANTITY = 10


class LabelError(ProtembError):
    """A table of labels cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """A chain with labels.

    Parameters
    ----------
    chain : Chain
        Of a structure.
    label : ndarray, float64, shape (L,) or (1,)
        Of each residue, or of the chain: a quantity, or the position of a class; NaN where there is none.
    """

    chain: Chain
    label: NDArray[np.float64]

    @property
    def id(self) -> str:
        """Name and author chain name."""
        return self.chain.id

    @property
    def sequence(self) -> str:
        """One-letter codes."""
        return self.chain.sequence


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable:
    """What a table holds.

    Parameters
    ----------
    per : {"residue", "protein"}
        What a row is about.
    classes : tuple of str or None
        Names of the classes, sorted; None for a quantity.
    chains : sequence of Labelled
        Chains with a label at least.
    unmatched : int
        Rows about no chain or residue of the structures.
    """

    per: Per
    classes: tuple[str, ...] | None
    chains: Sequence[Labelled]
    unmatched: int


def read_labels(labels: Path, structures: Path, per: Per) -> LabelTable:
    """Match a table of labels to structures.

    Parameters
    ----------
    labels : Path
        CSV with a header: `structure` (name of a file, with or without its endings), `chain` (author or label
        name; may be left out where a structure has one protein chain), for residues `residue` (author number
        and insertion code, as 52 or 52A), and `label`: words, or numbers. Up to 10 distinct whole numbers are
        classes.
    structures : Path
        Folder, or file.
    per : {"residue", "protein"}
        What a row is about.

    Raises
    ------
    LabelError
        If the table lacks a column or a label, says two things of one residue, or no row is matched.
    """
    rows = _rows(labels, per)
    values = {row["label"] for row in rows}
    classes = None if _is_quantity(values) else tuple(sorted(values))
    number = {name: float(place) for place, name in enumerate(classes or ())}
    wanted: dict[str, dict[tuple[str, str], float]] = {}
    for line, row in enumerate(rows, start=2):
        value = number[row["label"]] if classes else float(row["label"])
        given = wanted.setdefault(_stem(row["structure"]), {})
        key = (row.get("chain") or "", row["residue"].strip() if per == "residue" else "")
        if given.setdefault(key, value) != value:
            where = f"{row['structure']} {' '.join(key)}".strip()
            raise LabelError(f"{labels}, line {line}: a second label for {where}")
    found, matched = [], 0
    for file in find_structures(structures):
        about = wanted.get(_stem(Path(file).name), {})
        if not about:
            continue
        chains = read_chains(file).chains
        for chain in chains:
            label, count = _labels_of(chain, about, per, alone=len(chains) == 1)
            if count:
                found.append(Labelled(chain, label))
                matched += count
    if not found:
        raise LabelError(
            f"{labels}: no row is about a chain in {structures}; structure must be a file's name, chain and "
            "residue as in the file"
        )
    return LabelTable(per, classes, found, max(len(rows) - matched, 0))


def _rows(labels: Path, per: Per) -> list[dict[str, str]]:
    needed = ["structure", "label", *(["residue"] if per == "residue" else [])]
    try:
        with labels.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise LabelError(f"{labels}: has no column {missing[0]!r}; needed are {', '.join(needed)}")
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"{labels}: cannot be read as a table ({error})") from error
    for line, row in enumerate(rows, start=2):
        if any(not (row[name] or "").strip() for name in needed):
            raise LabelError(f"{labels}, line {line}: {', '.join(needed)} must all be there")
        row["label"] = row["label"].strip()
    if len({row["label"] for row in rows}) < 2:
        raise LabelError(f"{labels}: holds fewer than two different labels; there is nothing to tell apart")
    return rows


def _is_quantity(values: set[str]) -> bool:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return False
    if not all(np.isfinite(numbers)):
        raise LabelError("a label is not finite; leave rows without a label out")
    return len(numbers) > QUANTITY or any(number != int(number) for number in numbers)


def _stem(name: str) -> str:
    return Path(name).name.partition(".")[0].lower()


def _labels_of(
    chain: Chain, about: Mapping[tuple[str, str], float], per: Per, *, alone: bool
) -> tuple[NDArray[np.float64], int]:
    names = [chain.chain, chain.label_chain, *([""] if alone else [])]

    def of(residue: str) -> float:
        return next((about[name, residue] for name in names if (name, residue) in about), np.nan)

    if per == "protein":
        label = np.array([of("")])
    else:
        pairs = zip(chain.auth_seq.tolist(), chain.insertion_code.tolist(), strict=True)
        label = np.array([of(f"{number}{code}") for number, code in pairs])
    return label, int(np.isfinite(label).sum())


def class_counts(table: LabelTable) -> Counter[str]:
    """Return how often each class is given; empty for a quantity."""
    every = np.concatenate([labelled.label for labelled in table.chains])
    classes = table.classes or ()
    return Counter({name: int((every == place).sum()) for place, name in enumerate(classes)})
