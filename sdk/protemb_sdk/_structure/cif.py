"""The columns of `_atom_site` to stretches of atoms: mmCIF, mmJSON and BinaryCIF alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.atoms import BACKBONE, CA, LARGEST, Stretches, about_model, carbons, integer
from protemb_sdk._structure.cif_columns import Column, Listed, Rows, Values
from protemb_sdk._structure.predicted import FACTORS, OWN_METRICS, is_experiment, plddt_of_b_factors
from protemb_sdk._structure.residue_names import kind_of

if TYPE_CHECKING:
    import gemmi

_NULL = ("", ".", "?")
_NO_POSITION = frozenset({"", "nan", "+nan", "-nan", "inf", "+inf", "-inf", "?", "."})

# Names of the backbone's atoms, also as a file may quote them.
_NAMES = {f"{q}{name}{q}": code for name, code in BACKBONE.items() for q in ("", "'", '"')}


def column_of_block(block: gemmi.cif.Block) -> Column:
    """Return the reader of columns of a block that gemmi parsed."""

    def column(tag: str) -> Values | None:
        found = block.find_values(tag)
        return Listed(found) if len(found) else None

    return column


def plain(value: Any) -> str:
    """Return a value without quotes; empty where there is none."""
    if not isinstance(value, str):
        return str(value)
    if value.isalnum():
        return value
    if value in _NULL:
        return ""
    if value[0] not in "'\";":
        return value
    from gemmi import cif

    return str(cif.as_string(value))


class _AtomSite:
    """The rows of one model."""

    def __init__(self, column: Column, where: str, model: int) -> None:
        self._column, self._where = column, where
        self.axes = [self.needed(f"Cartn_{axis}") for axis in "xyz"]
        self.size = len(self.axes[0])
        self.rows: Rows | None = None  # None for all of them
        models = self("pdbx_PDB_model_num")
        every = np.arange(self.size)
        starts = [0, *(np.flatnonzero(models.changes(None)) + 1).tolist()] if models is not None else [0]
        numbers = models.pick(np.array(starts)) if models is not None else [""]
        different = list(dict.fromkeys(numbers))
        self.about_models = about_model(model, len(different), where)
        if len(different) > 1:
            parts = np.split(every, starts[1:])
            chosen = [p for p, n in zip(parts, numbers, strict=True) if n == different[model - 1]]
            self.rows = np.concatenate(chosen)
            self.size = len(self.rows)

    def __call__(self, name: str) -> Values | None:
        return self._column(f"_atom_site.{name}")

    def needed(self, *names: str) -> Values:
        """Return the first column that is there."""
        found = next((values for name in names if (values := self(name)) is not None), None)
        if found is None:
            raise StructureError(
                f"lacks the column _atom_site.{names[0]}, so nothing can be read", self._where
            )
        return found

    def in_table(self, at: Rows) -> Rows:
        """Return rows of the table for rows of the model."""
        return at if self.rows is None else self.rows[at]

    def codes(self) -> NDArray[np.int64]:
        """Return which atom of the backbone each row is, -1 for others."""
        found = self.needed("label_atom_id", "auth_atom_id").codes(_NAMES, self.rows)
        if found is None:
            names = self.some(np.arange(self.size), "label_atom_id", "auth_atom_id")
            found = np.array([_NAMES.get(name, -1) for name in names], dtype=np.int64)
        return found

    def changes(self) -> NDArray[np.bool_]:
        """Tell which rows begin a stretch."""
        found = np.ones(self.size, dtype=bool)
        if self.size:
            found[1:] = self.needed("label_comp_id", "auth_comp_id").changes(self.rows)
            for name in _CHANGES:
                if (values := self(name)) is not None:
                    found[1:] |= values.changes(self.rows)
        return found

    def some(self, at: Rows, *names: str) -> list[str]:
        """Return values in some rows; where one is missing, that of the next column."""
        rows = self.in_table(at)
        found = [""] * len(rows)
        for name in names:
            values = self(name) if "" in found else None
            if values is not None:
                raw = values.pick(rows)
                text = {value: plain(value) for value in set(raw)}
                given = [text[value] for value in raw]
                found = given if not any(found) else [f or g for f, g in zip(found, given, strict=True)]
        return found

    def integers(self, at: Rows, *names: str) -> list[int | None]:
        """Return numbers in some rows; None where there is none."""
        values = self(names[0])
        if values is not None:
            try:
                numbers = list(map(int, values.pick(self.in_table(at))))
                if not numbers or max(max(numbers), -min(numbers)) < LARGEST:
                    return numbers  # type: ignore[return-value]
            except ValueError:
                pass
        found = self.some(at, *names)
        number = {value: integer(value) if value else None for value in set(found)}
        return [number[value] for value in found]


_CHANGES = ("auth_asym_id", "label_asym_id", "auth_seq_id", "pdbx_PDB_ins_code", "label_seq_id")


def stretches_of_columns(column: Column, where: str, model: int) -> Stretches:
    """Read one model, by its position from 1, out of the columns of a block.

    Raises
    ------
    StructureError
        If there is no such model, a column is missing without which nothing can be read, or coordinates are
        no numbers.
    """
    site = _AtomSite(column, where, model)
    site.needed("label_atom_id", "auth_atom_id")
    change = site.changes()
    first = np.flatnonzero(change)
    names = site.some(first, "label_comp_id", "auth_comp_id")
    code = site.codes()
    at = np.flatnonzero(code >= 0)
    code, stretch = code[at], (np.cumsum(change) - 1)[at]
    is_ca = code == CA
    kept = np.ones(len(at), dtype=bool)
    of_ca = [names[s] for s in stretch[is_ca].tolist()]
    kept[is_ca] = carbons(site.some(at[is_ca], "type_symbol"), of_ca)
    xyz = np.stack([_numbers(values, site.in_table(at)) for values in site.axes], axis=1)
    if not np.isfinite(xyz[is_ca & kept]).all():
        _check_garbled(site, at[is_ca & kept], where)
    groups = site.some(first, "group_PDB")
    label_seq = site.integers(first, "label_seq_id")
    labels = site.some(first, "label_asym_id")
    entities = site.some(first, "label_entity_id")
    alternatives = site.some(at, "label_alt_id")
    occupancy = site("occupancy")
    weight = np.ones(len(at)) if occupancy is None else _numbers(occupancy, site.in_table(at))
    blank = [""] * len(first)
    return Stretches(
        chain=site.some(first, "auth_asym_id", "label_asym_id"),
        number=site.integers(first, "auth_seq_id", "label_seq_id"),
        insertion_code=site.some(first, "pdbx_PDB_ins_code"),
        name=names,
        declared=[g[:1] not in ("H", "h") or n is not None for g, n in zip(groups, label_seq, strict=True)],
        label_chain=labels,
        label_seq=label_seq,
        segment=blank,
        part=[0] * len(first),
        section=[0] * len(first),
        copy=blank,
        stretch=stretch[kept],
        atom=code[kept],
        altloc=np.array([ord(a[0]) if a else 0 for a in alternatives], dtype=np.int64)[kept],
        occupancy=np.where(np.isfinite(weight), weight, 1.0)[kept],
        plddt=_plddt(site, column, list(zip(labels, label_seq, strict=True)), stretch, at, is_ca)[kept],
        position=xyz[kept],
        parents=_parents(column, set(of_ca)),
        entities={
            label: entity for label, entity in set(zip(labels, entities, strict=True)) if label and entity
        },
        labelled=True,
        is_measured=lambda: any(map(is_experiment, _texts(column, "_exptl.method")[0])),
        about_models=site.about_models,
    )


def _numbers(values: Values, rows: Rows) -> NDArray[np.float64]:
    found = values.floats(rows)
    return np.array([_float(v) for v in values.pick(rows)], dtype=np.float64) if found is None else found


def _float(value: Any) -> float:
    """Return a number, also with its uncertainty, 1.234(5); NaN for anything else."""
    import gemmi

    return float(value) if isinstance(value, float | int) else float(gemmi.cif.as_number(plain(value)))


def _check_garbled(site: _AtomSite, at: Rows, where: str) -> None:
    """Tell coordinates that are missing from text that is damaged."""
    rows = site.in_table(at)
    for values in site.axes:
        for i, value in zip(rows.tolist(), values.pick(rows), strict=True):
            text = str(value).lower()
            if not np.isfinite(_float(value)) and text not in _NO_POSITION and text.strip("*"):
                raise StructureError(
                    f"a coordinate of the C-alpha in row {i + 1} of _atom_site is not a number "
                    f"({text[:20]!r}); remove or repair it",
                    where,
                )


def _texts(column: Column, *tags: str) -> list[list[str]]:
    """Return columns of one table as text, row for row; empty ones if one is missing."""
    found = [values for tag in tags if (values := column(tag)) is not None]
    rows = np.arange(min(map(len, found)) if len(found) == len(tags) else 0)
    return [list(map(plain, values.pick(rows))) if rows.size else [] for values in found] or [[]]


def _plddt(
    site: _AtomSite, column: Column, residues: list[tuple[str, int | None]], stretch: Rows, at: Rows,
    is_ca: NDArray[np.bool_],
) -> NDArray[np.float64]:  # fmt: skip
    """Return the pLDDT of atoms, NaN where the file does not declare one.

    `residues` are label names of chain and number of each stretch; `stretch` and `at` are those of the atoms.
    """
    unknown = np.full(len(at), np.nan)
    if column("_ma_qa_metric.type") is None:
        return unknown
    metrics = _texts(column, "_ma_qa_metric.id", "_ma_qa_metric.mode", "_ma_qa_metric.type")
    declared = [(n, kind.lower()) for n, mode, kind in zip(*metrics, strict=True) if mode == "local"]
    names = _texts(column, "_ma_qa_metric.id", "_ma_qa_metric.name")
    own = (
        {n for n, name in zip(*names, strict=True) if name.startswith(OWN_METRICS)}
        if len(names) == 2
        else set()
    )
    local = {n: FACTORS[kind] for n, kind in declared if kind in FACTORS and n not in own}
    if not local:
        return unknown
    if column("_ma_qa_metric_local.metric_value") is None:
        b = site("B_iso_or_equiv")
        return unknown if b is None else plddt_of_b_factors(_numbers(b, site.in_table(at)), is_ca)
    tags = ("label_asym_id", "label_seq_id", "metric_id", "metric_value", "model_id")
    rows = list(zip(*_texts(column, *(f"_ma_qa_metric_local.{tag}" for tag in tags)), strict=True))
    if len({row[4] for row in rows}) > 1:
        (model,) = site.some(np.zeros(1, dtype=np.int64), "pdbx_PDB_model_num")
        rows = [row for row in rows if row[4] == model]
    values = {(row[0], integer(row[1])): _float(row[3]) * local[row[2]] for row in rows if row[2] in local}
    known = [np.nan if residue[1] is None else values.get(residue, np.nan) for residue in residues]
    found = np.array(known, dtype=np.float64)[stretch]
    return np.where((found >= 0) & (found <= 100), found, np.nan)


def _parents(column: Column, names: set[str]) -> dict[str, str]:
    """Return the parents that the file names, if there is a residue of which nothing else is known."""
    if all(kind_of(name)[1] != "X" or kind_of(name)[0] not in ("amino", "unknown") for name in names):
        return {}
    listed = column("_pdbx_struct_mod_residue.label_comp_id")
    parents = column("_pdbx_struct_mod_residue.parent_comp_id")
    if listed is None or parents is None:
        return {}
    every = np.arange(min(len(listed), len(parents)))
    pairs = zip(map(plain, listed.pick(every)), map(plain, parents.pick(every)), strict=True)
    return {name: parent for name, parent in pairs if parent}
