"""Values that a `Chain` accepts, and errors for invalid values."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

from protemb_sdk import Chain, StructureError
from protemb_sdk._structure.chain import ALPHABET, Skipped, encode_sequence, index_with_gaps, no_protein_chain
from protemb_sdk._structure.reader import read_chain

from .structure_text import a_chain


@pytest.mark.parametrize("index", [[-(2**31) + 2, -5, 0], [0, 1, 2**31 - 2], [0, 1, 2]])
def test_residue_indices_within_32_bits_are_accepted(index: list[int]) -> None:
    chain = read_chain((np.eye(3) * 3, "AAA", index))
    assert chain.auth_seq.tolist() == [i + 1 for i in index]
    assert chain.residue_index.tolist() == [i - index[0] for i in index]


@pytest.mark.parametrize(
    "index",
    [
        [0, 1, 2**31 - 1],
        [5, 6, 2**31 - 1],
        [-(2**31) + 1, 0, 1],
        [-(2**31) + 2, 0, 2**31 - 2],
        [0, 1, 1],
        [0, 2, 1],
    ],
)
def test_residue_indices_beyond_32_bits_or_out_of_order_are_refused(index: list[int]) -> None:
    with pytest.raises(StructureError, match="increase strictly and fit into 32 bits"):
        read_chain((np.eye(3) * 3, "AAA", index))


@pytest.mark.parametrize(("last", "taken"), [(2**31 - 1, True), (2**31, False)])
def test_range_of_residue_indices_must_fit_into_32_bits(last: int, taken: bool) -> None:
    wide = {"residue_index": np.array([0, 7, 8, last]), "auth_seq": np.array([5, 12, 13, 99])}
    if taken:
        assert replace(a_chain(), **wide).residue_index[-1] == last
        return
    with pytest.raises(StructureError, match="residues are numbered 5 to 99, too wide"):
        replace(a_chain(), **wide)


def test_centring_does_not_change_distances() -> None:
    chain = a_chain()
    np.testing.assert_allclose(chain.centred_coords.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(np.diff(chain.centred_coords, axis=0), np.diff(chain.ca_coords, axis=0))


@pytest.mark.parametrize(("step", "doubt"), [(1.8, True), (2.0, False), (0.38, True)])
def test_short_c_alpha_distances_are_noted_as_possible_nanometres(step: float, doubt: bool) -> None:
    notes = read_chain((np.arange(3)[:, None] * np.array([step, 0, 0]), "AAA")).notes
    assert any("nanometres" in note for note in notes) == doubt
    assert read_chain((np.zeros((1, 3)), "A")).notes == ()


def test_chain_breaks_without_a_gap_in_the_index_are_counted() -> None:
    coords = np.array([[0, 0, 0], [4.2, 0, 0], [8.6, 0, 0], [13.0, 0, 0]])
    (note,) = read_chain((coords, "AAAA")).notes
    assert "broken 2 times" in note
    (note,) = read_chain((coords, "AAAA", [0, 1, 2, 4])).notes
    assert "broken 1 times" in note
    assert read_chain((coords, "AAAA", [0, 1, 3, 5])).notes == ()


@pytest.mark.parametrize(("step", "number", "index"), [(4.2, 9, 1), (4.4, 9, 8), (4.4, 1, 1), (4.4, -5, 1)])
def test_increasing_residue_numbers_define_gaps_at_chain_breaks_only(
    step: float, number: int, index: int
) -> None:
    found = index_with_gaps(np.array([[0.0, 0, 0], [step, 0, 0]]), np.array([1, number]))
    assert found.tolist() == [0, index]


def test_every_array_of_a_chain_must_match_its_sequence() -> None:
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


def test_arrays_of_a_chain_have_the_documented_types() -> None:
    chain = a_chain()
    again = Chain(**{f.name: getattr(chain, f.name) for f in fields(chain)} | {"auth_seq": [1, 2, 3, 4]})
    assert again.auth_seq.dtype == np.int32 and again.ca_coords.dtype == np.float64
    assert replace(chain, ca_coords=chain.ca_coords.astype(np.float32)).ca_coords.dtype == np.float64
    assert again.id == "array" and replace(again, chain_id="B").id == "array_B"


@pytest.mark.parametrize(("count", "rest"), [(0, "it holds no atoms"), (1, ""), (5, ""), (6, "and 1 more")])
def test_error_lists_five_reasons_and_counts_the_others(count: int, rest: str) -> None:
    message = str(no_protein_chain("x", [Skipped("x", " ", f"reason {i}") for i in range(count)]))
    assert (
        message.count("reason ") == min(count, 5) and rest in message and ("more" in message) == (count > 5)
    )
    assert "chain ' ': reason 0" in message or count == 0


def test_residue_types_are_positions_in_the_alphabet() -> None:
    assert encode_sequence(ALPHABET).tolist() == list(range(21)) == encode_sequence(ALPHABET.lower()).tolist()
    assert encode_sequence("BZ*é-").tolist() == [20] * 5


def test_skipped_compares_and_prints_without_its_error() -> None:
    one, other = (Skipped("x", "A", "is bad", StructureError(text)) for text in "ab")
    assert one == other and "error" not in repr(one) and str(one) == "x, chain A: is bad"
    assert str(Skipped("x", " ", "is bad")) == "x, chain ' ': is bad"
    assert str(Skipped("x", "", "is bad")) == "x: is bad"
