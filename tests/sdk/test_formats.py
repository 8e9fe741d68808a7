"""PQR, archives, leading text, missing columns, BinaryCIF, and objects that raise exceptions."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from http.client import IncompleteRead
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import Embedder, ProtembError, StructureError
from protemb_sdk._structure.reader import read_chain, read_chains

from .peptides import COLUMNS, ONE, OTHER, cif, helix, pdb
from .structure_text import assert_same

# --- PQR ---------------------------------------------------------------------------------------------


def pqr(form: str, letter: str = "") -> bytes:
    lines = []
    for serial, atom in enumerate(helix(), 1):
        x, y, z = atom.place
        lines.append(form.format(
            serial=serial, name=atom.name, residue=atom.residue, chain=letter, number=atom.number,
            x=x, y=y, z=z,
        ))  # fmt: skip
    return ("\n".join(lines) + "\n").encode()


FREE = (
    "ATOM  {serial:5}  {name:4} {residue:4} {chain}{number:5}    {x:10.3f}{y:10.3f}{z:10.3f}  0.1000 1.9080",
    "ATOM {serial} {name} {residue} {chain} {number} {x:.3f} {y:.3f} {z:.3f} 0.1000 1.9080",
    "ATOM   {serial:6} {name:>4} {residue:>4} {chain}{number:5}     {x:9.4f} {y:9.4f} {z:9.4f} 0.1000 1.9080",
    "ATOM  {serial:5} {name:>4} {residue:>4}  {number:4}     {x:8.4f} {y:8.4f} {z:8.4f} -0.3000 1.8500",
)


@pytest.mark.parametrize("form", FREE)
@pytest.mark.parametrize("letter", ["", "A"])
def test_pqr_with_free_columns_is_refused(form: str, letter: str) -> None:
    with pytest.raises(StructureError, match=r"are not in columns 31 to 54|not a valid PDB"):
        read_chains(pqr(form, letter))


def test_pqr_with_the_columns_of_pdb_is_read() -> None:
    form = "ATOM  {serial:5}  {name:3} {residue:3} A{number:4}    {x:8.3f}{y:8.3f}{z:8.3f}  0.1000 1.9080"
    assert read_chain(pqr(form)).sequence == ONE


@given(shift=st.integers(-7, 12).filter(bool), column=st.sampled_from([27, 29, 30, 38, 46]))
@settings(deadline=None, max_examples=80)
def test_shifted_columns_never_change_all_coordinates(shift: int, column: int) -> None:
    """Text after a column is moved right or left: it is refused, or one coordinate is unchanged."""
    lines = []
    for line in pdb(helix(away=-120.0)).decode().splitlines():
        rest = " " * shift + line[column:] if shift > 0 else line[column - shift :]
        lines.append(line[:column] + rest)
    try:
        found = read_chains("\n".join(lines).encode()).chains
    except StructureError:
        return
    expected = read_chain(pdb(helix(away=-120.0)))
    for chain in found:
        same = (np.abs(chain.ca_coords - expected.ca_coords[: len(chain)]) < 1e-6).all(axis=0)
        assert same.any(), "every coordinate is another one"


# --- archives and leading text -----------------------------------------------------------------------


@pytest.mark.parametrize("members", [1, 3])
def test_uncompressed_archives_are_recognised_by_their_first_bytes(members: int, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_STORED) as archive:
        for n in range(members):
            archive.writestr(f"{n}.pdb", pdb(helix()))
    for form in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        with tarfile.open(tmp_path / f"{form}.tar", "w", format=form) as tar:
            for n in range(members):
                info = tarfile.TarInfo(f"{n}.pdb")
                info.size = len(pdb(helix()))
                tar.addfile(info, io.BytesIO(pdb(helix())))
    with pytest.raises(StructureError, match="a zip archive; unpack it first"):
        read_chains((tmp_path / "x.zip").read_bytes())
    for tar_file in tmp_path.glob("*.tar"):
        for content in (tar_file.read_bytes(), gzip.compress(tar_file.read_bytes())):
            with pytest.raises(StructureError, match="a tar archive; pass its path to embed_many"):
                read_chains(content)


def test_a_tar_archive_of_the_format_before_1988_is_recognised() -> None:
    header = bytearray(tarfile.TarInfo("x.pdb").tobuf(tarfile.USTAR_FORMAT))
    header[257:] = bytes(255)
    header[148:156] = b" " * 8
    header[148:156] = f"{sum(header):06o}\0 ".encode()
    with pytest.raises(StructureError, match="a tar archive"):
        read_chains(bytes(header) + pdb(helix()))


@pytest.mark.parametrize(
    "front",
    [
        "text in front\n",
        "\n\nSome header: 5\nmore\n\n",
        "# comment\nnot CIF 'at all\n",
        "REMARK written by x\n",
    ],
)
def test_text_before_the_first_data_block_is_ignored_and_noted(front: str) -> None:
    chain = read_chain(front.encode() + cif(helix()))
    assert chain.sequence == ONE and chain.notes == ("text before the first data_ was left out",)


@pytest.mark.parametrize("front", ["# comment\n", "\n\n", "#\n#\n"])
def test_comments_before_the_first_data_block_are_not_noted(front: str) -> None:
    assert read_chain(front.encode() + cif(helix())).notes == ()


# --- missing columns ---------------------------------------------------------------------------------

NEEDED = {"Cartn_x", "Cartn_y", "Cartn_z"}


@pytest.mark.parametrize("column", COLUMNS)
def test_each_column_is_optional_or_named_in_the_error(column: str) -> None:
    text = cif(helix(), helix(OTHER, chain="B", away=30), without=[column])
    if column in NEEDED:
        with pytest.raises(StructureError, match=f"lacks the column _atom_site.{column}"):
            read_chains(text)
    else:
        assert [(c.chain_id, c.sequence) for c in read_chains(text).chains] == [("A", ONE), ("B", OTHER)]


PAIRS = (
    ({"label_atom_id", "auth_atom_id"}, "label_atom_id"),
    ({"label_comp_id", "auth_comp_id"}, "label_comp_id"),
)  # fmt: skip


@given(gone=st.sets(st.sampled_from(COLUMNS)))
@settings(deadline=None, max_examples=100)
def test_any_set_of_columns_may_be_missing_or_gives_an_error(gone: set[str]) -> None:
    text = cif(helix(), without=sorted(gone))
    needed = [c for c in sorted(NEEDED & gone)] + [name for pair, name in PAIRS if pair <= gone]
    if gone == set(COLUMNS):
        return
    if needed:
        with pytest.raises(StructureError, match=r"lacks the column|holds no _atom_site"):
            read_chains(text)
    else:
        assert [c.sequence for c in read_chains(text).chains] == [ONE]


def test_quoted_values_are_read() -> None:
    text = cif(helix()).decode().replace(" CA ", " 'CA' ").replace(" A ", ' "A" ')
    assert [(c.chain_id, c.sequence) for c in read_chains(text.encode()).chains] == [("A", ONE)]


def test_coordinates_with_uncertainties_are_read() -> None:
    text = cif(helix()).decode()
    whole = read_chain(text.encode())
    x = f"{whole.ca_coords[0, 0]:.3f}"
    np.testing.assert_array_equal(
        read_chain(text.replace(f" {x} ", f" {x}(4) ").encode()).ca_coords, whole.ca_coords
    )


# --- BinaryCIF ---------------------------------------------------------------------------------------


def test_binary_cif_and_mmcif_give_the_same_chain(structures: Path, tmp_path: Path) -> None:
    packed = structures / "3jqh.bcif.gz"
    data = packed.read_bytes()
    for altloc in ("highest", "first", "B"):
        for x in (packed, data, gzip.decompress(data), io.BytesIO(data)):
            chain, expected = read_chain(x, altloc=altloc), read_chain(structures / "3jqh.cif", altloc=altloc)
            assert_same(chain, expected)
            assert (chain.chain_id, chain.label_chain, chain.notes) == ("A", "A", ())
    assert read_chain(packed).name == "3jqh" and read_chain(packed.read_bytes()).name == "3JQH"


@pytest.mark.parametrize("name", ["1a8o.cif", "4zhl.cif.gz", "1lcd.cif.gz", "3jqh.cif"])
def test_binary_cif_written_by_biotite_is_read(structures: Path, name: str) -> None:
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    text = (structures / name).read_bytes()
    text = gzip.decompress(text) if text[:2] == b"\x1f\x8b" else text
    plain = pdbx.CIFFile.read(io.StringIO(text.decode()))
    file = pdbx.BinaryCIFFile()
    for key, block in plain.items():
        columns = {
            tag: pdbx.BinaryCIFColumn(
                pdbx.BinaryCIFData(np.asarray(column.as_array(str, masked_value=""))),
                None if column.mask is None else pdbx.BinaryCIFData(column.mask.array),
            )
            for tag, column in block["atom_site"].items()
        }
        file[key] = pdbx.BinaryCIFBlock({"atom_site": pdbx.BinaryCIFCategory(columns)})
    written = io.BytesIO()
    pdbx.compress(file).write(written)
    found, expected = read_chains(written.getvalue()).chains, read_chains(structures / name).chains
    assert [c.chain_id for c in found] == [c.chain_id for c in expected]
    for mine, other in zip(found, expected, strict=True):
        assert_same(mine, other, "ca_coords", "auth_seq", "insertion_code", "residue_name", "label_seq")


@given(at=st.floats(0, 1, exclude_max=True), change=st.binary(min_size=1, max_size=6), cut=st.floats(0.01, 1))
@settings(deadline=None, max_examples=150)
def test_damaged_binary_cif_is_refused_or_read(at: float, change: bytes, cut: float) -> None:
    whole = bytearray(
        gzip.decompress((Path(__file__).parents[1] / "structures" / "3jqh.bcif.gz").read_bytes())
    )
    place = int(at * len(whole))
    whole[place : place + len(change)] = change
    try:
        read_chains(bytes(whole[: max(1, int(cut * len(whole)))]))
    except ProtembError as error:
        assert "\n" not in str(error)


# --- objects that raise exceptions -------------------------------------------------------------------


class Lazy:
    """An array-like object that raises an error when it is converted to an array."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __array__(self, *arguments: object, **options: object) -> np.ndarray:
        raise self.error


