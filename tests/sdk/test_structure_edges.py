"""Where a rule of reading begins and ends: one step to either side of each."""

from __future__ import annotations

import gzip
import time
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace

import gemmi
import numpy as np
import pytest

from protemb_sdk import Chain, ChainError, StructureError
from protemb_sdk._chain import ALPHABET, Skipped, encode_sequence, index_with_gaps, no_protein_chain
from protemb_sdk._structure import read_chain, read_chains

from .structure_text import pdb_line, read_text, trace

TER = "TER\n"  # gemmi takes what follows for a ligand


def backbone(number: int, x: float, *, n: float, c: float, residue: str = "ALA", record: str = "ATOM") -> str:
    """A residue whose C-alpha lies at x, its N and C as far before and behind."""
    return "".join(
        pdb_line(number, x + at, name=name, residue=residue, record=record, element=name.strip()[0])
        for name, at in ((" N  ", -n), (" CA ", 0.0), (" C  ", c))
    )


def peptide(length: int) -> str:
    """Residues in a line whose bonds are 1.3 angstrom long."""
    return "".join(backbone(i + 1, 3.8 * i, n=1.25, c=1.25) for i in range(length))


def a_chain(length: int = 4) -> Chain:
    return read_chain((np.arange(3.0 * length).reshape(-1, 3) * 2, "ACDE"[:length]))


@pytest.mark.parametrize(("bond", "bonded"), [(1.9, True), (2.1, False)])
@pytest.mark.parametrize("after", [True, False])
def test_a_bond_of_two_angstrom_is_the_last(bond: float, bonded: bool, after: bool) -> None:
    # C of the last is at 7.6 + 1.25; N of the first at -1.25.
    place = 7.6 + 1.25 + bond + 1.25 if after else -1.25 - bond - 1.25
    ligand = backbone(9, place, n=1.25, c=1.25, residue="ZZZ", record="HETATM")
    chain = read_text(peptide(3) + TER + ligand)
    assert len(chain) == 3 + bonded
    if bonded:
        assert chain.residue_name.tolist().index("ZZZ") == (3 if after else 0)


def test_bonded_residues_bring_others_that_are_bonded_to_them() -> None:
    far, near = (
        backbone(number, 3.8 * place, n=1.25, c=1.25, residue=name, record="HETATM")
        for number, place, name in ((8, 4, "ZZ2"), (9, 3, "ZZ1"))
    )
    chain = read_text(peptide(3) + TER + far + near)
    assert chain.residue_name.tolist() == ["ALA", "ALA", "ALA", "ZZ1", "ZZ2"]
    assert chain.auth_seq.tolist() == [1, 2, 3, 9, 8]


def test_the_first_of_two_ends_of_a_residue_counts() -> None:
    away = pdb_line(9, 90.0, name=" N  ", residue="ZZZ", record="HETATM", element="N")
    bonded = backbone(9, 3 * 3.8, n=1.25, c=1.25, residue="ZZZ", record="HETATM")
    assert len(read_text(peptide(3) + TER + bonded + away)) == 4
    assert len(read_text(peptide(3) + TER + away + bonded)) == 3


def test_without_both_ends_nothing_is_bonded() -> None:
    no_c = "".join(backbone(9, 11.4, n=1.25, c=1.25, residue="ZZZ", record="HETATM").splitlines(True)[:2])
    assert len(read_text(peptide(3) + TER + no_c)) == 3


@pytest.mark.parametrize("length", [1, 2, 3])
def test_lone_c_alphas_of_modified_residues_need_one_beside_them(length: int) -> None:
    read = read_chains(trace(length, record="HETATM", residue="MSE").encode(), min_residues=1)
    assert [len(chain) for chain in read.chains] == ([] if length == 1 else [length])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_undeclared_ones_too(length: int) -> None:
    x = SimpleNamespace(
        coord=np.arange(length)[:, None] * np.array([[3.8, 0, 0]]), chain_id=["A"] * length,
        res_id=range(1, length + 1), res_name=["MSE"] * length, atom_name=["CA"] * length,
        element=["C"] * length, hetero=[True] * length,
    )  # fmt: skip
    read = read_chains(x, min_residues=1)
    assert [len(chain) for chain in read.chains] == ([] if length == 1 else [length])


