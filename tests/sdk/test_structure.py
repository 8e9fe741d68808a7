"""Structure files become chains, or one clear error."""

from __future__ import annotations

import gzip
import io
import re
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk._chain import ALPHABET, BREAK_DISTANCE, Chain, index_with_gaps
from protemb_sdk._errors import ChainError, ProtembError, StructureError
from protemb_sdk._structure import find_structures, read_chain, read_chains

HERE = Path(__file__).resolve().parent.parent / "structures"
SAME_IN_BOTH_FORMATS = (
    "auth_seq",
    "insertion_code",
    "residue_name",
    "ca_coords",
    "residue_index",
    "label_seq",
)


def pdb_line(
    number: int, x: float = 0.0, *, name: str = " CA ", residue: str = "ALA", chain: str = "A",
    record: str = "ATOM", code: str = " ", alt: str = " ", occupancy: float = 1.0, element: str = "C",
    y: float = 0.0,
) -> str:  # fmt: skip
    return (
        f"{record:6}{1:5} {name}{alt}{residue:>3} {chain}{number:4}{code}   "
        f"{x:8.3f}{y:8.3f}{0.0:8.3f}{occupancy:6.2f}{10.0:6.2f}          {element:>2}  \n"
    )


def trace(length: int, **options: str) -> str:
    return "".join(pdb_line(i + 1, 3.8 * i, **options) for i in range(length))  # type: ignore[arg-type]


def read_text(text: str, **options: object) -> Chain:
    return read_chain(text.encode(), **options)


def assert_same(a: Chain, b: Chain, *fields: str) -> None:
    assert a.sequence == b.sequence
    for field in fields or SAME_IN_BOTH_FORMATS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=f"{a.id} {field}")


# --- formats ------------------------------------------------------------------------------------


def test_a_chain_has_its_names_numbers_and_modified_residues(structures: Path) -> None:
    chain = read_chain(structures / "1a8o.cif")
    assert (chain.id, chain.chain, chain.label_chain, len(chain)) == ("1a8o_A", "A", "A", 70)
    assert chain.sequence.startswith("MDIRQGPKEPFRDYVDRFYKTLRAEQ")
    assert chain.residue_name[0] == "MSE"
    assert (chain.auth_seq[0], chain.label_seq[0], chain.residue_index[-1]) == (151, 1, 69)
    assert chain.ca_coords.dtype == np.float64
    np.testing.assert_allclose(chain.ca_coords[0], [20.255, 33.101, 26.891])
    assert chain.notes == ()


@pytest.mark.parametrize("entry", ["1a8o", "1lcd"])
def test_pdb_and_mmcif_give_the_same_chain(structures: Path, entry: str) -> None:
    pdb, cif = (read_chains(next(structures.glob(f"{entry}.{ending}*"))) for ending in ("pdb", "cif"))
    assert [c.id for c in pdb.chains] == [c.id for c in cif.chains]
    assert [(s.chain, s.reason) for s in pdb.skipped] == [(s.chain, s.reason) for s in cif.skipped]
    for a, b in zip(pdb.chains, cif.chains, strict=True):
        assert_same(a, b)
        assert a.label_chain == "" and b.label_chain


def test_mmjson_is_the_same_as_mmcif(structures: Path) -> None:
    document = gemmi.cif.read(str(structures / "1a8o.cif"))
    assert_same(read_chain(document.as_json(mmjson=True).encode()), read_chain(structures / "1a8o.cif"))
    assert read_chain(structures / "3wup.json.gz").sequence == "EDQVPCEKCGSLVPVWDMPEHMDYHFALELQ"


def test_long_names_are_kept(structures: Path) -> None:
    structure = gemmi.read_structure(str(structures / "1a8o.cif"))
    structure[0][0].name = "a_long_chain_name"
    structure[0][0][-1].name = "A1LONGNAME"
    text = structure.make_mmcif_document().as_string()
    chain = read_chain(text.encode(), "a_long_chain_name")
    assert_same(chain, read_chain(structures / "1a8o.cif"))
    assert chain.id == "1A8O_a_long_chain_name"


def test_the_format_is_told_by_content_not_by_name(small_structure: Path, tmp_path: Path) -> None:
    expected = read_chain(small_structure)
    data = small_structure.read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    for name, content in (("x.ent", data), ("x", data), ("x.pdb1", gzip.compress(data)), ("y.cif", data)):
        (tmp_path / name).write_bytes(content)
        chain = read_chain(tmp_path / name)
        assert chain.name == name[0]
        assert_same(chain, expected)


