"""Assignment of atoms to chains by names, segments, labels, numbers and TER, in files and other libraries."""

from __future__ import annotations

import io
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import StructureError
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.reader import read_chains

from .peptides import ONE, OTHER, changed, cif, helix, pdb

FAR = 30.0


def chains(content: object, **options: object) -> list[tuple[str, str]]:
    """Return names and sequences of the chains."""
    return [(c.chain_id, c.sequence) for c in read_chains(content, min_residues=1, **options).chains]


def notes(content: object) -> str:
    return " | ".join(note for chain in read_chains(content).chains for note in chain.notes)


# --- TER -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 5, 11])
def test_ter_splits_chains_without_a_name_and_adds_a_note(first: int) -> None:
    text = pdb(helix(chain=" "), "TER", helix(OTHER, first=first, away=FAR, chain=" "), "TER")
    assert chains(text) == [("1", ONE), ("2", OTHER)]
    assert "2 molecules of the source have no chain name" in notes(text)


def test_three_molecules_waters_and_ions_without_names() -> None:
    water = changed(helix("A", first=31, away=90), residue="WAT", name="O", record="ATOM", chain=" ")[:1]
    ion = changed(helix("A", first=32, away=95), residue="Na+", name="Na+", chain=" ")[:1]
    text = pdb(
        helix(chain=" "), "TER", helix(OTHER, first=11, away=FAR, chain=" "), "TER",
        helix(ONE, first=21, away=2 * FAR, chain=" "), "TER", water, "TER", ion, "TER", "END",
    )  # fmt: skip
    assert chains(text) == [("1", ONE), ("2", OTHER), ("3", ONE)]


@pytest.mark.parametrize("chain", [" ", "A"])
@pytest.mark.parametrize("at", [1, 4, 9])
def test_ter_within_a_bonded_chain_does_not_split_it(chain: str, at: int) -> None:
    atoms = helix(chain=chain)
    text = pdb(
        [a for a in atoms if int(a.number) <= at], "TER", [a for a in atoms if int(a.number) > at], "TER"
    )
    assert chains(text) == [(chain.strip(), ONE)] and notes(text) == ""


@pytest.mark.parametrize("chain", [" ", "A"])
def test_ter_at_a_gap_does_not_split_the_chain_and_adds_a_note(chain: str) -> None:
    atoms = [a for a in helix(chain=chain) if a.number not in (5, 6)]
    text = pdb(atoms[:16], "TER", atoms[16:], "TER")
    assert chains(text) == [(chain.strip(), "MEKLWDAG")]
    assert notes(text) == "TER after LEU 4 was taken for a gap within the chain"


def test_a_gap_too_wide_for_its_missing_residues_splits_an_unnamed_chain() -> None:
    text = pdb(helix(chain=" "), "TER", helix(OTHER, first=13, away=FAR, chain=" "))
    assert len(chains(text)) == 2


def test_oxt_before_ter_ends_the_chain() -> None:
    atoms = helix()
    end = changed(atoms[-1:], name="OXT")
    for chain in (" ", "A"):
        text = pdb(changed(atoms + end, chain=chain), "TER", helix(OTHER, first=11, away=FAR, chain=chain))
        assert [s for _, s in chains(text)] == [ONE, OTHER]


def test_continued_numbering_after_ter_keeps_a_named_chain_whole() -> None:
    text = pdb(helix(), "TER", helix(OTHER, first=11, away=FAR), "TER")
    assert chains(text) == [("A", ONE + OTHER)]
    assert "TER after GLY 10 was taken for a gap" in notes(text)


@pytest.mark.parametrize("first", [-20, 1, 4, 10])
def test_restarted_numbering_after_ter_starts_another_chain(first: int) -> None:
    text = pdb(helix(), "TER", helix(OTHER, first=first, away=FAR), "TER")
    assert chains(text) == [("A", ONE), ("A-2", OTHER)]
    assert "have the chain name 'A'" in notes(text) and "they are named A, A-2" in notes(text)


