"""Chains of arrays, Biotite, Biopython and folders; one clear error for content that cannot be read."""

from __future__ import annotations

import gzip
import io
import re
from pathlib import Path

import gemmi
import numpy as np
import pytest

from protemb_sdk import Embedder, Embedding
from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.reader import find_structures, read_chain, read_chains

from .structure_text import assert_same, pdb_line, read_text, trace

# --- several models, and no sequence ----------------------------------------------------------------


def test_the_model_that_is_read_is_noted(structures: Path) -> None:
    path = structures / "1lcd.pdb.gz"
    text = gzip.decompress(path.read_bytes())
    sources = [path, structures / "1lcd.cif.gz", gemmi.read_structure(str(path))]
    pdb = pytest.importorskip("Bio.PDB")
    sources.append(pdb.PDBParser(QUIET=True).get_structure("x", io.StringIO(text.decode())))
    biotite = pytest.importorskip("biotite.structure.io.pdb")
    one = biotite.PDBFile.read(io.StringIO(text.decode())).get_structure(model=1)
    sources.append(pytest.importorskip("biotite.structure").stack([one] * 3))
    for source in sources:
        for number in (1, 3):
            notes = read_chain(source, "A", model_number=number).notes
            assert f"model {number} of 3 is read" in notes, type(source)
    assert not any("model" in note for note in read_chain(structures / "1orc.pdb").notes)


def likeness(one: Embedding, other: Embedding) -> float:
    """Return the mean cosine similarity of residue vectors."""
    dots = (one.residue * other.residue).sum(axis=1)
    norms = np.linalg.norm(one.residue, axis=1) * np.linalg.norm(other.residue, axis=1)
    return float((dots / norms).mean())


def test_structures_without_a_sequence_are_embedded(structures: Path, embedder: Embedder) -> None:
    """UNK, a trace of C-alphas, and X in arrays: the protein vector is that of the known sequence."""
    known = read_chain(structures / "1orc.pdb")
    lines = (structures / "1orc.pdb").read_text().splitlines()
    atoms = [f"{line[:17]}UNK{line[20:]}" for line in lines if line.startswith("ATOM")]
    expected = embedder.embed(known, profile=True)
    # X says less than the sequence, and a wrong sequence is worse.
    glycines = embedder.embed((known.ca_coords, "G" * len(known), known.residue_index))
    for source in (
        "\n".join(atoms).encode(),
        "\n".join(line for line in atoms if line[12:16] == " CA ").encode(),
        (known.ca_coords, "X" * len(known), known.residue_index),
    ):
        found = embedder.embed(source, profile=True)
        assert found.sequence == "X" * len(known)
        assert found.profile is not None and expected.profile is not None
        np.testing.assert_allclose(found.protein, expected.protein, atol=1e-6)
        np.testing.assert_allclose(found.profile, expected.profile, atol=1e-5)
        assert likeness(expected, glycines) + 0.1 < likeness(expected, found) < 0.99


# --- arrays and Biotite ---------------------------------------------------------------------------