def test_every_kind_of_input_gives_the_same_chain(structures: Path) -> None:
    path = structures / "1a8o.cif"
    expected = read_chain(path)
    with open(path) as text, open(path, "rb") as binary:
        inputs = [str(path), path.read_bytes(), text, binary, io.BytesIO(gzip.compress(path.read_bytes()))]
        chains = [read_chain(x) for x in inputs]
    structure = gemmi.read_structure(str(path))
    chains.append(read_chain(structure))
    for chain in chains:
        assert_same(chain, expected)
    assert [c.name for c in chains] == ["1a8o", "1A8O", "1A8O", "1A8O", "1A8O", "1A8O"]
    assert read_chain(expected) is expected
    assert read_chain(path, name="mine").name == read_chain(expected, name="mine").name == "mine"


def test_a_gemmi_structure_is_left_as_it_was(structures: Path) -> None:
    structure = gemmi.read_structure(str(structures / "1lcd.pdb.gz"))
    before = structure.make_pdb_string()
    read_chain(structure, model=2)
    assert len(structure) == 3 and structure.make_pdb_string() == before


@pytest.mark.parametrize(
    ("name", "stem"),
    [("1a8o.cif.gz", "1a8o"), ("1A8O.PDB", "1A8O"), ("pdb1a8o.ent.gz", "pdb1a8o"), ("a.b.mmcif", "a.b"),
     ("x.pdb12", "x"), ("noending", "noending"), (".cif", ".cif")],
)  # fmt: skip
def test_the_name_is_the_file_name_without_endings(tmp_path: Path, name: str, stem: str) -> None:
    (tmp_path / name).write_text(trace(4))
    assert read_chain(tmp_path / name).name == stem


def test_bytes_without_an_entry_name_are_called_structure() -> None:
    assert read_text(trace(4)).name == "structure"


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_bom_carriage_returns_and_foreign_letters_do_no_harm(structures: Path, ending: str) -> None:
    text = "REMARK   1 caf\xe9 \n" + trace(4)
    data = b"\xef\xbb\xbf" + text.replace("\n", ending).encode("latin-1")
    assert len(read_chain(data)) == 4
    cif = (structures / "1a8o.cif").read_bytes().replace(b"HIV", b"\xe9\xffV", 1)
    assert len(read_chain(cif)) == 70


# --- real files that strict readers refuse --------------------------------------------------------


def test_malformed_far_right_columns_are_overlooked_and_noted(structures: Path) -> None:
    with pytest.raises(RuntimeError, match="charge"):
        gemmi.read_pdb(str(structures / "pdb1gdr.ent"))
    chain = read_chain(structures / "pdb1gdr.ent")  # C-alphas only
    assert len(chain) == 105 and chain.chain == ""
    assert len(chain.notes) == 1 and "columns right of 72 were overlooked" in chain.notes[0]


def test_missing_polymer_information_does_not_matter(structures: Path) -> None:
    expected = read_chain(structures / "1a8o.pdb")
    kept = [x for x in (structures / "1a8o.pdb").read_text().splitlines() if x[:6] in ("ATOM  ", "HETATM")]
    assert_same(read_text("\n".join(kept)), expected, "ca_coords", "auth_seq", "residue_index")
    assert (read_text("\n".join(kept)).label_seq == -1).all()
    ca_only = [x for x in kept if x[12:16] == " CA "]
    assert_same(read_text("\n".join(ca_only)), expected, "ca_coords", "auth_seq", "residue_index")
    block = gemmi.cif.read(str(structures / "1a8o.cif")).sole_block()
    for category in block.get_mmcif_category_names():
        if category != "_atom_site.":
            block.find_mmcif_category(category).erase()
    assert_same(read_text(block.as_string()), expected)


def test_a_chain_in_several_parts_is_one_chain() -> None:
    parts = trace(3) + trace(3, chain="B") + "".join(pdb_line(i + 1, 3.8 * i) for i in range(3, 6))
    read = read_chains(parts.encode())
    assert [(c.chain, len(c)) for c in read.chains] == [("A", 6), ("B", 3)]
    assert read.chains[0].residue_index.tolist() == [0, 1, 2, 3, 4, 5]