def test_chains_of_one_name_are_split_by_another_chain_between_them() -> None:
    text = pdb(
        helix(), "TER", helix(OTHER, chain="B", away=FAR), "TER", helix(ONE, first=11, away=2 * FAR), "TER"
    )
    assert chains(text) == [("A", ONE), ("A-2", ONE), ("B", OTHER)] or chains(text) == [
        ("A", ONE), ("B", OTHER), ("A-2", ONE),
    ]  # fmt: skip


def test_ligands_after_ter_do_not_split_a_chain() -> None:
    ligand = changed(helix("A", first=99, away=60), record="HETATM", residue="LIG", name="C1")[:1]
    text = pdb(helix(), "TER", ligand, "TER", changed(ligand, chain="B"), "TER")
    read = read_chains(text)
    assert [(c.chain_id, c.notes) for c in read.chains] == [("A", ())]
    assert [(s.chain_id, s.reason) for s in read.skipped] == [("B", "holds ligands, ions or waters only")]


@pytest.mark.parametrize("caps", [("ACE", "NME"), ("ACE", "NH2"), ("FOR", "NHE")])
def test_caps_and_a_ligand_within_a_chain_do_not_split_it(caps: tuple[str, str]) -> None:
    start = changed(helix("A", first=0)[2:3], residue=caps[0])
    end = changed(helix("A", first=11)[:1], residue=caps[1])
    ligand = changed(helix("A", first=50, away=60), record="HETATM", residue="LIG", name="C1")[:1]
    atoms = helix()
    for chain in ("A", " "):
        text = pdb(changed([*start, *atoms[:20], *ligand, *atoms[20:], *end], chain=chain), "TER")
        assert chains(text) == [(chain.strip(), ONE)]


def test_a_protein_and_dna_without_names_are_two_molecules() -> None:
    dna = [
        a for i, base in enumerate(("DA", "DC", "DG"), 11)
        for a in changed(helix("A", first=i, away=FAR + 6 * i), residue=base, name="P", chain=" ")[:1]
    ]  # fmt: skip
    read = read_chains(pdb(helix(chain=" "), "TER", dna, "TER"))
    assert [(c.chain_id, len(c)) for c in read.chains] == [("1", 10)]
    assert [(s.chain_id, s.reason) for s in read.skipped] == [("2", "is nucleic acid (DNA), not protein")]


@pytest.mark.parametrize("library", ["gemmi", "biotite", "biopython", "file"])
def test_an_unnamed_chain_with_a_break_has_a_note(library: str) -> None:
    """Other libraries do not keep TER."""
    text = pdb(helix(chain=" "), helix(OTHER, first=11, away=FAR, chain=" "))
    (chain,) = read_chains(as_read_by(library, text)).chains
    assert chain.sequence == ONE + OTHER
    assert chain.notes == (
        "the chain has no name and is broken 1 time where its numbers go on (behind GLY 10); "
        "it may be several",
    )


@pytest.mark.parametrize("library", ["gemmi", "biotite", "biopython"])
def test_restarted_numbering_splits_chains_of_other_libraries(library: str) -> None:
    text = pdb(helix(), helix(OTHER, chain="B", away=FAR))
    assert chains(as_read_by(library, text)) == [("A", ONE), ("B", OTHER)]
    if library != "biopython":  # which rejects or merges residues of the same name
        text = pdb(helix(), helix(OTHER, away=FAR))
        assert sorted(s for _, s in chains(as_read_by(library, text))) == sorted([ONE, OTHER])


def as_read_by(library: str, text: bytes) -> object:
    if library == "gemmi":
        return gemmi.read_pdb_string(text)
    if library == "biotite":
        reading = pytest.importorskip("biotite.structure.io.pdb")
        return reading.PDBFile.read(io.StringIO(text.decode())).get_structure(model=1)
    if library == "biopython":
        parser = pytest.importorskip("Bio.PDB").PDBParser(QUIET=True)
        return parser.get_structure("x", io.StringIO(text.decode()))
    return text