def test_arrays_are_read_and_copied() -> None:
    coords = np.arange(6, dtype=np.float32).reshape(2, 3)
    chain = read_chain((coords, "mB"))
    assert (chain.name, chain.chain_id, chain.sequence) == ("array", "", "MX")
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
        ((np.full((2, 3), np.nan), "AC"), "no residue has a position"),
        ((np.full((2, 3), np.inf), "AC"), "no residue has a position"),
        (([[1, 1, 1], [np.inf, 1, 1]], "AC"), "1 of 2 C-alpha coordinates are not finite, .* residue 2"),
        ((np.zeros((2, 3)), "AC", [1, 1]), "increase strictly"),
        ((np.zeros((2, 3)), "AC", [0, 2**40]), "32 bits"),
        ((np.zeros((2, 3)), "AC", [0.5, 1]), "one integer"),
        ((np.zeros((2, 3)), "AC", [1]), "one integer for each of 2"),
        (("xyz", "AC"), "must be numbers"),
        ((np.zeros((2, 3), dtype=complex), "AC"), "must be numbers .they are complex"),
        ((np.zeros((2, 3)),), "pass a tuple"),
        ((np.zeros((2, 3)), ["A", "C"]), "pass a tuple"),
        (5, "cannot read a structure from int; pass a path, bytes"),
        (None, "NoneType"),
        (np.zeros((2, 3)), "ndarray"),
    ],
)
def test_invalid_arguments_are_refused(x: object, match: str) -> None:
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
    assert [(c.chain_id, c.label_chain) for c in read.chains] == [
        (c.chain_id, c.label_chain) for c in expected.chains
    ]
    for a, b in zip(read.chains, expected.chains, strict=True):
        assert_same(a, b, "auth_seq", "insertion_code", "residue_name", "residue_index")
        np.testing.assert_allclose(a.ca_coords, b.ca_coords, atol=1e-5)
    if name == "1lcd.cif.gz":
        moved = array.copy()
        moved.coord = moved.coord + np.float32(5)
        stack = pytest.importorskip("biotite.structure").stack([array, array, moved])
        third = read_chain(stack, model_number=3).ca_coords
        np.testing.assert_allclose(third, expected.chains[0].ca_coords + 5, atol=1e-4)
        with pytest.raises(StructureError, match="has 3 models"):
            read_chain(stack, model_number=4)
        with pytest.raises(StructureError, match="has 1 model,"):
            read_chain(array, model_number=2)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "is empty"),
        (b" \n\n", "is empty"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(trace(50).encode(), mtime=0)[:-20], "gzip stream is damaged or truncated"),
        (b"\x1f\x8b\x08garbage", "gzip stream is damaged"),
        (gzip.compress(trace(50).encode(), mtime=0) + b"tail", "gzip stream is damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(50), "a PNG image"),
        (b"PK\x03\x04" + bytes(50), "a zip archive; unpack it first"),
        (b"<!DOCTYPE html><html>404</html>", "HTML or XML document"),
        (b"HEADER    HYDROLASE\nEND\n", "without ATOM records"),
        (b"ATOM      1  CA  ALA A   1\n", "not a valid PDB file .*line 1"),
        (b"hello", "not a structure file .it starts with b'hello'"),
        (b"data_x\nloop_\n_atom_site.id 'x\n", "not a valid mmCIF file"),
        (b"data_x\n_cell.length_a 1\n", "no _atom_site table"),
        (b"data_ALA\nloop_\n_chem_comp_atom.comp_id\nALA\n", "chemical component"),
        (b"data_x\nloop_\n_atom_site.id\n_atom_site.Cartn_x\n1 2\n", "lacks the column _atom_site.Cartn_y"),
        (b"data_x\nloop_\n_atom_site.id\n_atom_site.auth_atom_id\n1 CA\n", "column _atom_site.Cartn_x"),
        (b'{"data_x": 5', "not a valid mmJSON file"),
        (b'{"pae": [[1, 2]]}', "mmJSON|_atom_site"),
        (bytes(range(256)) * 4, "not a structure file"),
    ],
)  # fmt: skip
def test_content_that_cannot_be_read_gives_one_clear_error(tmp_path: Path, data: bytes, match: str) -> None:
    (tmp_path / "bad.cif").write_bytes(data)
    with pytest.raises(StructureError, match=match) as caught:
        read_chains(tmp_path / "bad.cif")
    assert "bad.cif" in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 400
    with pytest.raises(StructureError, match=match):
        read_chains(data)


def test_invalid_paths_and_streams_are_refused(tmp_path: Path, structures: Path) -> None:
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


@pytest.mark.parametrize("field", ["   1.2x4", " 1 2.000", "  1..000", "   1.2.3", "  abcdef"])
@pytest.mark.parametrize("before", [0, 4])
def test_malformed_coordinates_are_an_error_in_pdb(field: str, before: int) -> None:
    line = pdb_line(5, 15.2)
    text = trace(before) + line[:38] + field + line[46:] + trace(9)
    with pytest.raises(StructureError, match=f"C-alpha in line {before + 1} are not numbers"):
        read_text(text)


@pytest.mark.parametrize("field", ["     NaN", "********", "        ", "     inf", "       ?"])
def test_residues_without_coordinates_are_left_out_in_pdb(field: str) -> None:
    line = pdb_line(5, 15.2)
    chain = read_text(trace(4) + line[:38] + field + line[46:])
    assert len(chain) == 4 and chain.notes == ("1 residue without a position left out: ALA 5",)


@pytest.mark.parametrize("value", ["nan", "?", ".", "****"])
def test_residues_without_coordinates_are_left_out_in_mmcif(structures: Path, value: str) -> None:
    text = (structures / "1a8o.cif").read_text()
    assert text.count("20.255 33.101") == 1
    chain = read_text(text.replace("20.255 33.101", f"{value} 33.101"))
    assert len(chain) == 69 and chain.auth_seq[0] == 152
    assert chain.notes == ("1 residue without a position left out: MSE 151",)


@pytest.mark.parametrize("value", ["12.x3", "abc", "1-2"])
def test_malformed_coordinates_are_an_error_in_mmcif(structures: Path, value: str) -> None:
    text = (structures / "1a8o.cif").read_text()
    with pytest.raises(StructureError, match=f"in row 2 of _atom_site is not a number .'{value}'"):
        read_text(text.replace("20.255 33.101", f"{value} 33.101"))


def test_one_bad_chain_does_not_affect_the_others(structures: Path) -> None:
    text = gzip.decompress((structures / "4zhl.cif.gz").read_bytes()).decode()
    rows = [row for row in text.splitlines() if row.startswith("ATOM") and " CA " in row and " P " in row]
    for row in rows:
        text = text.replace(row, re.sub(r"-?\d+\.\d{3}", "?", row, count=1))
    read = read_chains(text.encode())
    assert [chain.chain_id for chain in read.chains] == ["U"]
    assert [(s.chain_id, s.reason) for s in read.skipped] == [
        ("P", "has 10 amino acid residues, none with a position")
    ]


