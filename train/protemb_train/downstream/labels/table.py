"""A table of labels, matched to the chains of a folder of structures."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import Chain, ProtembError, read_chains
from protemb_sdk._base.folders import find_structures, stem

Per = Literal["residue", "protein"]
# More distinct numbers than this are a quantity, not classes.
QUANTITY = 10
# Common codes for missing values, besides NaN; "none" may be a class.
MISSING = ("na", "n/a", "#n/a", "<na>")


class LabelError(ProtembError):
    """A table of labels cannot be used."""


@dataclass(frozen=True, slots=True, eq=False)
class Labelled:
    """A chain with labels.

    Parameters
    ----------
    chain : Chain
        Chain of a structure.
    label : ndarray, float64, shape (L,) or (1,)
        Labels of the residues, or of the chain: a quantity, or the index of a class; NaN where missing.
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


_Key = tuple[str, str]  # chain and residue, as written in a row


@dataclass(frozen=True, slots=True)
class _Given:
    value: float
    line: int


@dataclass(frozen=True, slots=True, eq=False)
class LabelTable:
    """A table of labels, matched to chains.

    Parameters
    ----------
    per : {"residue", "protein"}
        Whether a row is about a residue or a chain.
    classes : tuple of str or None
        Names of the classes, sorted; None for a quantity.
    chains : sequence of Labelled
        Chains with at least one label.
    unmatched : int
        Number of rows that match no chain or residue of the structures.
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
        CSV with a header: `structure` (name of a file; its suffixes are needed only between files that differ
        in nothing else), `chain` (author name, or label name if no chain of the file has that author name;
        optional if a structure has one protein chain), for residue labels `residue` (author number and
        insertion code, such as 52 or 52A), and `label`: words or numbers. Up to 10 distinct whole numbers are
        classes, in any notation; if some labels are words, all are words.
    structures : Path
        Folder or file.
    per : {"residue", "protein"}
        Whether a row is about a residue or a chain.

    Raises
    ------
    LabelError
        If the table lacks a column or a label, a label is NaN or NA, a residue has two different labels, a
        row may refer to two files, or no row is matched.
    """
    rows = _rows(labels, per)
    is_quantity = _read_values(labels, rows)
    classes = None if is_quantity else tuple(sorted({row["label"] for _, row in rows}))
    number = {name: float(place) for place, name in enumerate(classes or ())}
    files = _Files(structures)
    wanted: dict[Path, dict[_Key, _Given]] = {}
    keys = []
    for line, row in rows:
        value = number[row["label"]] if classes else float(row["label"])
        file = files.named(row["structure"], f"{labels}, line {line}")
        key = ((row.get("chain") or "").strip(), row["residue"].strip() if per == "residue" else "")
        if file is not None:
            given = wanted.setdefault(file, {}).setdefault(key, _Given(value, line))
            if given.value != value:
                raise _contradiction(labels, line, " ".join([row["structure"], *key]).strip())
        keys.append((file, key))
    found, matched = [], set()
    for file in filter(wanted.__contains__, files.paths):
        chains = read_chains(file).chains
        for chain, names in zip(chains, _names(chains), strict=True):
            label, used = _labels_of(chain, names, wanted[file], labels, per)
            if used:
                found.append(Labelled(chain, label))
                matched |= {(file, key) for key in used}
    if not found:
        raise LabelError(
            f"no row matches a chain in {structures}; structure must be the name of a file, and chain and "
            "residue must be as in the file",
            labels,
        )
    return LabelTable(per, classes, found, sum(key not in matched for key in keys))


def _rows(labels: Path, per: Per) -> list[tuple[int, dict[str, str]]]:
    """Return the rows, each with the number of its last line."""
    needed = ["structure", "label", *(["residue"] if per == "residue" else [])]
    try:
        with labels.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            missing = [name for name in needed if name not in (reader.fieldnames or ())]
            if missing:
                raise LabelError(f"has no column {missing[0]!r}; required are {', '.join(needed)}", labels)
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise LabelError(f"cannot be read as a table ({error})", labels) from error
    for line, row in rows:
        if any(not (row[name] or "").strip() for name in needed):
            raise LabelError(f"{labels}, line {line}: {', '.join(needed)} must not be empty")
        row["label"] = row["label"].strip()
    return rows