# --- segment names ---------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [("PROA", "PROB"), ("A", "B"), ("P1", "P2")])
@pytest.mark.parametrize("ter", [True, False])
@pytest.mark.parametrize("first", [1, 11])
def test_segment_names_replace_missing_chain_names(names: tuple[str, str], ter: bool, first: int) -> None:
    one, other = (
        helix(s, first=n, away=x, chain=" ", segment=name)
        for s, n, x, name in ((ONE, 1, 0, names[0]), (OTHER, first, FAR, names[1]))
    )
    text = pdb(one, *(["TER"] if ter else []), other)
    assert chains(text) == [(names[0], ONE), (names[1], OTHER)] and notes(text) == ""


def test_a_single_segment_names_the_chain() -> None:
    assert chains(pdb(helix(chain=" ", segment="PROA"))) == [("PROA", ONE)]


def test_segments_of_named_chains_are_used_only_after_ter() -> None:
    one, other = helix(chain="P", segment="PROA"), helix(OTHER, chain="P", segment="PROB", first=11, away=FAR)
    assert chains(pdb(one, other)) == [("P", ONE + OTHER)]
    assert chains(pdb(one, "TER", other)) == [("P", ONE), ("P-2", OTHER)]


def test_other_content_of_the_segment_columns_is_ignored() -> None:
    for field in ("1ABC", "0.25"):  # the ID of the entry, a charge
        assert chains(pdb(helix(chain=" ", segment=field))) == [("", ONE)]
    charges = [
        line[:66] + f"{n / 1000 - 0.1:10.3f}" + line[76:] if line.startswith("ATOM") else line
        for n, line in enumerate(pdb(helix()).decode().splitlines())
    ]
    text = "\n".join(charges).encode()
    assert chains(text) == [("A", ONE)] and notes(text) == ""
    blank = "\n".join(line[:21] + " " + line[22:] for line in charges).encode()
    assert chains(blank) == [("", ONE)]


# --- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [1, 5, 11])
@pytest.mark.parametrize("kind", ["cif", "json", "gemmi"])
def test_label_asym_id_separates_molecules_of_one_chain_name(first: int, kind: str) -> None:
    text = cif(helix(label="A"), helix(OTHER, label="B", first=first, away=FAR))
    if kind == "json":
        text = gemmi.cif.read_string(text.decode()).as_json(mmjson=True).encode()
    x = (
        gemmi.make_structure_from_block(gemmi.cif.read_string(text.decode()).sole_block())
        if kind == "gemmi"
        else text
    )
    read = read_chains(x).chains
    assert [(c.chain_id, c.label_chain, c.sequence) for c in read] == [("A", "A", ONE), ("A-2", "B", OTHER)]
    assert "told apart by label_asym_id" in read[0].notes[0]


def test_interleaved_atoms_of_two_chains_are_grouped_by_chain() -> None:
    one, other = helix(label="A"), helix(OTHER, label="B", away=FAR, chain="B")
    mixed = [atom for pair in zip(one, other, strict=True) for atom in pair]
    for text in (cif(mixed), pdb(mixed)):
        assert chains(text) == [("A", ONE), ("B", OTHER)] and notes(text) == ""


def test_a_free_amino_acid_with_its_own_label_is_not_a_chain() -> None:
    free = changed(helix("E", first=90, away=60), record="HETATM", label="C", label_seq="")
    read = read_chains(cif(helix(label="A"), free))
    assert [c.sequence for c in read.chains] == [ONE] and not read.skipped
    assert read.chains[0].notes == ("1 amino acid not bonded to the chain left out: GLU 90",)


def test_auth_asym_id_separates_chains_of_one_label() -> None:
    text = cif(helix(label="X"), helix(OTHER, label="X", chain="B", away=FAR))
    assert chains(text) == [("A", ONE), ("B", OTHER)]


# --- numbers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("chain", [" ", "A"])
def test_a_repeated_residue_number_starts_another_chain_without_ter(chain: str) -> None:
    text = pdb(helix(chain=chain), helix(OTHER, away=FAR, chain=chain))
    names = ["1", "2"] if chain == " " else ["A", "A-2"]
    assert chains(text) == [(names[0], ONE), (names[1], OTHER)]


