"""Residue names of force fields, and residues without a position."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import StructureError
from protemb_sdk._structure.reader import read_chain, read_chains
from protemb_sdk._structure.residue_names import kind_of

from .peptides import ONE, Atom, changed, cif, helix, pdb

# --- names ------------------------------------------------------------------------------------------

FOUR = {
    "LYSH": "K", "LYSN": "K", "HISA": "H", "HISB": "H", "HISD": "H", "HISE": "H", "HISH": "H", "HIS1": "H",
    "HIS2": "H", "HISP": "H", "ARGN": "R", "ASPH": "D", "ASPP": "D", "GLUH": "E", "GLUP": "E", "CYSH": "C",
    "CYS1": "C", "CYS2": "C", "NMET": "M", "CMET": "M", "NALA": "A", "CVAL": "V", "NHIE": "H", "CCYX": "C",
    "NGLY": "G", "CASP": "D", "NPRO": "P", "CTRP": "W",
}  # fmt: skip
THREE = {
    "LYP": "K", "ARN": "R", "TYM": "Y", "HIN": "H", "LSN": "K", "CYN": "C", "HID": "H",
    "HIE": "H", "HIP": "H",
    "HSD": "H", "HSE": "H", "HSP": "H", "CYX": "C", "CYM": "C", "ASH": "D", "GLH": "E", "LYN": "K",
}  # fmt: skip


@pytest.mark.parametrize(("name", "letter"), (FOUR | THREE).items())
@pytest.mark.parametrize("chain", ["A", " ", "H"])
def test_force_field_names_are_read_as_their_parent_residue(name: str, letter: str, chain: str) -> None:
    atoms = changed(changed(helix(), [3, 7], residue=name), chain=chain)
    expected = ONE[:2] + letter + ONE[3:6] + letter + ONE[7:]
    for text in (pdb(atoms), cif(atoms)):
        (found,) = read_chains(text).chains
        assert (found.sequence, found.chain_id, found.notes) == (expected, chain.strip(), ())
        assert found.residue_name[2] == name


@given(names=st.lists(st.sampled_from([*FOUR, *THREE]), min_size=3, max_size=8))
@settings(deadline=None, max_examples=40)
def test_a_chain_of_force_field_names_only_is_one_chain(names: list[str]) -> None:
    for chain in ("A", " "):
        (found,) = read_chains(pdb(helix("A" * len(names), names=names, chain=chain))).chains
        assert found.sequence == "".join((FOUR | THREE)[n] for n in names) and found.chain_id == chain.strip()


def test_chain_names_of_two_letters_are_read() -> None:
    def long(sequence: str, chain: str, away: float) -> list[Atom]:
        atoms = helix(sequence, away=away, chain=chain[1])
        return [changed([a], residue=a.residue + chain[0])[0] for a in atoms]

    text = pdb(long(ONE, "AA", 0), "TER", long("KKKLLLHHHD", "HA", 30), "TER", helix(away=60, chain="B"))
    assert [(c.chain_id, c.sequence) for c in read_chains(text).chains] == [
        ("AA", ONE), ("HA", "KKKLLLHHHD"), ("B", ONE),
    ]  # fmt: skip


def test_lipids_and_waters_with_four_letter_names_are_not_protein() -> None:
    others = [
        *changed(helix("A", first=20, away=40)[:1], residue="POPC", name="P", element="P"),
        *changed(helix("A", first=21, away=50)[:1], residue="TIP3", name="OH2", element="O"),
    ]
    (chain,) = read_chains(pdb(helix(), others)).chains
    assert chain.sequence == ONE and chain.notes == ()


@pytest.mark.parametrize("name", ["POPC", "TIP3", "DOPC", "A1XYZ", "NLIG", "CXYZ"])
def test_other_four_letter_names_are_not_amino_acids(name: str) -> None:
    assert kind_of(name)[0] != "amino"


# --- positions ---------------------------------------------------------------------------------------

NOWHERE = {
    "nan": ("nan",) * 3, "NaN": ("NaN",) * 3, "?": ("?",) * 3, ".": (".",) * 3, "one nan": ("nan", 1.0, 2.0),
    "9999": (9999.0,) * 3, "999.999": (999.999,) * 3, "zero": (0.0,) * 3,
}  # fmt: skip


def without(atoms: list[Atom], numbers: list[int], place: tuple[object, ...], **fields: object) -> list[Atom]:
    text = tuple(p.rjust(8) if isinstance(p, str) else p for p in place)
    return changed(atoms, numbers, place=text, **fields)


@pytest.mark.parametrize("place", NOWHERE)
@pytest.mark.parametrize("numbers", [[1, 2], [9, 10], [4, 5, 6]])
@pytest.mark.parametrize("write", [pdb, cif])
def test_residues_without_a_position_are_left_out_with_a_note(
    place: str, numbers: list[int], write: object
) -> None:
    atoms = without(helix(), numbers, NOWHERE[place])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (chain,) = read_chains(write(atoms)).chains  # type: ignore[operator]
    kept = [n for n in range(1, 11) if n not in numbers]
    assert chain.auth_seq.tolist() == kept and chain.sequence == "".join(ONE[n - 1] for n in kept)
    assert chain.notes[0].startswith(f"{len(numbers)} residues without a position left out: ")
    assert len(chain.notes) == 1 and np.isfinite(chain.ca_coords).all()


def test_one_residue_may_be_at_the_origin() -> None:
    atoms = changed(helix(), [5], place=(0.0, 0.0, 0.0))
    assert read_chain(pdb(atoms)).sequence == ONE
    (chain,) = read_chains(pdb(changed(atoms, [5], occupancy=0.0))).chains
    assert chain.sequence == ONE[:4] + ONE[5:] and "left out: PHE 5" in chain.notes[0]


def test_residues_of_zero_occupancy_at_one_position_are_placeholders() -> None:
    atoms = changed(helix(), [4, 5, 6], place=(3.0, 4.0, 5.0), occupancy=0.0)
    assert read_chain(pdb(atoms)).auth_seq.tolist() == [1, 2, 3, 7, 8, 9, 10]
    modelled = changed(helix(), [4, 5, 6], occupancy=0.0)  # without density, but at different positions
    assert read_chain(pdb(modelled)).sequence == ONE and not read_chain(pdb(modelled)).notes


def test_a_conformer_with_a_position_replaces_one_without() -> None:
    here, lost = changed(helix(), alt="A", occupancy=0.4), changed(helix(), alt="B", occupancy=0.6)
    text = cif([a for pair in zip(here, without(lost, [3], NOWHERE["nan"]), strict=True) for a in pair])
    (chain,) = read_chains(text).chains
    assert chain.sequence == ONE and chain.notes == ()


def test_a_chain_without_any_position_is_skipped_with_a_reason() -> None:
    text = cif(without(helix(), list(range(1, 11)), NOWHERE["nan"]), helix(chain="B", away=30))
    read = read_chains(text)
    assert [c.chain_id for c in read.chains] == ["B"]
    assert [s.reason for s in read.skipped] == ["has 10 amino acid residues, none with a position"]


@given(lost=st.sets(st.integers(1, 10), max_size=7), place=st.sampled_from(sorted(NOWHERE)))
@settings(deadline=None, max_examples=60)
def test_residues_without_a_position_are_read_as_absent_residues(lost: set[int], place: str) -> None:
    """Residues without a position give the same chain as absent residues, in files and in arrays."""
    if place == "zero" and len(lost) == 1:
        return
    kept = [a for a in helix() if a.number not in lost]
    expected = read_chain(cif(kept))
    found = read_chain(cif(without(helix(), sorted(lost), NOWHERE[place])))
    assert found.sequence == expected.sequence
    np.testing.assert_array_equal(found.ca_coords, expected.ca_coords)
    np.testing.assert_array_equal(found.residue_index, expected.residue_index)
    whole = read_chain(cif(helix()))
    coords = whole.ca_coords.copy()
    coords[[n - 1 for n in lost]] = np.nan
    array = read_chain((coords, ONE))
    assert array.sequence == expected.sequence and bool(
        array.notes and "without a position" in array.notes[0]
    ) == bool(lost)
    assert array.auth_seq.tolist() == expected.auth_seq.tolist()


@pytest.mark.parametrize("gone", [[0, 1], [4], [8, 9]])
def test_masked_coordinates_are_residues_without_a_position(gone: list[int]) -> None:
    coords = np.ma.array(read_chain(pdb(helix())).ca_coords)
    coords[gone] = np.ma.masked
    kept = [i for i in range(10) if i not in gone]
    for x in (coords, np.ma.filled(coords, np.nan), np.ma.filled(coords, np.nan).tolist()):
        chain = read_chain((x, ONE))
        assert chain.auth_seq.tolist() == [i + 1 for i in kept]
    unmasked = np.ma.array(np.asarray(coords.data), mask=np.zeros_like(coords.mask))
    assert read_chain((unmasked, ONE)).sequence == ONE and not read_chain((unmasked, ONE)).notes
    with pytest.raises(StructureError, match="no residue has a position"):
        read_chain((np.ma.masked_all((10, 3)), ONE))


def test_biotite_arrays_with_nan_positions() -> None:
    structure = pytest.importorskip("biotite.structure")
    array = structure.AtomArray(10)
    whole = read_chain(pdb(helix()))
    array.coord = whole.ca_coords.astype(np.float32)
    array.coord[:3] = np.nan
    array.chain_id[:], array.atom_name[:], array.element[:] = "A", "CA", "C"
    array.res_id, array.res_name = np.arange(1, 11), whole.residue_name
    (chain,) = read_chains(array).chains
    assert chain.auth_seq.tolist() == list(range(4, 11)) and "3 residues without a position" in chain.notes[0]