@pytest.mark.parametrize(("step", "joined"), [(4.2, True), (4.4, False)])
def test_lone_c_alphas_join_below_the_distance_of_a_break(step: float, joined: bool) -> None:
    last = pdb_line(4, 7.6 + step, record="HETATM", residue="MSE")
    chain = read_text(trace(3) + TER + last)
    assert len(chain) == 3 + joined
    assert chain.notes == (() if joined else ("1 amino acid not bonded to the chain left out: MSE 4",))


def test_a_lone_c_alpha_of_another_chain_is_not_beside() -> None:
    read = read_chains((trace(3) + pdb_line(4, 11.4, chain="B", record="HETATM", residue="MSE")).encode())
    assert [chain.chain for chain in read.chains] == ["A"]


@pytest.mark.parametrize("least", [0, 1])
def test_a_chain_of_no_residues_is_passed_over_however_few_may_do(least: int) -> None:
    water = pdb_line(1, name=" O  ", residue="HOH", record="HETATM", element="O")
    read = read_chains(water.encode(), min_residues=least)
    assert read.chains == [] and read.skipped[0].reason == "holds waters only"
    assert read.skipped[0].error is None


@pytest.mark.parametrize("length", [2, 3])
def test_chains_below_the_least_length_are_passed_over(length: int) -> None:
    read = read_chains(trace(length).encode(), min_residues=3)
    assert len(read.chains) == (length == 3)
    if not read.chains:
        assert read.skipped[0].reason == "has 2 residues, fewer than min_residues=3"


@pytest.mark.parametrize(("missing", "shown"), [(1, "residue "), (3, "ALA 5, ALA 6"), (4, "ALA 6, ...")])
def test_three_residues_are_named_and_more_are_not(missing: int, shown: str) -> None:
    lost = "".join(pdb_line(i + 4, 3.8 * (i + 3), name=" CB ") for i in range(missing))
    (note,) = read_text(trace(3) + lost).notes
    assert shown in note and ("..." in note) == (missing > 3) and ("residues" in note) == (missing > 1)


@pytest.mark.parametrize("kinds", [("DA", "DC"), ("A", "C"), ("DA", "C")])
def test_nucleic_acids_are_named(kinds: tuple[str, str]) -> None:
    text = "".join(
        pdb_line(i, 6.0 * i, name=" P  ", residue=kind, element="P") for i, kind in enumerate(kinds, 1)
    )
    said = {("DA", "DC"): "DNA", ("A", "C"): "RNA", ("DA", "C"): "DNA and RNA"}[kinds]
    assert read_chains(text.encode()).skipped[0].reason == f"is nucleic acid ({said}), not protein"


CIF = """data_x
loop_
_atom_site.group_PDB
_atom_site.id
_atom_site.type_symbol
_atom_site.label_atom_id
_atom_site.label_alt_id
_atom_site.label_comp_id
_atom_site.label_asym_id
_atom_site.label_seq_id
_atom_site.Cartn_x
_atom_site.Cartn_y
_atom_site.Cartn_z
_atom_site.auth_seq_id
_atom_site.auth_asym_id
"""


def cif(rows: list[str]) -> bytes:
    return (CIF + "\n".join(rows) + "\n").encode("latin-1")


def cif_trace(length: int, label: str = "L", chain: str = "A") -> list[str]:
    return [f"ATOM {i} C CA . ALA {label} {i} {3.8 * i} 0 0 {i + 10} {chain}" for i in range(1, length + 1)]