@pytest.mark.parametrize("lettered", [True, False])
def test_restarted_numbering_does_not_split_a_bonded_chain(lettered: bool) -> None:
    atoms = helix(ONE + OTHER, chain="A" if lettered else " ")
    again = [a if int(a.number) <= 10 else changed([a], number=int(a.number) - 10)[0] for a in atoms]
    assert [s for _, s in chains(pdb(again))] == [ONE + OTHER]
    assert [s for _, s in chains(cif(again))] == [ONE + OTHER]


def test_decreasing_numbers_do_not_split_bonded_or_named_chains() -> None:
    atoms = [changed([a], number=20 - int(a.number))[0] for a in helix()]
    for chain in ("A", " "):
        assert [s for _, s in chains(pdb(changed(atoms, chain=chain)))] == [ONE]
    later = helix(OTHER, first=1, away=FAR)
    assert chains(pdb(helix(first=101), later)) == [("A", ONE + OTHER)]
    assert [s for _, s in chains(pdb(changed([*helix(first=101), *later], chain=" ")))] == [ONE, OTHER]


@given(numbers=st.lists(st.integers(50, 53), min_size=6, max_size=6), kind=st.sampled_from([pdb, cif]))
@settings(deadline=None, max_examples=60)
def test_bonded_neighbours_with_the_same_number_are_separate_residues(
    numbers: list[int], kind: object
) -> None:
    """A bonded chain is read as one chain with all its residues, whatever their numbers are."""
    atoms = [changed([a], number=numbers[int(a.number) - 1])[0] for a in helix("AAAGAA")]
    found = read_chains(kind(atoms)).chains  # type: ignore[operator]
    assert [c.sequence for c in found] == ["AAAGAA"] and found[0].auth_seq.tolist() == numbers


@pytest.mark.parametrize("missing", ["?", "."])
def test_residues_without_numbers_are_numbered_in_order(missing: str) -> None:
    atoms = changed(helix("AAKKLFRWDA"), number=missing, label_seq="")
    for without in ((), ("auth_seq_id", "label_seq_id")):
        (chain,) = read_chains(cif(atoms, without=without)).chains
        assert chain.sequence == "AAKKLFRWDA" and chain.auth_seq.tolist() == list(range(1, 11))
        assert chain.notes == ("10 residues without a number were counted",)
    (chain,) = read_chains(pdb(changed(atoms, number=""))).chains
    assert chain.sequence == "AAKKLFRWDA"


def test_label_seq_id_replaces_missing_auth_seq_id() -> None:
    (chain,) = read_chains(cif(helix(first=31), without=("auth_seq_id",))).chains
    assert chain.auth_seq.tolist() == list(range(1, 11)) and not chain.notes


@pytest.mark.parametrize(("first", "written"), [(9998, None), (10_000, None), (9998, "hybrid")])
def test_residue_numbers_above_9999_are_read(first: int, written: str | None) -> None:
    lines = pdb(helix(first=1)).decode().splitlines()
    for i, line in enumerate(lines):
        number = first + int(line[22:26]) - 1
        field = (
            f"{number:4} "
            if number < 10_000
            else f"{number}"
            if written is None
            else f"A{number - 10_000:03} "
        )
        lines[i] = line[:22] + field + line[27:]
    (chain,) = read_chains("\n".join(lines).encode()).chains
    assert chain.sequence == ONE and chain.auth_seq.tolist() == list(range(first, first + 10))


# --- copies ----------------------------------------------------------------------------------------


def assembly(structures: Path, name: str) -> object:
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    return pdbx.get_assembly(pdbx.CIFFile.read(structures / name), model=1)


def test_copies_of_an_assembly_are_separate_chains(structures: Path) -> None:
    array = assembly(structures, "1a8o.cif")
    read = read_chains(array).chains
    assert [(c.chain_id, len(c)) for c in read] == [("A", 70), ("A-2", 70)]
    assert "told apart by their copy in the assembly" in read[0].notes[0]
    array.del_annotation("sym_id")  # the same atoms; now only the chain names are repeated
    assert [(c.chain_id, len(c)) for c in read_chains(array).chains] == [("A", 70), ("A-2", 70)]


