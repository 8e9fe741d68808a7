"""foldcomp files and databases: the chain of a .fcz is that of the structure it was made from."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
import tracemalloc
from pathlib import Path

import gemmi
import numpy as np
import pytest

from protemb_sdk import Embedder, QualityScorer, StructureError, read_chain
from protemb_sdk._predict.b_factors import write_b_factors
from protemb_sdk._store.verify import verify_store
from protemb_sdk._structure import archives
from protemb_sdk._structure.archives import members
from protemb_sdk._structure.inputs import inputs_of

from .conftest import Run

foldcomp = pytest.importorskip("foldcomp", reason="needs the extra foldcomp")

# Angstrom (RMSD). Kim, Mirdita and Steinegger 2023: 0.08 on average.
LOSS = 0.1
ALPHAFOLD = "ALPHAFOLD MONOMER V2.0 PREDICTION FOR CRO REPRESSOR (P03040)"


def source(structures: Path, name: str = "1orc.pdb", first: int = 1) -> bytes:
    """Return the first chain of a file in the form that foldcomp takes: its atoms, numbered without gaps."""
    structure = gemmi.read_structure(str(structures / name))
    structure.remove_alternative_conformations()
    structure.remove_ligands_and_waters()
    chain = structure[0][0]
    for number, residue in enumerate(chain, first):
        residue.seqid = gemmi.SeqId(number, " ")
    structure = gemmi.Structure()
    structure.add_model(gemmi.Model(1))
    structure[0].add_chain(chain)
    text: str = structure.make_pdb_string(gemmi.PdbWriteOptions(minimal=True))
    return b"".join(line for line in text.encode().splitlines(keepends=True) if line.startswith(b"ATOM"))


def fcz(structures: Path, title: str = "cro", name: str = "1orc.pdb", first: int = 1) -> bytes:
    packed: bytes = foldcomp.compress(title, source(structures, name, first).decode())
    return packed


@pytest.fixture
def database(structures: Path, tmp_path: Path) -> Path:
    """A database of three entries, as foldcomp writes it; the lookup has entries that are not in it."""
    path = tmp_path / "in" / "models"
    path.parent.mkdir()
    index, data = [], b""
    titles = ("AF-P03040-F1-model_v4", "other", "short")
    for key, title in zip((0, 2, 5), titles, strict=True):
        entry = fcz(structures, title, "3jqh.cif" if title == "short" else "1orc.pdb") + b"\0"
        index.append(f"{key}\t{len(data)}\t{len(entry)}\n")
        data += entry
    path.write_bytes(data)
    path.with_name("models.index").write_text("".join(index))
    path.with_name("models.dbtype").write_bytes(b"\x0c\0\0\0")
    names = [f"{key}\t{name}\t0\n" for key, name in ((0, titles[0]), (1, "gone"), (2, "other"), (5, "short"))]
    path.with_name("models.lookup").write_text("".join(names))
    return path


# --- files -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1orc.pdb", "3jqh.cif", "4zhl.cif.gz"])
@pytest.mark.parametrize("first", [1, 27, -4, 9700])
def test_a_file_has_the_chain_of_its_source(structures: Path, name: str, first: int) -> None:
    expected, packed = read_chain(source(structures, name, first)), fcz(structures, "x", name, first)
    for content in (packed, gzip.compress(packed), io.BytesIO(packed)):
        chain = read_chain(content)
        assert (chain.id, chain.sequence, chain.notes) == (f"x_{expected.chain_id}", expected.sequence, ())
        for field in ("residue_index", "auth_seq", "insertion_code", "residue_name"):
            np.testing.assert_array_equal(getattr(chain, field), getattr(expected, field), err_msg=field)
        error = np.linalg.norm(chain.ca_coords - expected.ca_coords, axis=1)
        assert 0 < np.sqrt((error**2).mean()) < LOSS
    assert chain.auth_seq[0] == first


def test_files_are_found_in_folders_and_named_by_the_file(
    structures: Path, embedder: Embedder, tmp_path: Path
) -> None:
    (tmp_path / "a.fcz").write_bytes(fcz(structures))
    (tmp_path / "b.FCZ.gz").write_bytes(gzip.compress(fcz(structures)))
    one, other = embedder.embed_many(tmp_path)
    assert (one.id, other.id) == ("a_A", "b_A")
    np.testing.assert_array_equal(one.protein, other.protein)
    near = embedder.embed(source(structures)).protein
    assert 0.98 < float(one.protein @ near) < 1


def test_plddt_is_read_by_the_title_of_the_model(structures: Path) -> None:
    values = [float(line[60:66]) for line in source(structures).splitlines() if line[12:16] == b" CA "]
    step = (max(values) - min(values)) / 255
    for title in (
        "AF-P03040-F1-model_v4",
        "AF-P03040-F1",
        "af_models/AF-A0A5S3Y9Q7-F12-model_v4.pdb.gz",
        "MGYP001105483357",
        "MGYP001105483357.pdb",
        ALPHAFOLD,
        ALPHAFOLD + " OF A PHAGE WITH A LONG NAME THAT GOES ON IN ANOTHER LINE",
    ):
        found = read_chain(fcz(structures, title)).plddt
        assert found is not None, title
        np.testing.assert_allclose(found, values, atol=step)
    for title in ("cro", "1orc", "P03040", "MGYP1", "AF-P03040", "MODEL OF AF-P03040-F1", ""):
        assert read_chain(fcz(structures, title)).plddt is None, title
    with pytest.raises(StructureError, match="does not say that it is a predicted model"):
        read_chain(fcz(structures), min_plddt=70)
    low = read_chain(fcz(structures, "AF-P03040-F1"), min_plddt=50)
    assert 0 < len(low) < len(values) and "left out" in low.notes[-1]


def test_a_decompressed_copy_has_the_same_plddt(structures: Path) -> None:
    packed = fcz(structures, "AF-P03040-F1-model_v4")
    _, text = foldcomp.decompress(packed)
    plain, chain = read_chain(text.encode() if isinstance(text, str) else text), read_chain(packed)
    assert plain.plddt is not None and chain.plddt is not None
    np.testing.assert_array_equal(plain.plddt, chain.plddt)
    np.testing.assert_array_equal(plain.ca_coords, chain.ca_coords)


def test_values_are_written_to_the_residues_of_the_source(structures: Path, tmp_path: Path) -> None:
    packed = tmp_path / "cro.fcz"
    packed.write_bytes(fcz(structures, first=9700))
    prediction = QualityScorer(device="cpu", threads=1).score(packed)
    copy = gemmi.read_structure(str(write_b_factors(packed, tmp_path / "out.cif", [prediction])))
    found = {residue.seqid.num: residue.sole_atom("CA").b_iso for residue in copy[0]["A"]}
    assert list(found) == prediction.chain.auth_seq.tolist() and next(iter(found)) == 9700
    np.testing.assert_allclose(list(found.values()), 100 * prediction.residue_lddt, atol=0.006)


# --- damage ------------------------------------------------------------------------------------------


def test_what_is_broken_gives_one_sentence(structures: Path, tmp_path: Path) -> None:
    packed = fcz(structures)
    for size in (4, 50, 80, 300, len(packed) - 1):
        path = tmp_path / "cut.fcz"
        path.write_bytes(packed[:size])
        with pytest.raises(StructureError) as caught:
            read_chain(path)
        assert str(caught.value) == f"{path}: the foldcomp file is damaged or truncated; fetch it again"
        assert caught.value.retryable
    with pytest.raises(StructureError, match="holds several foldcomp files; if it is a database"):
        read_chain(packed + b"\0" + packed)
    with pytest.raises(StructureError, match="a foldcomp file of several chains; unpack it with the program"):
        read_chain(b"FCZC" + packed[4:])


FUZZ = """
import random, sys
from protemb_sdk import StructureError, read_chains
whole, rng = open(sys.argv[1], "rb").read(), random.Random(7)
cases = [whole[:n] for n in range(4, len(whole), 7)]
for at in range(4, 300):
    for byte in (0, 1, 127, 255):
        cases.append(whole[:at] + bytes([byte]) + whole[at + 1 :])
