"""Structures of other libraries, recognised by their attributes: boundary cases of each rule."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from protemb_sdk import ChainError, StructureError
from protemb_sdk._structure.reader import read_chain, read_chains

from .structure_text import a_chain


def biotite(**columns: object) -> SimpleNamespace:
    """Return three residues as an object with the attributes of a Biotite array."""
    table = {
        "coord": np.arange(3)[:, None] * np.array([[3.8, 0, 0]]), "chain_id": ["A"] * 3, "res_id": [1, 2, 3],
        "res_name": ["ALA", "GLY", "SER"], "atom_name": ["CA"] * 3, "element": ["C"] * 3,
    }  # fmt: skip
    return SimpleNamespace(**table | columns)


@pytest.mark.parametrize(
    ("element", "residue", "is_ca"),
    [("C", "ALA", True), ("", "ALA", True), ("CA", "ALA", True), ("Ca", "ALA", True), ("N", "ALA", False),
     ("CA", "CA", False), ("", "CA", False)],
)  # fmt: skip
def test_an_element_may_be_missing_or_wrong_in_amino_acids_only(
    element: str, residue: str, is_ca: bool
) -> None:
    x = biotite(element=["C", "C", element], res_name=["ALA", "GLY", residue], hetero=[False, False, False])
    assert len(read_chains(x, min_residues=1).chains[0]) == 2 + is_ca


def test_an_unknown_residue_without_element_is_not_protein() -> None:
    # Bonded like a residue, but its CA may be calcium.
    names, places = ["N", "CA", "C"], [-1.25, 0.0, 1.25]
    x = SimpleNamespace(
        coord=np.array([[3.8 * i + at, 0, 0] for i in range(4) for at in places]),
        chain_id=["A"] * 12, res_id=np.repeat([1, 2, 3, 4], 3), atom_name=names * 4,
        res_name=np.repeat(["ALA", "ALA", "ALA", "ZZZ"], 3), hetero=np.repeat([False] * 3 + [True], 3),
        element=[e for i in range(4) for e in ("N", "" if i == 3 else "C", "C")],
    )  # fmt: skip
    assert len(read_chain(x)) == 3
    x.element[10] = "C"
    assert len(read_chain(x)) == 4


def test_structures_of_other_libraries_have_the_given_name() -> None:
    assert read_chain(biotite()).name == "structure" and read_chain(biotite(), name="mine").name == "mine"
    assert read_chain(biotite()).id == "structure_A"


def test_any_change_of_name_or_number_starts_a_residue() -> None:
    for column, values in (
        ("chain_id", ["A", "B", "C"]), ("res_id", [1, 2, 3]), ("ins_code", ["", "A", "B"]),
        ("res_name", ["ALA", "GLY", "SER"]),
    ):  # fmt: skip
        same = {"chain_id": ["A"] * 3, "res_id": [1] * 3, "res_name": ["ALA"] * 3, "ins_code": [""] * 3}
        read = read_chains(biotite(**same | {column: values}), min_residues=1)
        assert sum(map(len, read.chains)) == 3, column


def test_models_of_a_stack_are_counted_from_one() -> None:
    first = biotite().coord
    x = biotite(coord=np.stack([first, first + 5]))
    np.testing.assert_array_equal(read_chain(x, model_number=2).ca_coords, first + 5)
    np.testing.assert_array_equal(read_chain(x, model_number=np.int64(1)).ca_coords, first)
    for model in (0, 3):
        with pytest.raises(StructureError, match=f"has 2 models, so model={model} is not there"):
            read_chain(x, model_number=model)
    with pytest.raises(StructureError, match="has 1 model, so model=2 is not there"):
        read_chain(biotite(), model_number=2)
    for wrong in (True, 1.0, "1"):
        with pytest.raises(StructureError, match="pass the position of the model"):
            read_chain(x, model_number=wrong)


def test_altloc_letters_of_arrays_are_conformers() -> None:
    same = {"res_id": [1, 1, 2], "res_name": ["ALA", "ALA", "GLY"], "altloc_id": ["A", "B", "."]}
    x = biotite(**same, occupancy=[0.4, 0.6, 1.0])
    unsaid = read_chains(biotite(**same), min_residues=1).chains[0]  # all atoms have the same occupancy
    assert unsaid.ca_coords[0, 0] == 0
    for altloc, place in (("highest", 3.8), ("first", 0.0), ("A", 0.0), ("B", 3.8), ("C", 3.8)):
        chain = read_chains(x, altloc=altloc, min_residues=1).chains[0]
        assert len(chain) == 2 and chain.ca_coords[0, 0] == place, altloc
    types = biotite(res_id=[1, 1, 2], altloc_id=["", "A", "A"])  # one atom belongs to no conformer
    assert len(read_chain(types, min_residues=1)) == 3


def test_an_empty_structure_of_biopython_is_an_error() -> None:
    structure = pytest.importorskip("Bio.PDB.Structure").Structure("empty")
    with pytest.raises(StructureError, match="has 0 models, so model=1 is not there"):
        read_chain(structure)
    structure.add(pytest.importorskip("Bio.PDB.Model").Model(0))
    with pytest.raises(StructureError, match="holds no atoms"):
        read_chain(structure)
    with pytest.raises(StructureError, match="has 1 model, so model=0 is not there"):
        read_chain(structure, model_number=0)


def test_chain_names_are_refused_for_arrays_and_checked_for_chains() -> None:
    with pytest.raises(ChainError, match="array: arrays have no chain names; leave chain_id='A' out"):
        read_chain((np.eye(3) * 3, "AAA"), "A")
    with pytest.raises(ChainError, match="arrays have no chain names"):
        read_chain(a_chain(), "A")
    named = replace(a_chain(), chain_id="B")
    assert read_chain(named, "B") is named and read_chain(named) is named
    with pytest.raises(ChainError, match="there is no chain 'A'; protein chains: B"):
        read_chain(named, "A")
    with pytest.raises(ChainError, match="pass the name of a chain, a str"):
        read_chain(named, 1)  # type: ignore[arg-type]
