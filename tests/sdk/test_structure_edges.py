"""Boundary cases of the rules for reading structures."""

from __future__ import annotations

import gzip
import time
from pathlib import Path
from types import SimpleNamespace

import gemmi
import numpy as np
import pytest

from protemb_sdk import ChainError, StructureError
from protemb_sdk._structure.reader import read_chain, read_chains

from .structure_text import a_chain, pdb_line, read_text, trace

TER = "TER\n"  # gemmi reads what follows as a ligand


def backbone(number: int, x: float, *, n: float, c: float, residue: str = "ALA", record: str = "ATOM") -> str:
    """Return a residue with its C-alpha at x, and N and C at the given distances before and after it."""
    return "".join(
        pdb_line(number, x + at, name=name, residue=residue, record=record, element=name.strip()[0])
        for name, at in ((" N  ", -n), (" CA ", 0.0), (" C  ", c))
    )


def peptide(length: int) -> str:
    """Return residues on a line with bonds of 1.3 angstrom."""
    return "".join(backbone(i + 1, 3.8 * i, n=1.25, c=1.25) for i in range(length))


@pytest.mark.parametrize(("bond", "bonded"), [(1.9, True), (2.1, False)])
@pytest.mark.parametrize("after", [True, False])
def test_bonds_are_at_most_two_angstrom_long(bond: float, bonded: bool, after: bool) -> None:
    # C of the last is at 7.6 + 1.25; N of the first at -1.25.
    place = 7.6 + 1.25 + bond + 1.25 if after else -1.25 - bond - 1.25
    ligand = backbone(9, place, n=1.25, c=1.25, residue="ZZZ", record="HETATM")
    chain = read_text(peptide(3) + TER + ligand)
    assert len(chain) == 3 + bonded
    if bonded:
        assert chain.residue_name.tolist().index("ZZZ") == (3 if after else 0)


def test_residues_bonded_to_bonded_residues_are_included() -> None:
    far, near = (
        backbone(number, 3.8 * place, n=1.25, c=1.25, residue=name, record="HETATM")
        for number, place, name in ((8, 4, "ZZ2"), (9, 3, "ZZ1"))
    )
    chain = read_text(peptide(3) + TER + far + near)
    assert chain.residue_name.tolist() == ["ALA", "ALA", "ALA", "ZZ1", "ZZ2"]
    assert chain.auth_seq.tolist() == [1, 2, 3, 9, 8]


def test_the_first_of_two_atoms_of_one_name_defines_the_bond() -> None:
    away = pdb_line(9, 90.0, name=" N  ", residue="ZZZ", record="HETATM", element="N")
    bonded = backbone(9, 3 * 3.8, n=1.25, c=1.25, residue="ZZZ", record="HETATM")
    assert len(read_text(peptide(3) + TER + bonded + away)) == 4
    assert len(read_text(peptide(3) + TER + away + bonded)) == 3


def test_residues_without_n_or_c_are_not_bonded() -> None:
    no_c = "".join(backbone(9, 11.4, n=1.25, c=1.25, residue="ZZZ", record="HETATM").splitlines(True)[:2])
    assert len(read_text(peptide(3) + TER + no_c)) == 3


@pytest.mark.parametrize("length", [1, 2, 3])
def test_single_c_alphas_of_modified_residues_need_a_neighbour(length: int) -> None:
    read = read_chains(trace(length, record="HETATM", residue="MSE").encode(), min_residues=1)
    assert [len(chain) for chain in read.chains] == ([] if length == 1 else [length])


@pytest.mark.parametrize("length", [1, 2, 3])
def test_single_c_alphas_of_arrays_need_a_neighbour(length: int) -> None:
    x = SimpleNamespace(
        coord=np.arange(length)[:, None] * np.array([[3.8, 0, 0]]), chain_id=["A"] * length,
        res_id=range(1, length + 1), res_name=["MSE"] * length, atom_name=["CA"] * length,
        element=["C"] * length, hetero=[True] * length,
    )  # fmt: skip
    read = read_chains(x, min_residues=1)
    assert [len(chain) for chain in read.chains] == ([] if length == 1 else [length])


@pytest.mark.parametrize(("step", "joined"), [(4.2, True), (4.4, False)])
def test_single_c_alphas_join_a_chain_below_the_break_distance(step: float, joined: bool) -> None:
    last = pdb_line(4, 7.6 + step, record="HETATM", residue="MSE")
    chain = read_text(trace(3) + TER + last)
    assert len(chain) == 3 + joined
    assert chain.notes == (() if joined else ("1 amino acid not bonded to the chain left out: MSE 4",))