def test_repeated_numbers_lose_nothing_and_are_noted() -> None:
    second = "".join(pdb_line(i + 1, 3.8 * i, y=50.0) for i in range(4))
    chain = read_text(trace(4) + "TER\n" + second)
    assert len(chain) == 8 and "residue numbers repeat" in chain.notes[0]
    chain = read_text(trace(4) + second)  # without TER nothing tells the two apart
    assert len(chain) == 4 and "taken as one" in chain.notes[0]


# --- which residues -------------------------------------------------------------------------------


def test_calcium_is_no_c_alpha_with_or_without_element() -> None:
    for element in ("CA", "  "):
        ion = pdb_line(99, 50.0, name="CA  ", residue="CA", record="HETATM", element=element)
        assert read_text(trace(4) + ion).sequence == "AAAA"
    shifted = trace(4, name="CA  ", element="  ")  # the carbon's name in the calcium's column
    assert read_text(shifted).sequence == "AAAA"


@pytest.mark.parametrize(
    ("residue", "letter"),
    [("MSE", "M"), ("SEP", "S"), ("TPO", "T"), ("HYP", "P"), ("DAL", "A"), ("HIE", "H"), ("HSD", "H"),
     ("CYX", "C"), ("UNK", "X"), ("SEC", "X"), ("ASX", "X")],
)  # fmt: skip
def test_residue_names_become_letters(residue: str, letter: str) -> None:
    chain = read_text(trace(3) + pdb_line(4, 11.4, residue=residue) + pdb_line(5, 15.2))
    assert chain.sequence == f"AAA{letter}A"
    assert chain.residue_name[3] == residue
    assert any("unknown" in note for note in chain.notes) == (letter == "X")


def test_a_modified_residue_of_unknown_name_takes_the_letter_of_modres() -> None:
    odd = "".join(
        pdb_line(4, x, name=name, residue="QQ9", element=name[1])
        for name, x in ((" N  ", 10.2), (" CA ", 11.4), (" C  ", 12.6))
    )
    assert read_text(trace(3) + odd).sequence == "AAAX"
    modres = "MODRES 1ABC QQ9 A    4  LYS  ODD LYSINE                                       \n"
    assert read_text(modres + trace(3) + odd).sequence == "AAAK"


def residue_lines(number: int, x: float, residue: str, record: str) -> str:
    """N, CA, C on a line, so that the next residue 3.8 further is bonded."""
    parts = ((" N  ", x - 1.2), (" CA ", x), (" C  ", x + 1.2))
    return "".join(
        pdb_line(number, at, name=name, residue=residue, record=record, element=name[1]) for name, at in parts
    )


def test_a_peptide_bond_tells_a_modified_residue_from_a_ligand() -> None:
    protein = "".join(residue_lines(i, 3.8 * i, "ALA", "ATOM") for i in (1, 2, 4, 5))
    bonded = residue_lines(3, 11.4, "ZZZ", "HETATM")
    loose = residue_lines(90, 60.0, "GLU", "HETATM") + residue_lines(91, 70.0, "SAH", "HETATM")
    chain = read_text(protein + "TER\n" + bonded + loose)
    assert chain.auth_seq.tolist() == [1, 2, 3, 4, 5]  # in its place, though listed after the end
    assert chain.sequence == "AAXAA" and chain.residue_index.tolist() == [0, 1, 2, 3, 4]


def test_insertion_codes_are_residues(structures: Path) -> None:
    chain = read_chain(structures / "1orc.pdb")
    at = chain.auth_seq == 56
    assert chain.insertion_code[at].tolist() == ["", "A", "B", "C", "D", "E"]
    assert (np.diff(chain.residue_index) == 1).all()
    heavy = read_chain(structures / "4zhl.cif.gz", "U")
    assert len(heavy) == 247 and (heavy.insertion_code != "").sum() == 19


def test_residues_without_c_alpha_are_left_out_and_noted() -> None:
    chain = read_text(trace(4) + pdb_line(5, 15.2, name=" N  ", element="N"))
    assert len(chain) == 4
    assert chain.notes == ("1 residue without C-alpha left out: ALA 5",)


def test_gaps_show_in_the_index_only_where_the_chain_is_broken() -> None:
    gap = read_text(trace(3) + pdb_line(10, 30.0) + pdb_line(11, 33.8))
    assert gap.residue_index.tolist() == [0, 1, 2, 9, 10]
    scheme = read_text(trace(3) + pdb_line(10, 11.4) + pdb_line(11, 15.2))
    assert scheme.residue_index.tolist() == [0, 1, 2, 3, 4]


