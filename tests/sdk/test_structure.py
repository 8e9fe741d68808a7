"""Chains of structure files: formats, residues, skipped chains, models and conformers."""

from __future__ import annotations

import gzip
import io
from pathlib import Path

import gemmi
import numpy as np
import pytest

from protemb_sdk._base.errors import ChainError, StructureError
from protemb_sdk._structure.reader import read_chain, read_chains

from .structure_text import assert_same, pdb_line, read_text, trace

# --- formats ------------------------------------------------------------------------------------


def test_a_chain_has_its_names_numbers_and_modified_residues(structures: Path) -> None:
    chain = read_chain(structures / "1a8o.cif")
    assert (chain.id, chain.chain_id, chain.label_chain, len(chain)) == ("1a8o_A", "A", "A", 70)
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
    assert [(s.chain_id, s.reason) for s in pdb.skipped] == [(s.chain_id, s.reason) for s in cif.skipped]
    for a, b in zip(pdb.chains, cif.chains, strict=True):
        assert_same(a, b)
        assert a.label_chain == "" and b.label_chain


def test_mmjson_and_mmcif_give_the_same_chain(structures: Path) -> None:
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


def test_the_format_is_recognised_by_content_not_by_name(small_structure: Path, tmp_path: Path) -> None:
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


def test_a_gemmi_structure_is_not_modified(structures: Path) -> None:
    structure = gemmi.read_structure(str(structures / "1lcd.pdb.gz"))
    before = structure.make_pdb_string()
    read_chain(structure, model_number=2)
    assert len(structure) == 3 and structure.make_pdb_string() == before


@pytest.mark.parametrize(
    ("name", "stem"),
    [("1a8o.cif.gz", "1a8o"), ("1A8O.PDB", "1A8O"), ("pdb1a8o.ent.gz", "pdb1a8o"), ("a.b.mmcif", "a.b"),
     ("x.pdb12", "x"), ("noending", "noending"), (".cif", ".cif")],
)  # fmt: skip
def test_the_name_is_the_file_name_without_extensions(tmp_path: Path, name: str, stem: str) -> None:
    (tmp_path / name).write_text(trace(4))
    assert read_chain(tmp_path / name).name == stem


def test_bytes_without_an_entry_name_are_called_structure() -> None:
    assert read_text(trace(4)).name == "structure"


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_bom_carriage_returns_and_latin1_letters_are_accepted(structures: Path, ending: str) -> None:
    text = "REMARK   1 caf\xe9 \n" + trace(4)
    data = b"\xef\xbb\xbf" + text.replace("\n", ending).encode("latin-1")
    assert len(read_chain(data)) == 4
    cif = (structures / "1a8o.cif").read_bytes().replace(b"HIV", b"\xe9\xffV", 1)
    assert len(read_chain(cif)) == 70


# --- real files that strict readers refuse --------------------------------------------------------


def test_malformed_columns_right_of_72_are_ignored_and_noted(structures: Path) -> None:
    with pytest.raises(RuntimeError, match="charge"):
        gemmi.read_pdb(str(structures / "pdb1gdr.ent"))
    chain = read_chain(structures / "pdb1gdr.ent")  # C-alphas only
    assert len(chain) == 105 and chain.chain_id == ""
    assert len(chain.notes) == 1 and "columns right of 72 were overlooked" in chain.notes[0]


def test_polymer_information_is_not_needed(structures: Path) -> None:
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
    assert [(c.chain_id, len(c)) for c in read.chains] == [("A", 6), ("B", 3)]
    assert read.chains[0].residue_index.tolist() == [0, 1, 2, 3, 4, 5]


def test_chains_with_repeated_numbers_are_split_and_noted() -> None:
    second = "".join(pdb_line(i + 1, 3.8 * i, y=50.0) for i in range(4))
    for text in (trace(4) + "TER\n" + second, trace(4) + second):
        read = read_chains(text.encode())
        assert [(c.chain_id, len(c)) for c in read.chains] == [("A", 4), ("A-2", 4)]
        assert all("residue numbers that start again" in c.notes[0] for c in read.chains)


# --- residues -------------------------------------------------------------------------------------


def test_calcium_is_not_read_as_c_alpha() -> None:
    for element in ("CA", "  "):
        ion = pdb_line(99, 50.0, name="CA  ", residue="CA", record="HETATM", element=element)
        assert read_text(trace(4) + ion).sequence == "AAAA"
    shifted = trace(4, name="CA  ", element="  ")  # the name of carbon in the column of calcium
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


def test_a_modified_residue_of_unknown_name_has_the_letter_of_modres() -> None:
    odd = "".join(
        pdb_line(4, x, name=name, residue="QQ9", element=name[1])
        for name, x in ((" N  ", 10.2), (" CA ", 11.4), (" C  ", 12.6))
    )
    assert read_text(trace(3) + odd).sequence == "AAAX"
    modres = "MODRES 1ABC QQ9 A    4  LYS  ODD LYSINE                                       \n"
    assert read_text(modres + trace(3) + odd).sequence == "AAAK"