def test_a_single_c_alpha_of_another_chain_is_not_a_neighbour() -> None:
    read = read_chains((trace(3) + pdb_line(4, 11.4, chain="B", record="HETATM", residue="MSE")).encode())
    assert [chain.chain_id for chain in read.chains] == ["A"]


def test_a_ligand_is_not_a_neighbour_of_a_single_c_alpha() -> None:
    alone, ligand = (
        pdb_line(n, 20 + 3.8 * n, record="HETATM", residue=r) for n, r in ((8, "MSE"), (9, "ZZZ"))
    )
    chain = read_text(trace(3) + TER + alone + ligand)
    assert len(chain) == 3 and "not bonded to the chain left out: MSE 8" in chain.notes[0]


@pytest.mark.parametrize("least", [0, 1])
def test_a_chain_without_residues_is_skipped_for_any_min_residues(least: int) -> None:
    water = pdb_line(1, name=" O  ", residue="HOH", record="HETATM", element="O")
    read = read_chains(water.encode(), min_residues=least)
    assert read.chains == [] and read.skipped[0].reason == "holds waters only"
    assert read.skipped[0].error is None


@pytest.mark.parametrize("length", [2, 3])
def test_chains_shorter_than_min_residues_are_skipped(length: int) -> None:
    read = read_chains(trace(length).encode(), min_residues=3)
    assert len(read.chains) == (length == 3)
    if not read.chains:
        assert read.skipped[0].reason == "has 2 residues, fewer than min_residues=3"


@pytest.mark.parametrize(("missing", "shown"), [(1, "residue "), (3, "ALA 5, ALA 6"), (4, "ALA 6, ...")])
def test_a_note_names_at_most_three_residues(missing: int, shown: str) -> None:
    lost = "".join(pdb_line(i + 4, 3.8 * (i + 3), name=" CB ") for i in range(missing))
    (note,) = read_text(trace(3) + lost).notes
    assert shown in note and ("..." in note) == (missing > 3) and ("residues" in note) == (missing > 1)


@pytest.mark.parametrize("kinds", [("DA", "DC"), ("A", "C"), ("DA", "C")])
def test_the_kind_of_nucleic_acid_is_named(kinds: tuple[str, str]) -> None:
    text = "".join(
        pdb_line(i, 6.0 * i, name=" P  ", residue=kind, element="P") for i, kind in enumerate(kinds, 1)
    )
    output = {("DA", "DC"): "DNA", ("A", "C"): "RNA", ("DA", "C"): "DNA and RNA"}[kinds]
    assert read_chains(text.encode()).skipped[0].reason == f"is nucleic acid ({output}), not protein"


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


def test_a_label_name_selects_a_chain_if_no_author_name_matches() -> None:
    content = cif([*cif_trace(3), *cif_trace(4, label="A", chain="B")])
    assert len(read_chain(content, "A")) == 3 and len(read_chain(content, "B")) == 4
    assert len(read_chain(content, "L")) == 3 and len(read_chain(content, " A ")) == 3
    with pytest.raises(ChainError, match="there is no chain 'Z'; protein chains: A, B"):
        read_chain(content, "Z")
    with pytest.raises(ChainError, match=r"holds 2 protein chains.* --chain: A, B"):
        read_chain(content)


def test_non_ascii_letters_in_mmcif_are_accepted() -> None:
    content = cif(cif_trace(3, chain="'\xe9'"))
    assert (
        read_chain(content).chain_id == "\ufffd"
        and read_chain(content.decode("latin-1").encode()).chain_id == "\xe9"
    )


def test_only_the_chain_with_too_large_numbers_is_skipped(structures: Path) -> None:
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
    assert [chain.chain_id for chain in found.chains] == ["B"]
    assert "too wide for an index of 32 bits" in found.skipped[0].reason


def test_control_characters_in_chain_names_are_escaped(structures: Path) -> None:
    block = gemmi.cif.read_string((structures / "1a8o.cif").read_text()).sole_block()
    for column in ("auth_asym_id", "label_asym_id"):
        names = block.find_loop(f"_atom_site.{column}")
        for row in range(len(names)):
            names[row] = "'\x1b]0;A'"
    (chain,) = read_chains(block.as_string().encode()).chains
    assert chain.chain_id == "\\x1b]0;A" and chain.id.isprintable()