class Stream:
    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self) -> bytes:
        raise self.error


class Strange:
    """An object that raises an error for every attribute."""

    def __getattr__(self, name: str) -> object:
        raise RuntimeError(f"no {name} today")


ERRORS = (
    RuntimeError("not computed"), KeyError("x"), MemoryError(), IncompleteRead(b"ATOM", 1000),
    ZeroDivisionError(),
    NotImplementedError("lazy"), EOFError(), AssertionError("a\nb"), StopIteration(), RecursionError(),
)  # fmt: skip


@pytest.mark.parametrize("error", ERRORS, ids=lambda e: type(e).__name__)
def test_exceptions_of_streams_and_arrays_become_structure_errors(
    error: Exception, embedder: Embedder, structures: Path
) -> None:
    for x in ((Lazy(error), ONE), (np.eye(3), "AAA", Lazy(error)), Stream(error), Strange()):
        with pytest.raises(StructureError) as caught:
            embedder.embed(x)
        assert "\n" not in str(caught.value)
    good = structures / "1a8o.cif"
    run = embedder.embed_many([Stream(error), good, (Lazy(error), ONE), Strange(), good], on_error="skip")
    assert [e.id for e in run] == ["1a8o_A", "1a8o_A"]
    assert len(run.skipped) == 3 and run.skipped[0].error is not None and run.skipped[0].error.retryable