def residue_lines(number: int, x: float, residue: str, record: str) -> str:
    """Return N, CA and C on a line; the next residue, 3.8 angstrom further, is bonded."""
    parts = ((" N  ", x - 1.2), (" CA ", x), (" C  ", x + 1.2))
    return "".join(
        pdb_line(number, at, name=name, residue=residue, record=record, element=name[1]) for name, at in parts
    )


def test_a_peptide_bond_distinguishes_modified_residues_from_ligands() -> None:
    protein = "".join(residue_lines(i, 3.8 * i, "ALA", "ATOM") for i in (1, 2, 4, 5))
    bonded = residue_lines(3, 11.4, "ZZZ", "HETATM")
    loose = residue_lines(90, 60.0, "GLU", "HETATM") + residue_lines(91, 70.0, "SAH", "HETATM")
    chain = read_text(protein + "TER\n" + bonded + loose)
    assert chain.auth_seq.tolist() == [1, 2, 3, 4, 5]  # in order, although listed after TER
    assert chain.sequence == "AAXAA" and chain.residue_index.tolist() == [0, 1, 2, 3, 4]


def test_residues_with_insertion_codes_are_read(structures: Path) -> None:
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


def test_gaps_are_in_the_index_only_where_the_chain_is_broken() -> None:
    gap = read_text(trace(3) + pdb_line(10, 30.0) + pdb_line(11, 33.8))
    assert gap.residue_index.tolist() == [0, 1, 2, 9, 10]
    scheme = read_text(trace(3) + pdb_line(10, 11.4) + pdb_line(11, 15.2))
    assert scheme.residue_index.tolist() == [0, 1, 2, 3, 4]


# --- skipped chains -------------------------------------------------------------------------------


def test_chains_that_are_not_protein_are_skipped_with_a_reason(structures: Path) -> None:
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
    assert [c.chain_id for c in read.chains] == ["A"]
    assert {s.chain_id: s.reason for s in read.skipped} == {
        "B": "has 2 residues, fewer than min_residues=3",
        "C": "holds waters only",
        "D": "holds ligands, ions or waters only",
        "E": "has 4 amino acid residues, none with a C-alpha",
        "F": "is sugar, not protein",
        "G": "is nucleic acid (RNA), not protein",
    }
    assert [c.chain_id for c in read_chains(text.encode(), min_residues=1).chains] == ["A", "B"]


def test_a_chain_is_chosen_by_author_name_then_label_name(structures: Path) -> None:
    path = structures / "4zhl.cif.gz"
    assert read_chain(path, "P").chain_id == "P"
    by_label = read_chain(path, "B")
    assert (
        by_label.chain_id == "P" and by_label.notes[-1] == "chain B is its label name; its author name is P"
    )
    assert read_chain(path, "P").notes == by_label.notes[:-1]
    with pytest.raises(ChainError, match=r"4zhl: holds 2 protein chains.* chain_id= or --chain: U, P"):
        read_chain(path)
    with pytest.raises(ChainError, match=r"4zhl: there is no chain 'Q'; protein chains: U, P"):
        read_chain(path, "Q")
    # Author chain C is DNA, label chain C is the protein: the author name has priority.
    with pytest.raises(ChainError, match=r"chain C was skipped: is nucleic acid \(DNA\)"):
        read_chain(structures / "1lcd.cif.gz", "C")
    with pytest.raises(StructureError, match=r"holds no protein chain to embed \(chain A: has 2 residues"):
        read_text(trace(2))
    assert read_text(trace(4, chain=" ") + trace(4, chain="B"), chain_id="").chain_id == ""


# --- models and conformers ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1lcd.pdb.gz", "1lcd.cif.gz"])
def test_models_are_counted_from_one(structures: Path, name: str) -> None:
    chains = [read_chain(structures / name, model_number=i) for i in (1, 2, 3)]
    assert len({c.sequence for c in chains}) == 1
    assert not np.array_equal(chains[0].ca_coords, chains[1].ca_coords)
    for model in (0, 4, -1):
        with pytest.raises(StructureError, match=f"{name}: has 3 models, so model={model} is not there"):
            read_chain(structures / name, model_number=model)


def test_a_model_without_atoms_is_an_error() -> None:
    with pytest.raises(StructureError, match="model 2 holds no atoms"):
        read_text("MODEL        1\n" + trace(4) + "ENDMDL\nMODEL        2\nENDMDL\n", model_number=2)


def test_alternate_conformations_follow_the_option_altloc(structures: Path) -> None:
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
    # The same number, another type and no conformer letters: two residues with a wrong number.
    assert read_text(trace(3) + pdb_line(3, 11.4, residue="GLY")).sequence == "AAAG"
