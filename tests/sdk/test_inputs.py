"""`Input`, the type of everything that can be embedded: its kinds, names and pickling."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

from protemb_sdk import Chain, Embedder, StructureError, read_chains
from protemb_sdk._structure.inputs import Input, Kind, inputs_of


def opened(path: Path) -> Any:
    return io.BytesIO(path.read_bytes())


def of_gemmi(path: Path) -> Any:
    return gemmi.read_structure(str(path))


def of_biotite(path: Path) -> Any:
    pdb = pytest.importorskip("biotite.structure.io.pdb")
    return pdb.PDBFile.read(str(path)).get_structure(model=1)


def of_biopython(path: Path) -> Any:
    return pytest.importorskip("Bio.PDB").PDBParser(QUIET=True).get_structure("1a8o", str(path))


def arrays(path: Path) -> Any:
    chain = read_chains(path).chains[0]
    return chain.ca_coords, chain.sequence, chain.residue_index


MAKERS: dict[Kind, Callable[[Path], Any]] = {
    Kind.FILE: str,
    Kind.BYTES: Path.read_bytes,
    Kind.STREAM: opened,
    Kind.GEMMI: of_gemmi,
    Kind.BIOTITE: of_biotite,
    Kind.BIOPYTHON: of_biopython,
    Kind.ARRAYS: arrays,
    Kind.CHAIN: lambda path: read_chains(path).chains[0],
    Kind.READ: read_chains,
}


@pytest.mark.parametrize("kind", MAKERS)
def test_each_kind_is_recognised_read_and_sent_to_another_process(structures: Path, kind: Kind) -> None:
    path = structures / "1a8o.pdb"
    x = Input.of(MAKERS[kind](path))
    assert x.kind is kind and Input.of(x) is x
    sent = pickle.loads(pickle.dumps(x.portable(Input.read)))
    if kind is Kind.STREAM:
        x.content.seek(0)
    (mine,), (theirs,) = x.read().chains, sent.read().chains
    assert mine.sequence == theirs.sequence == read_chains(path).chains[0].sequence
    np.testing.assert_array_equal(mine.ca_coords, theirs.ca_coords)
    assert (sent.name, theirs.id, theirs.source) == (x.name, mine.id, mine.source)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_content_of_any_bytes_type_can_be_sent_to_another_process(structures: Path, kind: type[Any]) -> None:
    x = Input.of(kind((structures / "1a8o.pdb").read_bytes()))
    sent = pickle.loads(pickle.dumps(x.portable(Input.read)))
    assert sent.read().chains[0].id == x.read().chains[0].id == "1A8O_A"


def test_a_path_of_any_type_is_the_same_input(structures: Path) -> None:
    class Named(os.PathLike[str]):
        def __fspath__(self) -> str:
            return str(structures / "1a8o.pdb")

    for path in (str(structures / "1a8o.pdb"), structures / "1a8o.pdb", Named()):
        x = Input.of(path)
        assert (x.kind, x.name) == (Kind.FILE, str(structures / "1a8o.pdb"))
        assert read_chains(path).chains[0].source == x.name
        pickle.dumps(x)


@pytest.mark.parametrize("x", [None, 5, object(), ["a.pdb"], gemmi.Model(1)])
def test_objects_of_other_types_are_refused(x: object) -> None:
    found = Input.of(x)
    assert found.kind is Kind.UNKNOWN
    with pytest.raises(StructureError, match=f"cannot read a structure from {type(x).__name__}"):
        found.read()


def test_names_of_inputs_with_and_without_a_file(structures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(structures)
    chain = read_chains("1a8o.pdb").chains[0]
    assert Input.of(chain).names == ("1a8o.pdb:A", "1a8o_A")
    assert Input.of(chain).absolute().name == f"{structures}/1a8o.pdb:A"
    assert Input.of("d/../x.pdb").absolute().name == f"{structures}/d/../x.pdb"
    member = Input("a.tar/x.pdb", b"", Kind.MEMBER).absolute()
    assert (member.name, member.kind) == (f"{structures}/a.tar/x.pdb", Kind.MEMBER)
    assert Input.of(b"").listed(3) == "input 3 (bytes)" and Input.of(b"").absolute() == Input.of(b"")
    with Path("1a8o.pdb").open("rb") as file:
        assert Input.of(file).listed(1) == "1a8o.pdb"


def test_one_input_is_distinguished_from_a_collection(structures: Path, tmp_path: Path) -> None:
    def stream() -> Iterator[bytes]:
        yield b"1"
        yield b"2"

    chain = arrays(structures / "1a8o.pdb")
    for one in (structures / "1a8o.pdb", b"", chain, chain[:2], of_gemmi(structures / "1a8o.pdb"), 5):
        assert [x.content for x in inputs_of(one)] == [one]
    for several in (["a.pdb", "b.pdb"], ("a.pdb", "b.pdb"), (b"1", b"2"), [chain, chain]):
        assert [x.content for x in inputs_of(several)] == list(several)
    assert not isinstance(inputs_of(stream()), list) and len(list(inputs_of(stream()))) == 2
    (failed,) = inputs_of([tmp_path])
    assert (failed.kind, failed.name) == (Kind.FAILED, str(tmp_path))
    with pytest.raises(StructureError, match="no structure file in this folder"):
        pickle.loads(pickle.dumps(failed)).read()


# --- Chain.from_arrays ----------------------------------------------------------------------------


def test_a_chain_from_arrays_equals_the_chain_of_a_tuple(structures: Path, embedder: Embedder) -> None:
    coordinates, sequence, index = arrays(structures / "1a8o.pdb")
    chain = Chain.from_arrays(coordinates.tolist(), sequence.lower(), index, name="mine", chain_id="B")
    assert (chain.id, chain.label_chain, chain.source, chain.notes) == ("mine_B", "", "", ())
    other = embedder.embed((coordinates, sequence, index))
    np.testing.assert_array_equal(embedder.embed(chain, "B").residue, other.residue)
    np.testing.assert_array_equal(chain.auth_seq, other.chain.auth_seq)
    assert Chain.from_arrays(coordinates, sequence).id == other.chain.id == "array"


def test_a_chain_copies_its_arrays() -> None:
    coordinates = np.cumsum(np.full((4, 3), 2.2), axis=0)
    chain = Chain.from_arrays(coordinates, "MKVL")
    coordinates[:] = 0
    assert np.linalg.norm(np.diff(chain.ca_coords, axis=0), axis=1) == pytest.approx([2.2 * 3**0.5] * 3)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ((np.eye(3), "MK"), "do not match a sequence of 2"),
        ((np.eye(3), ["M", "K", "V"]), "the sequence must be a str of one-letter codes, not list"),
        ((np.eye(3), b"MKV"), "must be a str of one-letter codes, not bytes"),
        ((np.eye(3) * 1j, "MKV"), "must be numbers"),
        ((np.full((3, 3), np.nan), "MKV"), "no residue has a position"),
        ((np.array([[1, 1, 1], [np.inf, 1, 1]]), "MK"), "not finite"),
        ((np.eye(3), "MKV", [0, 1]), "one integer for each of 3 residues"),
        ((np.eye(3), "MKV", [0.0, 1.0, 2.0]), "one integer for each of 3 residues"),
        ((np.eye(3), "MKV", [0, 1, 1]), "increase strictly"),
        ((np.empty((0, 3)), ""), "holds no residue"),
    ],
)
def test_invalid_arrays_are_refused(arguments: tuple[Any, ...], match: str) -> None:
    with pytest.raises(StructureError, match=match):
        Chain.from_arrays(*arguments, name="x")