def test_exceptions_of_other_libraries_become_structure_errors(structures: Path) -> None:
    pdbx = pytest.importorskip("biotite.structure.io.pdbx")
    array = pdbx.get_structure(pdbx.CIFFile.read(structures / "1a8o.cif"), model=1)

    class Broken:
        coord, chain_id, res_id = array.coord, array.chain_id, array.res_id
        res_name, atom_name = array.res_name, Lazy(RuntimeError("not computed"))

    with pytest.raises(StructureError, match=r"the structure cannot be read .not computed"):
        read_chains(Broken())
    Broken.atom_name = array.atom_name[:5]
    with pytest.raises(StructureError, match="the structure cannot be read"):
        read_chains(Broken())


def test_gemmi_names_that_are_not_utf8_are_ignored() -> None:
    text = pdb("HEADER    HYDROLASE                               01-JAN-00   1ABC", helix())
    structure = gemmi.read_pdb_string(text.replace(b"1ABC", b"1\xc3BC"))
    assert read_chain(structure).id == "structure_A"


@pytest.mark.filterwarnings("error")
def test_tensors_are_read_as_arrays_or_give_an_error() -> None:
    torch = pytest.importorskip("torch")
    whole = read_chain(pdb(helix()))
    tensor = torch.tensor(whole.ca_coords)
    np.testing.assert_array_equal(read_chain((tensor, ONE)).ca_coords, whole.ca_coords)
    index = torch.arange(10)
    assert read_chain((tensor.float(), ONE, index)).residue_index.tolist() == list(range(10))
    with pytest.raises(StructureError, match="requires grad"):
        read_chain((tensor.clone().requires_grad_(), ONE))
    with pytest.raises(StructureError, match="must be numbers"):
        read_chain((torch.empty(10, 3, device="meta"), ONE))


def test_a_gemmi_document_of_two_structures_is_refused() -> None:
    document = gemmi.cif.read_string((cif(helix()) + cif(helix(OTHER), name="y")).decode())
    with pytest.raises(StructureError, match="cannot read a structure from Document"):
        read_chains(document)