def test_carriage_returns_as_line_ends_are_read(structures: Path) -> None:
    text = (structures / "1orc.pdb").read_bytes()
    (old,) = read_chains(text.replace(b"\r\n", b"\n").replace(b"\n", b"\r")).chains
    assert len(old) == 64


def test_zeros_after_a_gzip_stream_are_skipped_fast(structures: Path) -> None:
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
def test_other_file_types_are_recognised_after_white_space(what: bytes) -> None:
    with pytest.raises(StructureError, match="this is "):
        read_chain(what + b" " * 80)


def test_content_is_not_opened_as_a_path(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="pass the content of a file as bytes"):
        read_chain(trace(3))
    strange = tmp_path / "a\nb.pdb"
    strange.write_text(trace(3))
    assert read_chain(str(strange)).name == "a\\nb"


def test_a_given_name_has_priority_over_all_other_names(tmp_path: Path) -> None:
    file = tmp_path / "x.pdb"
    file.write_text("HEADER    HYDROLASE                               01-JAN-00   1ABC\n" + trace(3))
    assert read_chain(file).name == "x" and read_chain(file, name="y").name == "y"
    content = file.read_bytes()
    assert read_chain(content).name == "1ABC" and read_chain(content, name="y").name == "y"
    assert read_chain(a_chain(), name="y").name == "y" and read_chain(a_chain()).name == "array"
    with file.open("rb") as opened:
        assert read_chain(opened).name == "1ABC"
    assert read_chain(file).source == str(file) and read_chain(content).source == ""


def test_bonds_join_residues_of_one_chain_only() -> None:
    bonded = backbone(9, 3 * 3.8, n=1.25, c=1.25, residue="ZZZ", record="HETATM")
    other = "".join(line[:21] + "B" + line[22:] for line in bonded.splitlines(keepends=True))
    for text, chains in ((bonded, [("A", 4)]), (other, [("A", 3)])):
        read = read_chains((peptide(3) + TER + text).encode(), min_residues=1)
        assert [(chain.chain_id, len(chain)) for chain in read.chains] == chains


def test_an_atom_without_occupancy_has_occupancy_one() -> None:
    pdb = pytest.importorskip("Bio.PDB")
    builder = pdb.StructureBuilder.StructureBuilder()
    for level, name in (("structure", "x"), ("model", 0), ("chain", "A"), ("seg", " ")):
        getattr(builder, f"init_{level}")(name)
    for number, (alt, occupancy) in enumerate([("A", 0.5), ("B", 0.6), ("C", 0.7)]):
        builder.init_residue("ALA", " ", 1, " ") if not number else None
        builder.init_atom("CA", np.array([number, 0, 0], "f"), 0.0, occupancy, alt, "CA", element="C")
    structure = builder.get_structure()
    next(structure.get_residues()).get_unpacked_list()[1].occupancy = None  # as if blank in the file
    (chain,) = read_chains(structure, min_residues=1).chains
    assert chain.ca_coords.tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("second", "residues"),
    [
        ({"alt": "B"}, 1), ({"alt": "A"}, 2), ({"alt": " "}, 2), ({"alt": "B", "code": "A"}, 2),
        ({"alt": "B", "chain": "B"}, 2), ({"alt": "B", "number": 2}, 2),
    ],
)  # fmt: skip
def test_conformers_of_two_residue_types_are_one_residue(second: dict[str, object], residues: int) -> None:
    first = {"number": 1, "residue": "ALA", "alt": "A", "occupancy": 0.4}
    lines = (first, first | {"residue": "GLY", "occupancy": 0.6} | second)
    read = read_chains("".join(pdb_line(x=5.0, **each) for each in lines).encode(), min_residues=1)  # type: ignore[arg-type]
    assert sum(len(chain) for chain in read.chains) == residues
    assert residues == 2 or read.chains[0].residue_name.tolist() == ["GLY"]


def test_atoms_without_altloc_are_not_conformers() -> None:
    lines = (pdb_line(1, residue="ALA"), pdb_line(1, 3.8, residue="GLY", alt="A"))
    assert sum(map(len, read_chains("".join(lines).encode(), min_residues=1).chains)) == 2


@pytest.mark.parametrize(("code", "residues"), [(" ", 2), ("A", 3)])
def test_a_residue_of_two_types_may_follow_other_residues(code: str, residues: int) -> None:
    one, other = pdb_line(2, 3.8, alt="A"), pdb_line(2, 4, residue="GLY", alt="B", code=code)
    assert len(read_text(trace(1) + one + other, min_residues=1)) == residues
