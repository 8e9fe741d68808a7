"""The columns of `_atom_site` to stretches of atoms: mmCIF, mmJSON and BinaryCIF alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import compress
from operator import ne
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._atoms import BACKBONE, CA, Stretches, carbons, integer
from protemb_sdk._errors import StructureError

if TYPE_CHECKING:
    import gemmi

Column = Callable[[str], "list[Any] | None"]
"""Returns the values of a column by its tag, empty where there is none; None for a missing column."""

_NULL = (".", "?")
_NO_POSITION = frozenset({"", "nan", "+nan", "-nan", "inf", "+inf", "-inf", "?", "."})


def column_of_block(block: gemmi.cif.Block) -> Column:
    """Return the reader of columns of a block that gemmi parsed."""
    from gemmi import cif

    def column(tag: str) -> list[str] | None:
        found = block.find_values(tag)
        if not found:
            return None
        values = list(found)
        plain = {v: _plain(v, cif) for v in set(values) if v in _NULL or v[:1] in "'\";"}
        return [plain.get(v, v) for v in values] if plain else values

    return column


def _plain(value: str, cif: Any) -> str:
    return "" if value in _NULL else cif.as_string(value)


def models_of(column: Column) -> list[Any]:
    """Return the numbers of models in file order."""
    return list(dict.fromkeys(column("_atom_site.pdbx_PDB_model_num") or [1]))


def stretches_of_columns(column: Column, where: str, model: int) -> Stretches:
    """Read one model, by its position from 1, out of the columns of a block.

    Raises
    ------
    StructureError
        If there is no such model, a column is missing without which nothing can be read, or coordinates are
        no numbers.
    """
    models = column("_atom_site.pdbx_PDB_model_num")
    x = _needed(column, where, "_atom_site.Cartn_x")
    numbers = list(dict.fromkeys(models)) if models else [None]
    if not 1 <= model <= len(numbers):
        count = "1 model" if len(numbers) == 1 else f"{len(numbers)} models"
        raise StructureError(f"{where}: has {count}, so model={model} is not there")
    chosen = [m == numbers[model - 1] for m in models] if models and len(numbers) > 1 else None

    def rows_of(*tags: str) -> list[Any] | None:
        """Return the first column that is there, of the model's rows, filled up from the others."""
        found: list[Any] | None = None
        for tag in tags:
            values = column(tag) if found is None or "" in found else None
            if values is None:
                continue
            if chosen is not None:
                values = list(compress(values, chosen))
            found = values if found is None else [a if a != "" else b for a, b in zip(found, values, strict=True)]
        return found

    size = len(x) if chosen is None else sum(chosen)
    atoms = rows_of("_atom_site.label_atom_id", "_atom_site.auth_atom_id")
    comps = rows_of("_atom_site.label_comp_id", "_atom_site.auth_comp_id")
    for values, tag in ((atoms, "label_atom_id"), (comps, "label_comp_id")):
        if values is None:
            raise StructureError(f"{where}: lacks the column _atom_site.{tag}, so nothing can be read")
    blank = [""] * size
    labels = rows_of("_atom_site.label_asym_id") or blank
    chains = rows_of("_atom_site.auth_asym_id", "_atom_site.label_asym_id") or blank
    label_seq = rows_of("_atom_site.label_seq_id") or blank
    number = rows_of("_atom_site.auth_seq_id", "_atom_site.label_seq_id") or blank
    codes = rows_of("_atom_site.pdbx_PDB_ins_code") or blank
    group = rows_of("_atom_site.group_PDB")
    assert atoms is not None and comps is not None
    keys = list(zip(chains, labels, number, codes, comps, label_seq, strict=True))
    change = np.ones(size, dtype=bool)
    change[1:] = np.fromiter(map(ne, keys[1:], keys), dtype=bool, count=max(size - 1, 0))
    first = np.flatnonzero(change).tolist()
    stretch = np.cumsum(change) - 1

    at = [i for i, name in enumerate(atoms) if name in BACKBONE]
    xyz = _positions(rows_of, at, where)
    code = np.array([BACKBONE[atoms[i]] for i in at], dtype=np.int64)
    kept = np.ones(len(at), dtype=bool)
    is_ca = code == CA
    if (symbols := rows_of("_atom_site.type_symbol")) is None:
        symbols = blank
    kept[is_ca] = carbons(
        [str(symbols[at[i]]) for i in np.flatnonzero(is_ca)], [comps[at[i]] for i in np.flatnonzero(is_ca)]
    )
    if not np.isfinite(xyz[is_ca & kept]).all():
        _check_garbled(rows_of, [at[i] for i in np.flatnonzero(is_ca & kept)], where)
    altloc = rows_of("_atom_site.label_alt_id") or blank
    occupancy = rows_of("_atom_site.occupancy") or [1.0] * size
    entity = rows_of("_atom_site.label_entity_id") or blank
    return Stretches(
        chain=[str(chains[i]) for i in first],
        number=[integer(number[i]) for i in first],
        insertion_code=[str(codes[i]) for i in first],
        name=[str(comps[i]) for i in first],
        declared=[group is None or str(group[i])[:1].upper() != "H" or integer(label_seq[i]) is not None for i in first],
        label_chain=[str(labels[i]) for i in first],
        label_seq=[integer(label_seq[i]) for i in first],
        segment=[""] * len(first),
        part=[0] * len(first),
        section=[0] * len(first),
        copy=[""] * len(first),
        stretch=stretch[at][kept],
        atom=code[kept],
        altloc=np.array([ord(str(altloc[i])[0]) if altloc[i] != "" else 0 for i in at], dtype=np.int64)[kept],
        occupancy=np.array([_occupancy(occupancy[i]) for i in at], dtype=np.float64)[kept],
        position=xyz[kept],
        parents=_parents(column),
        entities={str(labels[i]): str(entity[i]) for i in first if labels[i] != "" and entity[i] != ""},
        entry=str((column("_entry.id") or [""])[0]).strip(),
        labelled=True,
    )