# --- what is skipped ------------------------------------------------------------------------------


def test_what_is_not_protein_is_skipped_with_its_reason(structures: Path) -> None:
    read = read_chains(structures / "1lcd.cif.gz")
    path = structures / "1lcd.cif.gz"
    assert [str(s) for s in read.skipped] == [
        f"{path}, chain B: is nucleic acid (DNA), not protein",
        f"{path}, chain C: is nucleic acid (DNA), not protein",
    ]
    text = (
        trace(4)
        + trace(2, chain="B")
        + pdb_line(1, residue="HOH", chain="C", record="HETATM", name=" O  ", element="O")
        + pdb_line(1, residue="ATP", chain="D", record="HETATM", name=" PG ", element="P")
        + trace(4, chain="E", name=" N  ", element="N")
        + trace(4, chain="F", residue="NAG", name=" C1 ", record="HETATM")
        + trace(4, chain="G", residue="  U", name=" P  ", element="P")
    )
    read = read_chains(text.encode())
    assert [c.chain for c in read.chains] == ["A"]
    assert {s.chain: s.reason for s in read.skipped} == {
        "B": "has 2 residues, fewer than min_residues=3",
        "C": "holds waters only",
        "D": "holds ligands, ions or waters only",
        "E": "has 4 amino acid residues, none with a C-alpha",
        "F": "is sugar, not protein",
        "G": "is nucleic acid (RNA), not protein",
    }
    assert [c.chain for c in read_chains(text.encode(), min_residues=1).chains] == ["A", "B"]


def test_a_chain_is_chosen_by_author_name_then_label_name(structures: Path) -> None:
    path = structures / "4zhl.cif.gz"
    assert read_chain(path, "P").chain == "P"
    assert read_chain(path, "B").chain == "P"  # label name
    with pytest.raises(ChainError, match=r"4zhl: holds 2 protein chains, name one of them: U, P"):
        read_chain(path)
    with pytest.raises(ChainError, match=r"4zhl: there is no chain 'Q'; protein chains: U, P"):
        read_chain(path, "Q")
    # Author chain C is DNA; label chain C would be the protein: the author's name wins.
    with pytest.raises(ChainError, match=r"chain C was skipped: is nucleic acid \(DNA\)"):
        read_chain(structures / "1lcd.cif.gz", "C")
    with pytest.raises(StructureError, match=r"holds no protein chain to embed \(chain A: has 2 residues"):
        read_text(trace(2))
    assert read_text(trace(4, chain=" ") + trace(4, chain="B"), chain="").chain == ""


# --- models and conformers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1lcd.pdb.gz", "1lcd.cif.gz"])
def test_models_are_counted_from_one(structures: Path, name: str) -> None:
    chains = [read_chain(structures / name, model=i) for i in (1, 2, 3)]
    assert len({c.sequence for c in chains}) == 1
    assert not np.array_equal(chains[0].ca_coords, chains[1].ca_coords)
    for model in (0, 4, -1):
        with pytest.raises(StructureError, match=f"{name}: has 3 models, so model={model} is not there"):
            read_chain(structures / name, model=model)


def test_a_model_without_atoms_is_an_error() -> None:
    with pytest.raises(StructureError, match="model 2 holds no atoms"):
        read_text("MODEL        1\n" + trace(4) + "ENDMDL\nMODEL        2\nENDMDL\n", model=2)


def test_alternate_conformations_follow_the_policy(structures: Path) -> None:
    def site(altloc: str) -> tuple[float, float]:
        chain = read_chain(structures / "4hhh_frag.pdb", "C", altloc=altloc)
        return chain.auth_seq.tolist().index(247), float(chain.ca_coords[chain.auth_seq == 247][0, 0])

    assert site("highest")[1] == site("first")[1] == site("A")[1] == 15.167
    assert site("B")[1] == 15.096
    assert site("Z") == site("highest")

    for occupancies, expected in (((0.4, 0.6), 2.0), ((0.6, 0.4), 1.0), ((0.5, 0.5), 1.0)):
        pair = "".join(
            pdb_line(4, 11.4, y=y, alt=a, occupancy=o)
            for a, y, o in zip("AB", (1.0, 2.0), occupancies, strict=True)
        )
        chain = read_text(trace(3) + pair)
        assert len(chain) == 4 and chain.ca_coords[3, 1] == expected
        assert read_text(trace(3) + pair, altloc="first").ca_coords[3, 1] == 1.0
    with pytest.raises(StructureError, match="'highest', 'first' or one letter"):
        read_text(trace(4), altloc="best")


