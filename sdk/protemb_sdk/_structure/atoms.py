"""What every format and library is turned into before the rule of `_molecules` says what a chain is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.residue_names import kind_of

N, CA, C, OXT = range(4)
BACKBONE = {"N": N, "CA": CA, "C": C, "OXT": OXT}
"""The atoms that are kept: they say where residues lie, what is bonded, and where a chain ends."""


@dataclass(slots=True, kw_only=True)
class Stretches:
    """One model in the order of its source: stretches of atoms that bear one residue name and number.

    The lists hold one entry a stretch. The arrays hold one entry for each atom of `BACKBONE`.
    """

    chain: Sequence[str]  # of the author
    number: Sequence[int | None]
    insertion_code: Sequence[str]
    name: Sequence[str]
    declared: Sequence[bool]  # ATOM record, or declared part of a polymer
    label_chain: Sequence[str]
    label_seq: Sequence[int | None]
    segment: Sequence[str]
    part: Sequence[int]  # TER records before it
    section: Sequence[int]  # END records, or data blocks, before it
    copy: Sequence[str]  # of an assembly
    stretch: NDArray[np.int64]  # position of each atom's stretch
    atom: NDArray[np.int64]
    altloc: NDArray[np.int64]  # character code; 0 where there is none
    occupancy: NDArray[np.float64]
    plddt: NDArray[np.float64]  # 0 to 100; NaN where it is unknown, as in all that is no predicted model
    position: NDArray[np.float64]
    parents: dict[str, str] = field(default_factory=dict)  # residue names of which the file names the parent
    sequences: dict[str, list[str]] = field(default_factory=dict)  # SEQRES, by author chain
    entities: dict[str, str] = field(default_factory=dict)  # entity of each label chain
    entry: str = ""
    labelled: bool = False  # whether label names and numbers come from the source
    # Whether the source names an experiment; a call, because mmCIF has to be parsed for it.
    is_measured: Callable[[], bool] = lambda: False
    notes: list[str] = field(default_factory=list)
    about_models: list[str] = field(default_factory=list)  # notes on which part of the file was read


LISTS = (
    "chain", "number", "insertion_code", "name", "declared", "label_chain", "label_seq", "segment", "part",
    "section", "copy",
)  # fmt: skip
"""Fields of `Stretches` with one entry a stretch."""

ARRAYS = ("atom", "altloc", "occupancy", "plddt", "position")
"""Fields of `Stretches` with one entry an atom, but for `stretch`."""


@dataclass(slots=True, kw_only=True)
class Table:
    """One model: molecules, residues and backbone atoms.

    The lists and arrays up to `unplaced` hold one entry a residue, the others one an atom.
    """

    molecule: NDArray[np.int64]  # position in `chains`
    group: NDArray[np.int64]  # residues that the source gives one chain name: a bond may join them
    label_chain: list[str]
    number: NDArray[np.int64]
    insertion_code: list[str]
    name: list[str]
    label_seq: list[int | None]
    declared: NDArray[np.bool_]
    unplaced: NDArray[np.bool_]  # its C-alpha is there, but has no position
    residue: NDArray[np.int64]  # position of each atom's residue
    atom: NDArray[np.int64]
    altloc: NDArray[np.int64]
    occupancy: NDArray[np.float64]
    plddt: NDArray[np.float64]
    position: NDArray[np.float64]
    parents: dict[str, str]
    chains: list[str]  # names of molecules
    sequences: list[list[str]]  # their full sequences in SEQRES records
    notes: list[list[str]]  # on molecules
    about_models: list[str]


def carbons(elements: Sequence[str], names: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which of some CA atoms are C-alphas and not calcium.

    An element column may be missing or wrong; no amino acid holds calcium.

    Parameters
    ----------
    elements : sequence of str
        Symbols, empty where there is none.
    names : sequence of str
        Names of their residues.
    """
    return np.array([_is_carbon(e, n) for e, n in zip(elements, names, strict=True)], dtype=bool)


@lru_cache(maxsize=4096)
def _is_carbon(element: str, name: str) -> bool:
    element = element.strip().upper()
    if element == "C":
        return True
    return (element == "CA" or not _is_element(element)) and kind_of(name)[0] == "amino"


def _is_element(symbol: str) -> bool:
    import gemmi

    return bool(symbol) and int(gemmi.Element(symbol).atomic_number) > 0


def about_model(model: int, count: int, where: str) -> list[str]:
    """Return the note that says which of several models is read, none where there is only one.

    Raises
    ------
    StructureError
        If there is no such model.
    """
    if not 1 <= model <= count:
        models = "1 model" if count == 1 else f"{count} models"
        raise StructureError(f"has {models}, so model={model} is not there", where)
    return [f"model {model} of {count} is read"] if count > 1 else []


LARGEST = 2**31
"""Residue numbers are below it, so that they fit into 32 bits."""


def integer(value: object) -> int | None:
    """Return a residue number, or None where there is none."""
    try:
        number = int(value)  # type: ignore[call-overload]
    except (ValueError, TypeError, OverflowError):
        return None
    return number if abs(number) < LARGEST else None


def identity(stretches: Stretches) -> list[tuple[str, int | None, str, str]]:
    """Return chain, number, insertion code and name of every stretch."""
    s = stretches
    return list(zip(s.chain, s.number, s.insertion_code, s.name, strict=True))


def joined(several: Sequence[Stretches]) -> Stretches:
    """Put models of several files together, each as a section of its own."""
    sizes = np.cumsum([0, *(len(s.chain) for s in several)])
    fields: dict[str, Any] = {name: [value for s in several for value in getattr(s, name)] for name in LISTS}
    fields |= {name: np.concatenate([getattr(s, name) for s in several]) for name in ARRAYS}
    fields["section"] = [number for number, s in enumerate(several) for _ in s.chain]
    return Stretches(
        **fields,
        stretch=np.concatenate([s.stretch + at for s, at in zip(several, sizes[:-1], strict=True)]),
        parents={name: parent for s in several for name, parent in s.parents.items()},
        labelled=all(s.labelled for s in several),
        is_measured=lambda: any(s.is_measured() for s in several),
        notes=[note for s in several for note in s.notes],
        about_models=[note for s in several for note in s.about_models],
    )