def test_the_label_name_of_a_chain_is_that_of_its_first_residue() -> None:
    last = "HETATM 9 C CA . MSE M . 15.2 0 0 14 A"
    chain = read_chain(cif([*cif_trace(3), last]))
    assert len(chain) == 4 and chain.label_chain == "L"
    assert chain.label_seq.tolist() == [1, 2, 3, -1] and chain.auth_seq.tolist() == [11, 12, 13, 14]


def test_a_label_name_finds_a_chain_where_no_author_name_does() -> None:
    content = cif([*cif_trace(3), *cif_trace(4, label="A", chain="B")])
    assert len(read_chain(content, "A")) == 3 and len(read_chain(content, "B")) == 4
    assert len(read_chain(content, "L")) == 3 and len(read_chain(content, " A ")) == 3
    with pytest.raises(ChainError, match="there is no chain 'Z'; protein chains: A, B"):
        read_chain(content, "Z")
    with pytest.raises(ChainError, match="holds 2 protein chains, name one of them: A, B"):
        read_chain(content)


def test_letters_beyond_ascii_in_mmcif_do_no_harm() -> None:
    content = cif(cif_trace(3, chain="'\xe9'"))
    assert (
        read_chain(content).chain == "\ufffd"
        and read_chain(content.decode("latin-1").encode()).chain == "\xe9"
    )


def biotite(**columns: object) -> SimpleNamespace:
    """Three residues by the attributes of Biotite's arrays."""
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


def test_an_unknown_residue_without_element_is_no_protein() -> None:
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


def test_other_libraries_structures_are_called_as_asked() -> None:
    assert read_chain(biotite()).name == "structure" and read_chain(biotite(), name="mine").name == "mine"
    assert read_chain(biotite()).id == "structure_A"


def test_any_change_of_name_or_number_begins_a_residue() -> None:
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
    np.testing.assert_array_equal(read_chain(x, model=2).ca_coords, first + 5)
    np.testing.assert_array_equal(read_chain(x, model=np.int64(1)).ca_coords, first)
    for model in (0, 3):
        with pytest.raises(StructureError, match=f"has 2 models, so model={model} is not there"):
            read_chain(x, model=model)
    with pytest.raises(StructureError, match="has 1 model, so model=2 is not there"):
        read_chain(biotite(), model=2)
    for wrong in (True, 1.0, "1"):
        with pytest.raises(StructureError, match="pass the position of the model"):
            read_chain(x, model=wrong)


def test_altloc_letters_of_arrays_are_conformers() -> None:
    same = {"res_id": [1, 1, 2], "res_name": ["ALA", "ALA", "GLY"], "altloc_id": ["A", "B", "."]}
    x = biotite(**same, occupancy=[0.4, 0.6, 1.0])
    unsaid = read_chains(biotite(**same), min_residues=1).chains[0]  # all atoms are as occupied
    assert unsaid.ca_coords[0, 0] == 0
    for altloc, place in (("highest", 3.8), ("first", 0.0), ("A", 0.0), ("B", 3.8), ("C", 3.8)):
        chain = read_chains(x, altloc=altloc, min_residues=1).chains[0]
        assert len(chain) == 2 and chain.ca_coords[0, 0] == place, altloc


def test_an_empty_structure_of_biopython_is_an_error() -> None:
    structure = pytest.importorskip("Bio.PDB.Structure").Structure("empty")
    with pytest.raises(StructureError, match="has 0 models, so model=1 is not there"):
        read_chain(structure)
    structure.add(pytest.importorskip("Bio.PDB.Model").Model(0))
    with pytest.raises(StructureError, match="holds no atoms"):
        read_chain(structure)


def test_numbers_too_wide_for_an_index_cost_one_chain(structures: Path) -> None:
    structure = gemmi.read_structure(str(structures / "1a8o.pdb"))
    structure.remove_ligands_and_waters()
    other = structure[0]["A"].clone()
    other.name = "B"
    structure[0].add_chain(other)
    for position, residue in enumerate(structure[0]["A"]):
        residue.seqid.num = -2_000_000_000 if position < 10 else 2_000_000_000
        residue.seqid.num += position
        for atom in residue:
            atom.pos.x += 0 if position < 10 else 50
    structure.setup_entities()
    found = read_chains(structure.make_mmcif_document().as_string().encode())
    assert [chain.chain for chain in found.chains] == ["B"]
    assert "too wide for an index of 32 bits" in found.skipped[0].reason