def test_a_site_with_several_residue_types_is_one_residue(structures: Path) -> None:
    default = read_chain(structures / "3jqh.cif")
    assert len(default) == 23 and (np.diff(default.auth_seq) == 1).all()
    at = default.sequence.index("LTRL") + 3 - 1  # ARG (A, 0.50), GLN (B, 0.33), GLU (C, 0.17)
    assert [read_chain(structures / "3jqh.cif", altloc=a).sequence[at] for a in ("A", "B", "C")] == [
        "R",
        "Q",
        "E",
    ]
    assert default.sequence[at] == "R"
    # Same number, other type, but no conformer letters: two residues, badly numbered.
    assert read_text(trace(3) + pdb_line(3, 11.4, residue="GLY")).sequence == "AAAG"


# --- arrays and Biotite ---------------------------------------------------------------------------


def test_arrays_are_taken_as_they_are() -> None:
    coords = np.arange(6, dtype=np.float32).reshape(2, 3)
    chain = read_chain((coords, "mB"))
    assert (chain.name, chain.chain, chain.sequence) == ("array", "", "MX")
    assert chain.residue_index.tolist() == [0, 1] and chain.auth_seq.tolist() == [1, 2]
    assert chain.residue_name.tolist()[0] == "MET"
    chain = read_chain((coords.tolist(), "AC", [4, 9]), name="mine")
    assert chain.residue_index.tolist() == [0, 5] and chain.auth_seq.tolist() == [5, 10]
    assert len(read_chain((coords[:1], "A"))) == 1
    coords += 100
    assert chain.ca_coords.max() == 5  # a copy


@pytest.mark.parametrize(
    ("x", "match"),
    [
        ((np.zeros((3, 3)), "AC"), r"shape \(3, 3\) do not match a sequence of 2"),
        ((np.zeros((2, 2)), "AC"), r"shape \(2, 2\)"),
        ((np.zeros((0, 3)), ""), "no residue"),
        ((np.full((2, 3), np.nan), "AC"), "2 of 2 C-alpha coordinates are not finite"),
        ((np.full((2, 3), np.inf), "AC"), "not finite"),
        ((np.zeros((2, 3)), "AC", [1, 1]), "increase strictly"),
        ((np.zeros((2, 3)), "AC", [0, 2**40]), "32 bits"),
        ((np.zeros((2, 3)), "AC", [0.5, 1]), "one integer"),
        ((np.zeros((2, 3)), "AC", [1]), "one integer for each of 2"),
        (("xyz", "AC"), "must be numbers"),
        ((np.zeros((2, 3)),), "pass a tuple"),
        ((np.zeros((2, 3)), ["A", "C"]), "pass a tuple"),
        (5, "cannot read a structure from int; pass a path, bytes"),
        (None, "NoneType"),
        (np.zeros((2, 3)), "ndarray"),
    ],
)
def test_wrong_arguments_are_named(x: object, match: str) -> None:
    with pytest.raises(StructureError, match=match):
        read_chain(x)