def _read_values(labels: Path, rows: Sequence[tuple[int, dict[str, str]]]) -> bool:
    """Normalise numbers that are classes, in place, and return whether labels are a quantity."""
    numbers = [_number(row["label"]) for _, row in rows]
    for number, (line, row) in zip(numbers, rows, strict=True):
        if row["label"].lower() in MISSING or not (number is None or np.isfinite(number)):
            raise LabelError(f"{labels}, line {line}: {row['label']!r} is not a label; remove the row")
    known = [number for number in numbers if number is not None]
    words = len(known) < len(numbers)
    distinct: set[str] | set[float] = {row["label"] for _, row in rows} if words else set(known)
    if len(distinct) < 2:
        raise LabelError("contains fewer than two different labels", labels)
    if words:
        return False
    if len(distinct) > QUANTITY or not all(number.is_integer() for number in known):
        return True
    for number, (_, row) in zip(known, rows, strict=True):
        row["label"] = str(int(number))
    return False


def _number(label: str) -> float | None:
    try:
        return float(label)
    except ValueError:
        return None


class _Files:
    """The structure files of a folder by the names used in rows: with all suffixes, or without."""

    def __init__(self, structures: Path) -> None:
        self.paths = find_structures(structures)
        self._by_name: dict[str, list[Path]] = {}
        for path in self.paths:
            for name in {path.name.lower(), stem(path).lower()}:
                self._by_name.setdefault(name, []).append(path)

    def named(self, name: str, where: str) -> Path | None:
        whole, bare = Path(name.strip()).name.lower(), stem(name.strip()).lower()
        found = self._by_name.get(whole) or self._by_name.get(bare, [])
        if len(found) > 1:
            raise LabelError(
                f"{name} may be {found[0]} or {found[1]}; use the name with its suffixes, or remove one",
                where,
            )
        return found[0] if found else None


def _names(chains: Sequence[Chain]) -> list[set[str]]:
    """Return the possible names of each chain of a file; an author name of one is not a name of another."""
    authors = {chain.chain_id for chain in chains}
    names = [{chain.chain_id, *({chain.label_chain} - authors - {""})} for chain in chains]
    return [names[0] | {""}] if len(chains) == 1 else names


def _labels_of(
    chain: Chain, names: Iterable[str], about: Mapping[_Key, _Given], labels: Path, per: Per
) -> tuple[NDArray[np.float64], set[_Key]]:
    """Return the labels of a chain, and the keys of the rows used."""
    residues = [""]
    if per == "residue":
        pairs = zip(chain.auth_seq.tolist(), chain.insertion_code.tolist(), strict=True)
        residues = [f"{number}{code}" for number, code in pairs]
    label, used = np.full(len(residues), np.nan), set[_Key]()
    for place, residue in enumerate(residues):
        keys = [(name, residue) for name in names if (name, residue) in about]
        given = sorted((about[key] for key in keys), key=lambda one: one.line)
        for one in given:
            if one.value != given[0].value:
                raise _contradiction(labels, one.line, f"{chain.id} {residue}".strip())
            label[place] = one.value
        used.update(keys)
    return label, used


def _contradiction(labels: Path, line: int, where: str) -> LabelError:
    return LabelError(f"{labels}, line {line}: a second label for {where}; remove one of the two")


def class_counts(table: LabelTable) -> Counter[str]:
    """Return the number of labels per class; empty for a quantity."""
    every = np.concatenate([labelled.label for labelled in table.chains])
    classes = table.classes or ()
    return Counter({name: int((every == place).sum()) for place, name in enumerate(classes)})