def test_names_of_chains_hold_no_control_characters(structures: Path) -> None:
    block = gemmi.cif.read_string((structures / "1a8o.cif").read_text()).sole_block()
    for column in ("auth_asym_id", "label_asym_id"):
        names = block.find_loop(f"_atom_site.{column}")
        for row in range(len(names)):
            names[row] = "'\x1b]0;A'"
    (chain,) = read_chains(block.as_string().encode()).chains
    assert chain.chain == "\\x1b]0;A" and chain.id.isprintable()


def test_line_ends_of_old_macs_are_read(structures: Path) -> None:
    text = (structures / "1orc.pdb").read_bytes()
    (old,) = read_chains(text.replace(b"\r\n", b"\n").replace(b"\n", b"\r")).chains
    assert len(old) == 64


def test_zeros_behind_a_gzip_stream_take_no_time(structures: Path) -> None:
    data = gzip.compress((structures / "1orc.pdb").read_bytes())
    zeros = bytes(20_000_000)
    start = time.perf_counter()
    (chain,) = read_chains(data + zeros).chains
    middle = time.perf_counter()
    at = 0
    while zeros[at : at + 1] == b"\0" and at < len(zeros) // 5:  # one by one, a fifth of them
        at += 1
    assert len(chain) == 64 and middle - start < time.perf_counter() - middle


@pytest.mark.parametrize("what", [b"<html>", b"  \n<html>", b"\xef\xbb\xbf<?xml?>", b"BZh9", b"\n%PDF"])
def test_foreign_files_are_known_behind_white_space_too(what: bytes) -> None:
    with pytest.raises(StructureError, match="this is "):
        read_chain(what + b" " * 80)


@pytest.mark.parametrize("index", [[-(2**31) + 2, -5, 0], [0, 1, 2**31 - 2], [0, 1, 2]])
def test_indices_up_to_the_limits_of_32_bits_are_taken(index: list[int]) -> None:
    chain = read_chain((np.eye(3) * 3, "AAA", index))
    assert chain.auth_seq.tolist() == [i + 1 for i in index]
    assert chain.residue_index.tolist() == [i - index[0] for i in index]


@pytest.mark.parametrize(
    "index",
    [[0, 1, 2**31 - 1], [-(2**31) + 1, 0, 1], [-(2**31) + 2, 0, 2**31 - 2], [0, 1, 1], [0, 2, 1]],
)
def test_indices_beyond_them_or_out_of_order_are_refused(index: list[int]) -> None:
    with pytest.raises(StructureError, match="increase strictly and fit into 32 bits"):
        read_chain((np.eye(3) * 3, "AAA", index))


@pytest.mark.parametrize(("step", "doubt"), [(1.8, True), (2.0, False), (0.38, True)])
def test_steps_below_half_a_virtual_bond_may_be_nanometres(step: float, doubt: bool) -> None:
    notes = read_chain((np.arange(3)[:, None] * np.array([step, 0, 0]), "AAA")).notes
    assert any("nanometres" in note for note in notes) == doubt
    assert read_chain((np.zeros((1, 3)), "A")).notes == ()


def test_breaks_without_a_gap_in_the_index_are_counted() -> None:
    coords = np.array([[0, 0, 0], [4.2, 0, 0], [8.6, 0, 0], [13.0, 0, 0]])
    (note,) = read_chain((coords, "AAAA")).notes
    assert "broken 2 times" in note
    (note,) = read_chain((coords, "AAAA", [0, 1, 2, 4])).notes
    assert "broken 1 times" in note
    assert read_chain((coords, "AAAA", [0, 1, 3, 5])).notes == ()