@pytest.mark.parametrize("name", ["1a8o.cif", "4zhl.cif.gz", "1lcd.cif.gz", "3jqh.cif"])
def test_biotite_arrays_give_the_same_chains(structures: Path, name: str) -> None:
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    data = (structures / name).read_bytes()
    data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
    file = pdbx.CIFFile.read(io.StringIO(data.decode()))
    fields = ["occupancy", "label_asym_id"]
    array = pdbx.get_structure(file, model=1, altloc="all", extra_fields=fields, use_author_fields=True)
    expected, read = read_chains(structures / name), read_chains(array, name="x")
    assert [(c.chain, c.label_chain) for c in read.chains] == [
        (c.chain, c.label_chain) for c in expected.chains
    ]
    for a, b in zip(read.chains, expected.chains, strict=True):
        assert_same(a, b, "auth_seq", "insertion_code", "residue_name", "residue_index")
        np.testing.assert_allclose(a.ca_coords, b.ca_coords, atol=1e-5)
    if name == "1lcd.cif.gz":
        moved = array.copy()
        moved.coord = moved.coord + np.float32(5)
        stack = pytest.importorskip("biotite.structure").stack([array, array, moved])
        third = read_chain(stack, model=3).ca_coords
        np.testing.assert_allclose(third, expected.chains[0].ca_coords + 5, atol=1e-4)
        with pytest.raises(StructureError, match="has 3 models"):
            read_chain(stack, model=4)
        with pytest.raises(StructureError, match="has 1 model,"):
            read_chain(array, model=2)


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (gzip.compress(b""), "is empty"),
        (gzip.compress(trace(50).encode())[:-20], "gzip stream is damaged or truncated"),
        (b"\x1f\x8b\x08garbage", "gzip stream is damaged"),
        (gzip.compress(trace(50).encode()) + b"tail", "gzip stream is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"PK\x03\x04" + bytes(50), "a zip archive; unpack it first"),
        (b"<!DOCTYPE html><html>404</html>", "HTML or XML document"),
        (b"HEADER    HYDROLASE\nEND\n", "without ATOM records"),
        (b"ATOM      1  CA  ALA A   1\n", "not a valid PDB file .*line 1"),
        (b"hello", "not a structure file .it starts with b'hello'"),
        (b"data_x\nloop_\n_atom_site.id 'x\n", "not a valid mmCIF file"),
        (b"data_x\n_cell.length_a 1\n", "no _atom_site table"),
        (b"data_ALA\nloop_\n_chem_comp_atom.comp_id\nALA\n", "chemical component"),
        (b"data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1 2\n", "holds no atoms"),
        (b'{"data_x": 5', "not a valid mmJSON file"),
        (b'{"pae": [[1, 2]]}', "mmJSON|_atom_site"),
        (bytes(range(256)) * 4, "not a structure file"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_one_clear_sentence(tmp_path: Path, data: bytes, match: str) -> None:
    (tmp_path / "bad.cif").write_bytes(data)
    with pytest.raises(StructureError, match=match) as caught:
        read_chains(tmp_path / "bad.cif")
    assert "bad.cif" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400
    with pytest.raises(StructureError, match=match):
        read_chains(data)


def test_paths_that_lead_nowhere_are_named(tmp_path: Path, structures: Path) -> None:
    with pytest.raises(StructureError, match=r"nothing\.pdb: no such file"):
        read_chains(tmp_path / "nothing.pdb")
    with pytest.raises(StructureError, match="is a folder"):
        read_chains(tmp_path)
    with pytest.raises(StructureError, match="cannot be read"):
        read_chains("x\0y")
    with (
        open(structures / "1lcd.pdb.gz", encoding="utf-8") as wrong,
        pytest.raises(StructureError, match="'rb'"),
    ):
        read_chains(wrong)
    with pytest.raises(StructureError, match="cannot be read"):
        read_chains(wrong)  # closed
    with pytest.raises(StructureError, match="BinaryCIF"):
        read_chains(structures / "3jqh.bcif.gz")


@pytest.mark.parametrize("field", ["     NaN", "********", "        ", "   1.2x4", "     inf"])
def test_garbled_coordinates_are_an_error_in_pdb(field: str) -> None:
    line = pdb_line(5, 15.2)
    text = trace(4) + line[:38] + field + line[46:]
    with pytest.raises(StructureError, match="C-alpha in line 5 are not numbers"):
        read_text(text)


@pytest.mark.parametrize("value", ["nan", "?", ".", "****"])
def test_garbled_coordinates_are_an_error_in_mmcif(structures: Path, value: str) -> None:
    text = (structures / "1a8o.cif").read_text()
    assert text.count("20.255 33.101") == 1
    with pytest.raises(
        StructureError,
        match=r"1A8O: holds no .*chain A: 1 of 70 C-alpha coordinates are not finite, the first",
    ):
        read_text(text.replace("20.255 33.101", f"{value} 33.101"))


def test_one_bad_chain_does_not_take_the_others_along(structures: Path) -> None:
    text = gzip.decompress((structures / "4zhl.cif.gz").read_bytes()).decode()
    line = next(row for row in text.splitlines() if row.startswith("ATOM") and " CA " in row and " P " in row)
    x = line.split()[10]
    read = read_chains(text.replace(line, line.replace(x, "?".ljust(len(x)), 1)).encode())
    assert [chain.chain for chain in read.chains] == ["U"]
    assert [skipped.chain for skipped in read.skipped if skipped.error] == ["P"]
    assert "1 of 10 C-alpha coordinates are not finite" in read.skipped[0].reason


def test_the_c_alphas_own_occupancy_decides(structures: Path) -> None:
    """Summed over atoms, the larger side chain would win."""
    text = trace(2)
    text += pdb_line(3, 7.6, residue="SER", alt="A", occupancy=0.7)
    text += pdb_line(3, 7.7, residue="TRP", alt="B", occupancy=0.3)
    for atom in (" CB ", " CG ", " CD1", " CD2", " CE2"):
        text += pdb_line(3, 9.0, name=atom, residue="TRP", alt="B", occupancy=0.3)
    assert read_text(text + pdb_line(4, 11.4)).sequence == "AASA"


def test_c_alphas_alone_keep_their_modified_residues(structures: Path) -> None:
    pdb = pytest.importorskip("biotite.structure.io.pdb")
    array = pdb.PDBFile.read(str(structures / "1a8o.pdb")).get_structure(model=1)
    whole = read_chain(structures / "1a8o.pdb")
    bare = read_chain(array[array.atom_name == "CA"])
    assert bare.sequence == whole.sequence
    np.testing.assert_array_equal(bare.residue_index, whole.residue_index)


def test_arrays_that_are_probably_something_else_say_so(structures: Path) -> None:
    chain = read_chain(structures / "pdb1gdr.ent")
    assert not read_chain((chain.ca_coords, chain.sequence, chain.residue_index)).notes
    (note,) = read_chain((chain.ca_coords, chain.sequence)).notes
    assert "broken 2 times" in note
    (note,) = read_chain((chain.ca_coords / 10, chain.sequence)).notes
    assert "nanometres" in note


@pytest.mark.parametrize(("sequence", "letters"), [("AÅA", "AXA"), ("AßA", "AXA"), ("a☃g", "AXG")])
def test_letters_beyond_ascii_are_unknown_residues(sequence: str, letters: str) -> None:
    assert read_chain((np.arange(9.0).reshape(3, 3), sequence)).sequence == letters


def test_large_and_zero_coordinates_are_no_error() -> None:
    assert len(read_text("".join(pdb_line(i, 0.0) for i in range(1, 5)))) == 4
    assert len(read_text("".join(pdb_line(i, 9999.0 * (-1) ** i / 2) for i in range(1, 5)))) == 4


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_gives_its_structure_files_sorted(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no structure file in this folder"):
        find_structures(tmp_path)
    names = ["b.PDB", "a/x.cif.gz", "a/y.ent", "c.mmcif", "d.json.gz", "e.pdb1", "f.mmjson"]
    others = ["readme.txt", "x.gz", "._b.pdb", "a/pdb", "t.tar.gz"]
    (tmp_path / "a").mkdir()
    (tmp_path / "folder.pdb").mkdir()
    for name in names + others:
        (tmp_path / name).touch()
    found = find_structures(tmp_path)
    assert found == sorted(tmp_path / name for name in names)
    assert find_structures(found[0]) == [found[0]]
    with pytest.raises(StructureError, match="no such folder"):
        find_structures(tmp_path / "nothing")


# --- laws -----------------------------------------------------------------------------------------

SEEDS = [
    (HERE / "1a8o.pdb").read_bytes()[-60_000:-40_000],
    (HERE / "1a8o.pdb").read_bytes()[:9_000] + trace(9).encode(),
]
CIF_SEED = (HERE / "3jqh.cif").read_bytes()
ATOMS = CIF_SEED.index(b"_atom_site.group_PDB") - 12
CIF_SEED = b"data_x\n#\n" + CIF_SEED[ATOMS : ATOMS + 9_000].rsplit(b"\n", 1)[0] + b"\n#\n"


@settings(max_examples=150, deadline=None)
@given(
    seed=st.sampled_from([*SEEDS, CIF_SEED]),
    edits=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.binary(min_size=1, max_size=4)), max_size=12
    ),
    cut=st.floats(0.2, 1),
    zipped=st.booleans(),
)
def test_damaged_bytes_give_chains_or_one_of_our_errors(
    seed: bytes, edits: list[tuple[float, bytes]], cut: float, zipped: bool
) -> None:
    data = bytearray(seed)
    for where, what in edits:
        at = int(where * len(data))
        data[at : at + len(what)] = what
    content = bytes(data[: int(cut * len(data))])
    if zipped:
        content = gzip.compress(content, mtime=0)
        content = content[: max(3, int(cut * len(content)))]
    try:
        read = read_chains(content)
    except ProtembError as error:
        assert "\n" not in str(error)
        return
    for chain in read.chains:
        assert np.isfinite(chain.ca_coords).all()
        assert chain.residue_index[0] == 0 and (np.diff(chain.residue_index) > 0).all()
        assert set(chain.sequence) <= set(ALPHABET)


@settings(deadline=None)
@given(
    steps=st.lists(st.tuples(st.floats(0, 50), st.integers(-30, 2000)), min_size=1, max_size=60),
)
def test_the_index_starts_at_zero_and_increases(steps: list[tuple[float, int]]) -> None:
    coords = np.zeros((len(steps), 3))
    coords[:, 0] = np.cumsum([s[0] for s in steps])
    numbers = np.cumsum([s[1] for s in steps]).astype(np.int32)
    index = index_with_gaps(coords, numbers)
    assert index.dtype == np.int64 and index[0] == 0 and (np.diff(index) >= 1).all()
    unbroken = np.diff(coords[:, 0]) <= BREAK_DISTANCE
    assert (np.diff(index)[unbroken] == 1).all()


def test_importing_is_cheap_and_leaves_biotite_alone() -> None:
    code = (
        "import sys, protemb_sdk._structure as s; assert 'gemmi' not in sys.modules;"
        "s.read_chains(sys.argv[1]); assert 'biotite' not in sys.modules"
    )
    paths = [p for p in sys.path if p]
    subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {paths!r}\n{code}", str(HERE / "1a8o.pdb")],
        check=True,
    )