def _needed(column: Column, where: str, tag: str) -> list[Any]:
    values = column(tag)
    if values is None:
        raise StructureError(f"{where}: lacks the column {tag}, so nothing can be read")
    return values


def _positions(rows_of: Callable[..., list[Any] | None], at: list[int], where: str) -> NDArray[np.float64]:
    axes = []
    for axis in "xyz":
        values = rows_of(f"_atom_site.Cartn_{axis}")
        if values is None:
            raise StructureError(f"{where}: lacks the column _atom_site.Cartn_{axis}, so nothing can be read")
        some = [values[i] for i in at]
        try:
            axes.append(np.array(list(map(float, some)), dtype=np.float64))
        except (ValueError, TypeError):
            axes.append(np.array([_float(v) for v in some], dtype=np.float64))
    return np.stack(axes, axis=1)


def _float(value: Any) -> float:
    """Return a number, also with its uncertainty, 1.234(5); NaN for anything else."""
    import gemmi

    return float(value) if isinstance(value, float | int) else float(gemmi.cif.as_number(str(value)))


def _check_garbled(rows_of: Callable[..., list[Any] | None], at: Sequence[int], where: str) -> None:
    """Tell coordinates that are missing from text that is damaged."""
    for axis in "xyz":
        values = rows_of(f"_atom_site.Cartn_{axis}") or []
        for i in at:
            text = str(values[i]).lower()
            if not np.isfinite(_float(values[i])) and text not in _NO_POSITION and text.strip("*"):
                raise StructureError(
                    f"{where}: a coordinate of the C-alpha in row {i + 1} of _atom_site is not a number "
                    f"({text[:20]!r}); remove or repair it"
                )


def _occupancy(value: Any) -> float:
    try:
        number = float(value)
    except (ValueError, TypeError):
        number = _float(value)
    return number if np.isfinite(number) else 1.0


def _parents(column: Column) -> dict[str, str]:
    names = column("_pdbx_struct_mod_residue.label_comp_id")
    parents = column("_pdbx_struct_mod_residue.parent_comp_id")
    return {str(a): str(b) for a, b in zip(names or [], parents or [], strict=False) if b != ""}