for _ in range(500):
    changed = bytearray(whole)
    for _ in range(rng.randrange(1, 10)):
        changed[rng.randrange(4, len(changed))] = rng.randrange(256)
    cases.append(bytes(changed))
read = 0
for case in cases:
    try:
        read_chains(case)
        read += 1
    except StructureError as error:
        assert "\\n" not in str(error)
print(len(cases), read)
"""


def test_damaged_files_never_end_the_process(structures: Path, tmp_path: Path) -> None:
    """The package itself calls abort() or reads beyond its arrays for many of them."""
    path = tmp_path / "whole.fcz"
    path.write_bytes(fcz(structures))
    done = subprocess.run([sys.executable, "-c", FUZZ, str(path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    cases, read = map(int, done.stdout.split())
    assert 0 < read < cases


def test_without_the_package_the_extra_is_named(
    structures: Path, database: Path, embedder: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = fcz(structures)
    monkeypatch.setitem(sys.modules, "foldcomp", None)
    wanted = r"reading foldcomp files needs foldcomp; .*: pip install '\.\[foldcomp\]'"
    with pytest.raises(StructureError, match=wanted):
        read_chain(packed)
    run = embedder.embed_many(database, on_error="skip")
    assert list(run) == []
    (skipped,) = run.skipped  # once, not for each entry
    assert skipped.source == str(database) and "pip install" in skipped.reason


# --- databases ---------------------------------------------------------------------------------------


def test_a_database_is_read_as_the_package_reads_it(database: Path) -> None:
    found = dict(members(str(database)))
    with foldcomp.open(database, decompress=False) as reader:
        assert list(found.values()) == [bytes(reader[i]) for i in range(len(reader))]
    names = ["AF-P03040-F1-model_v4", "other", "short"]
    assert list(found) == [f"{database}/{name}" for name in names]
    with foldcomp.open(database, ids=names) as reader:
        for name, (_, text) in zip(names, reader, strict=True):
            plain = read_chain(text.encode() if isinstance(text, str) else text)
            chain = read_chain(found[f"{database}/{name}"])
            np.testing.assert_array_equal(chain.ca_coords, plain.ca_coords)


def test_entries_without_a_lookup_are_named_by_their_titles(database: Path) -> None:
    expected = [name for name, _ in members(str(database))]
    database.with_name("models.lookup").unlink()
    assert [name for name, _ in members(str(database))] == expected


def test_a_database_is_embedded_as_a_stream(
    protemb: Run, database: Path, embedder: Embedder, tmp_path: Path
) -> None:
    assert not isinstance(inputs_of([database]), list)
    run = embedder.embed_many(database)
    ids = [embedding.id for embedding in run]
    assert ids == ["AF-P03040-F1-model_v4_A", "other_A", "short_A"]
    pytest.importorskip("pyarrow")
    store = tmp_path / "store"
    done = protemb("embed", database, "-o", store, "--threads", "1")
    assert done.status == 0, done.errors
    verified = verify_store(store, threads=1)
    assert (verified.rows, verified.wrong, verified.missing) == (3, [], [])
    done = protemb("embed", database, "-o", store, "--threads", "1")
    assert done.status == 0 and "0 chains of" in done.out
    table = tmp_path / "quality.csv"
    assert protemb("quality", database, "-o", table, "--threads", "1").status == 0
    with table.open(newline="") as file:
        assert {row["source"] for row in csv.DictReader(file)} == {f"{database}/{id_[:-2]}" for id_ in ids}


def test_only_one_entry_is_in_memory(structures: Path, tmp_path: Path) -> None:
    entry, count = fcz(structures) + b"\0", 20_000
    path = tmp_path / "large"
    with path.open("wb") as file, (tmp_path / "large.index").open("w") as index:
        for key in range(count):
            file.write(entry)
            index.write(f"{key}\t{key * len(entry)}\t{len(entry)}\n")
    tracemalloc.start()
    try:
        assert sum(1 for _ in members(str(path))) == count
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1_000_000 < path.stat().st_size


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("x\t0\t10\n", r"line 4 of its \.index file is not three numbers"),
        ("7\t0\n", r"line 4 of its \.index file is not three numbers"),
        ("7\t5\t1000000\n", r"line 4 of its \.index file points beyond its end"),
        ("7\t-5\t100\n", r"line 4 of its \.index file points beyond its end"),
    ],
)
def test_a_broken_index_ends_the_database_with_one_sentence(
    database: Path, embedder: Embedder, line: str, reason: str
) -> None:
    with database.with_name("models.index").open("a") as file:
        file.write(line)
    run = embedder.embed_many(database, on_error="skip")
    assert len(list(run)) == 3
    (skipped,) = run.skipped
    assert skipped.error is not None and skipped.source == str(database)
    with pytest.raises(StructureError, match=reason):
        list(members(str(database)))


def test_a_damaged_entry_is_skipped_and_the_others_are_read(database: Path, embedder: Embedder) -> None:
    content = bytearray(database.read_bytes())
    content[10:14] = b"\xff\xff\xff\xff"
    database.write_bytes(content)
    run = embedder.embed_many(database, on_error="skip")
    assert [embedding.id for embedding in run] == ["other_A", "short_A"]
    assert [skipped.source for skipped in run.skipped] == [f"{database}/AF-P03040-F1-model_v4"]


def test_what_is_no_database_is_none(database: Path, structures: Path, tmp_path: Path) -> None:
    (tmp_path / "1orc.pdb").write_bytes((structures / "1orc.pdb").read_bytes())
    (tmp_path / "1orc.pdb.index").touch()
    (tmp_path / "sequences").write_bytes(b"MKV\n\0")
    (tmp_path / "sequences.index").write_text("0\t0\t5\n")
    for path in (tmp_path / "1orc.pdb", tmp_path / "sequences", tmp_path / "none", tmp_path):
        assert not archives.is_archive(str(path))
    assert archives.is_archive(str(database))
    database.with_name("models.index").unlink()
    with pytest.raises(StructureError, match=r"keep its \.index file beside it"):
        read_chain(database)