@pytest.mark.parametrize(("step", "number", "index"), [(4.2, 9, 1), (4.4, 9, 8), (4.4, 1, 1), (4.4, -5, 1)])
def test_numbers_are_believed_at_breaks_and_forwards(step: float, number: int, index: int) -> None:
    found = index_with_gaps(np.array([[0.0, 0, 0], [step, 0, 0]]), np.array([1, number]))
    assert found.tolist() == [0, index]


def test_every_column_of_a_chain_must_fit_its_sequence() -> None:
    chain = a_chain()
    for name in ("residue_index", "auth_seq", "insertion_code", "label_seq", "residue_name"):
        with pytest.raises(StructureError, match=f"{name} does not match the 4 residues"):
            replace(chain, **{name: getattr(chain, name)[:-1]})
    with pytest.raises(StructureError, match=r"coordinates of shape \(3, 3\) do not match"):
        replace(chain, ca_coords=chain.ca_coords[:3])
    with pytest.raises(StructureError, match="residue_index must increase strictly"):
        replace(chain, residue_index=np.array([0, 1, 1, 2]))
    with pytest.raises(StructureError, match="auth_seq does not hold numbers"):
        replace(chain, auth_seq=np.array(["a", "b", "c", "d"]))
    with pytest.raises(StructureError, match="the chain holds no residue"):
        read_chain((np.empty((0, 3)), ""))
    coords = chain.ca_coords.copy()
    coords[[1, 3], 2] = np.nan, np.inf
    with pytest.raises(StructureError, match=r"2 of 4 C-alpha .* not finite, the first at residue 2"):
        replace(chain, ca_coords=coords)


def test_a_chain_holds_arrays_of_the_types_that_it_says() -> None:
    chain = a_chain()
    again = Chain(**{f.name: getattr(chain, f.name) for f in fields(chain)} | {"auth_seq": [1, 2, 3, 4]})
    assert again.auth_seq.dtype == np.int32 and again.ca_coords.dtype == np.float64
    assert replace(chain, ca_coords=chain.ca_coords.astype(np.float32)).ca_coords.dtype == np.float64
    assert again.id == "array" and replace(again, chain="B").id == "array_B"


@pytest.mark.parametrize(("count", "rest"), [(0, "it holds no atoms"), (1, ""), (5, ""), (6, "and 1 more")])
def test_five_reasons_are_given_and_more_are_counted(count: int, rest: str) -> None:
    message = str(no_protein_chain("x", [Skipped("x", " ", f"reason {i}") for i in range(count)]))
    assert (
        message.count("reason ") == min(count, 5) and rest in message and ("more" in message) == (count > 5)
    )
    assert "chain ' ': reason 0" in message or count == 0


def test_types_are_positions_in_the_alphabet() -> None:
    assert encode_sequence(ALPHABET).tolist() == list(range(21)) == encode_sequence(ALPHABET.lower()).tolist()
    assert encode_sequence("BZ*é-").tolist() == [20] * 5


def test_a_text_that_is_no_path_is_not_looked_for(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="pass the content of a file as bytes"):
        read_chain(trace(3))
    strange = tmp_path / "a\nb.pdb"
    strange.write_text(trace(3))
    assert read_chain(str(strange)).name == "a\\nb"


def test_a_name_that_is_given_goes_before_all_others(tmp_path: Path) -> None:
    file = tmp_path / "x.pdb"
    file.write_text("HEADER    HYDROLASE                               01-JAN-00   1ABC\n" + trace(3))
    assert read_chain(file).name == "x" and read_chain(file, name="y").name == "y"
    content = file.read_bytes()
    assert read_chain(content).name == "1ABC" and read_chain(content, name="y").name == "y"
    assert read_chain(a_chain(), name="y").name == "y" and read_chain(a_chain()).name == "array"
    with file.open("rb") as opened:
        assert read_chain(opened).name == "1ABC"
    assert read_chain(file).source == str(file) and read_chain(content).source == ""