def test_the_occupancy_of_the_c_alpha_selects_the_conformer(structures: Path) -> None:
    """A sum over atoms would select the larger side chain."""
    text = trace(2)
    text += pdb_line(3, 7.6, residue="SER", alt="A", occupancy=0.7)
    text += pdb_line(3, 7.7, residue="TRP", alt="B", occupancy=0.3)
    for atom in (" CB ", " CG ", " CD1", " CD2", " CE2"):
        text += pdb_line(3, 9.0, name=atom, residue="TRP", alt="B", occupancy=0.3)
    assert read_text(text + pdb_line(4, 11.4)).sequence == "AASA"


def test_modified_residues_are_kept_in_c_alpha_traces(structures: Path) -> None:
    pdb = pytest.importorskip("biotite.structure.io.pdb")
    array = pdb.PDBFile.read(str(structures / "1a8o.pdb")).get_structure(model=1)
    whole = read_chain(structures / "1a8o.pdb")
    bare = read_chain(array[array.atom_name == "CA"])
    assert bare.sequence == whole.sequence
    np.testing.assert_array_equal(bare.residue_index, whole.residue_index)


def test_unlikely_distances_in_arrays_are_noted(structures: Path) -> None:
    chain = read_chain(structures / "pdb1gdr.ent")
    assert not read_chain((chain.ca_coords, chain.sequence, chain.residue_index)).notes
    (note,) = read_chain((chain.ca_coords, chain.sequence)).notes
    assert "broken 2 times" in note
    (note,) = read_chain((chain.ca_coords / 10, chain.sequence)).notes
    assert "nanometres" in note


@pytest.mark.parametrize(("sequence", "letters"), [("AÅA", "AXA"), ("AßA", "AXA"), ("a☃g", "AXG")])
def test_non_ascii_letters_are_unknown_residues(sequence: str, letters: str) -> None:
    assert read_chain((np.arange(9.0).reshape(3, 3), sequence)).sequence == letters


def test_large_and_zero_coordinates() -> None:
    assert len(read_text(trace(4))) == 4  # the first residue is at the origin
    with pytest.raises(StructureError, match="has 4 amino acid residues, none with a position"):
        read_text("".join(pdb_line(i, 0.0) for i in range(1, 5)))
    assert len(read_text("".join(pdb_line(i, 999.9 * (-1) ** i) for i in range(1, 5)))) == 4
    with pytest.raises(StructureError, match="are not in columns 31 to 54"):
        read_text("".join(pdb_line(i, -4999.5) for i in range(1, 5)))  # too wide for the columns


# --- folders --------------------------------------------------------------------------------------


def test_a_folder_gives_its_structure_files_sorted(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no structure file in this folder"):
        find_structures(tmp_path)
    names = [
        "b.PDB",
        "a/x.cif.gz",
        "a/y.ent",
        "c.mmcif",
        "d.json.gz",
        "e.pdb1",
        "f.mmjson",
        "g.bcif",
        "h.bcif.gz",
    ]
    others = ["readme.txt", "x.gz", "._b.pdb", "a/pdb", "t.tar.gz", "u.zip"]
    (tmp_path / "a").mkdir()
    (tmp_path / "folder.pdb").mkdir()
    for name in names + others:
        (tmp_path / name).touch()
    found = find_structures(tmp_path)
    assert found == sorted(tmp_path / name for name in names)
    assert find_structures(found[0]) == [found[0]]
    with pytest.raises(StructureError, match="no such folder"):
        find_structures(tmp_path / "nothing")


@pytest.mark.parametrize(
    "name", ["1a8o.pdb", "1a8o.cif", "1lcd.pdb.gz", "1orc.pdb", "2beg.pdb.gz", "4hhh_frag.pdb"]
)
def test_biopython_structures_give_the_same_chains(structures: Path, name: str) -> None:
    reading = pytest.importorskip("Bio.PDB", reason="Biopython is not installed")
    path = structures / name
    parser = reading.MMCIFParser(QUIET=True) if ".cif" in name else reading.PDBParser(QUIET=True)
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    structure = parser.get_structure(path.name.partition(".")[0], io.StringIO(text))
    ours, theirs = read_chains(path).chains, read_chains(structure).chains
    assert [chain.id for chain in theirs] == [chain.id for chain in ours]
    for mine, other in zip(ours, theirs, strict=True):
        assert mine.sequence == other.sequence
        np.testing.assert_allclose(other.ca_coords, mine.ca_coords, atol=1e-4)
        for column in ("residue_index", "auth_seq", "insertion_code", "residue_name"):
            np.testing.assert_array_equal(getattr(other, column), getattr(mine, column))
    first = ours[0]
    alone = read_chains(next(structure.get_models())[first.chain_id], name=first.name).chains
    assert [chain.sequence for chain in alone] == [first.sequence]
    with pytest.raises(StructureError, match="so model=99 is not there"):
        read_chains(structure, model_number=99)