def test_a_gemmi_assembly_with_repeated_names(structures: Path) -> None:
    structure = gemmi.read_structure(str(structures / "1a8o.cif"))
    how = gemmi.HowToNameCopiedChain.Dup
    structure.transform_to_assembly(structure.assemblies[0].name, how)
    assert [(c.chain_id, len(c)) for c in read_chains(structure).chains] == [("A", 70), ("A-2", 70)]


@pytest.mark.parametrize("number", [2, 3, 5])
def test_every_copy_of_a_chain_has_its_own_name(number: int) -> None:
    taken = helix(OTHER, chain="B", away=-FAR)
    text = pdb(taken, *(helix(away=FAR * n) for n in range(number)))
    names = [n for n, _ in chains(text)]
    assert names == ["B", "A", *(f"A-{n}" for n in range(2, number + 1))]


def test_generated_chain_names_differ_from_existing_names() -> None:
    text = cif(helix(), helix(OTHER, chain="A-2", label="C", away=FAR), helix(label="B", away=2 * FAR))
    assert sorted(n for n, _ in chains(text)) == ["A", "A-2", "A-3"]
    text = pdb(helix(OTHER, chain="1", away=-FAR), helix(chain=" "), "TER", helix(chain=" ", away=FAR))
    assert sorted(n for n, _ in chains(text)) == ["1", "2", "3"]


def test_residues_listed_twice_at_the_same_position_are_read_once() -> None:
    atoms = helix()
    for text in (pdb(atoms, atoms[8:20]), pdb(atoms, atoms)):
        assert chains(text) == [("A", ONE)]
        assert "listed again at the same place" in notes(text)


def test_conformers_in_separate_blocks_are_read_as_conformers() -> None:
    a, b = changed(helix(), alt="A", occupancy=0.6), changed(helix(away=0.3), alt="B", occupancy=0.4)
    for text in (pdb(a, b), cif(a, b)):
        (chain,) = read_chains(text).chains
        assert chain.sequence == ONE and chain.ca_coords[0, 0] == pytest.approx(2.29) and not chain.notes
    other = changed(b, numbers=[3], residue="ARG")
    assert chains(pdb(a, other)) == [("A", ONE)]
    assert chains(pdb(a, other), altloc="B") == [("A", ONE[:2] + "R" + ONE[3:])]


def test_hydrogens_at_the_end_are_assigned_to_their_residues() -> None:
    late = changed([a for a in helix() if a.name == "N"], name="H", element="H")
    for text in (pdb(helix(), late), cif(helix(), late), pdb(helix(chain=" "), changed(late, chain=" "))):
        assert [s for _, s in chains(text)] == [ONE] and notes(text) == ""


# --- concatenated files ----------------------------------------------------------------------------


def test_models_are_counted_in_order_whatever_their_numbers() -> None:
    text = pdb("MODEL        1", helix(), "ENDMDL", "MODEL        1", helix(OTHER), "ENDMDL", "END")
    assert chains(text) == [("A", ONE)] and chains(text, model_number=2) == [("A", OTHER)]
    assert "2 models bear the number 1" in notes(text)


def test_a_model_may_lack_endmdl() -> None:
    text = pdb("MODEL        1", helix(), "MODEL        2", helix(OTHER), "END")
    assert chains(text) == [("A", ONE)] and chains(text, model_number=2) == [("A", OTHER)]
    assert "not ended by ENDMDL" in notes(text)


def test_atoms_outside_of_models_are_a_separate_model() -> None:
    text = pdb("MODEL        1", helix(), "ENDMDL", helix(OTHER, chain="B"), "END")
    assert chains(text) == [("A", ONE)] and chains(text, model_number=2) == [("B", OTHER)]
    assert "40 atoms stand outside of MODEL and ENDMDL" in notes(text)
    with pytest.raises(StructureError, match="has 2 models, so model=3 is not there"):
        read_chains(text, model_number=3)