def test_bonds_join_within_a_chain_only() -> None:
    bonded = backbone(9, 3 * 3.8, n=1.25, c=1.25, residue="ZZZ", record="HETATM")
    other = "".join(line[:21] + "B" + line[22:] for line in bonded.splitlines(keepends=True))
    for text, chains in ((bonded, [("A", 4)]), (other, [("A", 3)])):
        read = read_chains((peptide(3) + TER + text).encode(), min_residues=1)
        assert [(chain.chain, len(chain)) for chain in read.chains] == chains


@pytest.mark.parametrize(
    ("second", "residues"),
    [
        ({"alt": "B"}, 1), ({"alt": "A"}, 2), ({"alt": " "}, 2), ({"alt": "B", "code": "A"}, 2),
        ({"alt": "B", "chain": "B"}, 2), ({"alt": "B", "number": 2}, 2),
    ],
)  # fmt: skip
def test_two_types_are_one_site_by_number_code_chain_and_conformers(
    second: dict[str, object], residues: int
) -> None:
    first = {"number": 1, "residue": "ALA", "alt": "A", "occupancy": 0.4}
    lines = (first, first | {"residue": "GLY", "occupancy": 0.6} | second)
    read = read_chains("".join(pdb_line(**each) for each in lines).encode(), min_residues=1)  # type: ignore[arg-type]
    assert sum(len(chain) for chain in read.chains) == residues
    assert residues == 2 or read.chains[0].residue_name.tolist() == ["GLY"]


def test_blank_conformers_are_no_conformers() -> None:
    lines = (pdb_line(1, residue="ALA"), pdb_line(1, 3.8, residue="GLY", alt="A"))
    assert sum(map(len, read_chains("".join(lines).encode(), min_residues=1).chains)) == 2


def test_arrays_have_no_chain_names_and_chains_have_theirs() -> None:
    with pytest.raises(ChainError, match="array: arrays have no chain names; leave chain='A' out"):
        read_chain((np.eye(3) * 3, "AAA"), "A")
    with pytest.raises(ChainError, match="arrays have no chain names"):
        read_chain(a_chain(), "A")
    named = replace(a_chain(), chain="B")
    assert read_chain(named, "B") is named and read_chain(named) is named
    with pytest.raises(ChainError, match="there is no chain 'A'; protein chains: B"):
        read_chain(named, "A")
    with pytest.raises(ChainError, match="pass the name of a chain, a str"):
        read_chain(named, 1)  # type: ignore[arg-type]


def test_what_was_skipped_is_equal_by_what_it_says() -> None:
    one, other = (Skipped("x", "A", "is bad", StructureError(text)) for text in "ab")
    assert one == other and "error" not in repr(one) and str(one) == "x, chain A: is bad"
    assert str(Skipped("x", " ", "is bad")) == "x, chain ' ': is bad"
    assert str(Skipped("x", "", "is bad")) == "x: is bad"


def test_an_atom_without_occupancy_is_all_there() -> None:
    pdb = pytest.importorskip("Bio.PDB")
    builder = pdb.StructureBuilder.StructureBuilder()
    for level, name in (("structure", "x"), ("model", 0), ("chain", "A"), ("seg", " ")):
        getattr(builder, f"init_{level}")(name)
    for number, (alt, occupancy) in enumerate([("A", 0.5), ("B", 0.6), ("C", 0.7)]):
        builder.init_residue("ALA", " ", 1, " ") if not number else None
        builder.init_atom("CA", np.array([number, 0, 0], "f"), 0.0, occupancy, alt, "CA", element="C")
    structure = builder.get_structure()
    next(structure.get_residues()).get_unpacked_list()[1].occupancy = None  # as files leave it blank
    (chain,) = read_chains(structure, min_residues=1).chains
    assert chain.ca_coords.tolist() == [[1, 0, 0]]