def test_reading_adds_little_to_the_parsing(structures: Path) -> None:
    data = gzip.decompress((structures / "4zhl.cif.gz").read_bytes())  # 257 residues, 2080 atoms

    def best(run: object) -> float:
        times = []
        for _ in range(7):
            start = time.perf_counter()
            run()  # type: ignore[operator]
            times.append(time.perf_counter() - start)
        return min(times)

    extra = best(lambda: read_chains(data)) - best(lambda: gemmi.read_structure_string(data))
    assert extra < 0.02, f"{extra * 1000:.1f} ms"  # 3 ms on an idle core


# --- every file of the shared data ----------------------------------------------------------------


def test_every_shared_structure_gives_chains_or_a_reason(shared_data: Path) -> None:
    files = sorted(p for p in (shared_data / "structures").rglob("*.gz")) + sorted(
        p for p in (shared_data / "structures").rglob("*") if p.is_file() and p.suffix != ".gz"
    )
    failures: Counter[str] = Counter()
    files_with_chains = chains = 0
    for path in files:
        try:
            read = read_chains(path)
        except StructureError as error:
            message = str(error)
            assert message.startswith(str(path)) and "\n" not in message
            failures[re.sub(r"\(.*", "", message.removeprefix(f"{path}: ")).strip()] += 1
            continue
        assert read.chains or read.skipped
        files_with_chains += bool(read.chains)
        chains += len(read.chains)
    assert len(files) == 1097
    assert files_with_chains >= 919 and chains >= 1414
    assert sum(failures.values()) <= 151
    reasons = (
        "this is an HTML or XML document", "this is what macOS keeps", "describes a chemical component",
        "holds no _atom_site table", "a PDB file without ATOM records",
    )  # fmt: skip
    assert all(message.startswith(reasons) for message in failures), failures


@pytest.mark.parametrize(
    "entry",
    ["1a4w", "1fdo", "1j59", "4hhb", "5pti", "2XHE", "1LVZ", "1M4X", "1U19", "3PQR", "4opj", "1CRN"],
)
def test_every_shared_pair_of_formats_agrees(shared_data: Path, entry: str) -> None:
    folder = shared_data / "structures" / "mixed"
    found = [p for p in folder.iterdir() if re.sub(r"^\w+?_|\..*", "", p.name).lower() == entry.lower()]
    reads = [read_chains(p, name=entry) for p in found]
    assert len({p.name.split(".")[1] for p in found}) == 2
    for read in reads[1:]:
        assert [c.id for c in read.chains] == [c.id for c in reads[0].chains]
        reasons, others = ({(s.chain, s.reason) for s in r.skipped} for r in (read, reads[0]))
        assert reasons == others
        for a, b in zip(read.chains, reads[0].chains, strict=True):
            assert_same(a, b)