@pytest.mark.parametrize("same_letter", [True, False])
def test_concatenated_files_give_all_their_chains(same_letter: bool) -> None:
    other = helix(OTHER, chain="A" if same_letter else "B", away=FAR)
    blocks = [cif(helix()) + cif(other, name=name) for name in ("y", "x", "X")]  # also of the same name
    for text in (pdb(helix(), "END", other, "END"), *blocks):
        assert chains(text) == [("A", ONE), ("A-2" if same_letter else "B", OTHER)]
        assert "all of them are read" in notes(text)


def test_a_concatenated_receptor_and_ligand() -> None:
    ligand = changed(helix("A", first=1, away=20), record="HETATM", residue="LIG", name="C1")[:1]
    text = pdb(helix(), "END", ligand, "END")
    read = read_chains(text)
    assert [c.chain_id for c in read.chains] == ["A"] and not read.skipped


def test_frames_separated_by_end_or_data_blocks_are_models() -> None:
    for text in (
        pdb(helix(), "END", helix(away=5), "END", helix(away=9), "END"),
        cif(helix()) + cif(helix(away=5), name="y") + cif(helix(away=9), name="z"),
    ):
        assert chains(text) == [("A", ONE)] and "taken for models" in notes(text)
        assert read_chains(text, model_number=3).chains[0].ca_coords[0, 0] == pytest.approx(11.29)
        with pytest.raises(StructureError, match="has 3 models, so model=4 is not there"):
            read_chains(text, model_number=4)


# --- properties ------------------------------------------------------------------------------------

SEQUENCES = st.text("ACDEFGHIKLMNPQRSTVWY", min_size=4, max_size=12)


@given(sequences=st.lists(SEQUENCES, min_size=1, max_size=5), restart=st.booleans(), ter=st.booleans())
@settings(deadline=None, max_examples=60)
def test_all_molecules_without_names_are_found(sequences: list[str], restart: bool, ter: bool) -> None:
    parts, first = [], 1
    for position, sequence in enumerate(sequences):
        parts += [helix(sequence, first=1 if restart else first, away=FAR * position, chain=" ")]
        first += len(sequence)
        parts += ["TER"] if ter or not restart else []
    found = read_chains(pdb(*parts)).chains
    assert [c.sequence for c in found] == sequences and len({c.chain_id for c in found}) == len(sequences)


@given(sequences=st.lists(SEQUENCES, min_size=1, max_size=4), data=st.data())
@settings(deadline=None, max_examples=60)
def test_files_and_libraries_give_the_same_chains(sequences: list[str], data: st.DataObject) -> None:
    """Chain names may repeat; labels and restarted numbering separate chains in every kind of input."""
    letters = data.draw(st.lists(st.sampled_from("AB"), min_size=len(sequences), max_size=len(sequences)))
    parts = [
        helix(sequence, away=FAR * i, chain=letter, label="KLMN"[i])
        for i, (sequence, letter) in enumerate(zip(sequences, letters, strict=True))
    ]
    expected = sorted(c.sequence for c in read_chains(cif(*parts)).chains)
    assert expected == sorted(sequences)

    def found(x: object) -> list[str]:
        read: list[Chain] = read_chains(x).chains
        assert len({c.chain_id for c in read}) == len(read)
        return sorted(c.sequence for c in read)

    assert found(pdb(*parts)) == expected
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    array = pdbx.get_structure(pdbx.CIFFile.read(io.StringIO(cif(*parts).decode())), model=1)
    assert found(array) == expected


def test_label_seq_from_seqres_counts_missing_residues() -> None:
    seqres = "SEQRES   1 A   12  ALA MET GLU LYS LEU PHE ARG TRP ASP ALA GLY ALA"
    (chain,) = read_chains(pdb(seqres, [a for a in helix() if a.number not in (4, 5)])).chains
    np.testing.assert_array_equal(chain.label_seq, [2, 3, 4, 7, 8, 9, 10, 11])
