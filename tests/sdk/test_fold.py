"""Helices and strands from C-alphas: as the authors of structures give them, and in any orientation."""

from __future__ import annotations

import re
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protemb_sdk import read_chain
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.fold import fold_of

from .conftest import turned, walk


def whole(coords: np.ndarray) -> np.ndarray:
    return np.zeros(len(coords), dtype=bool)


def helix(length: int) -> np.ndarray:
    """Return C-alphas of an ideal right-handed helix: 100 degrees and 1.5 angstrom a residue."""
    turn = np.radians(100) * np.arange(length)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], axis=1)


def sheet(length: int) -> np.ndarray:
    """Return C-alphas of two pleated strands, 4.8 angstrom apart, and a long way between them."""
    place = np.arange(length)
    strand = np.stack([3.3 * place, 0.9 * (-1.0) ** place, 0 * place], axis=1)
    loop = np.stack([np.linspace(50, 55, 6), np.full(6, 60.0), 3.8 * np.arange(6)], axis=1)
    return np.concatenate([strand, loop, np.add(strand[::-1], (0, 0, 4.8))])


def of_author(path: Path, chain: Chain) -> str:
    """Return the letters by HELIX and SHEET of the file, without helices below six residues."""
    structure = gemmi.read_structure(str(path))
    strands = [strand for sheet in structure.sheets for strand in sheet.strands]
    found = np.full(len(chain), "-")
    for letter, stretches in (("E", strands), ("H", structure.helices)):
        for stretch in stretches:
            if stretch.start.chain_name == chain.chain_id:
                first, last = (end.res_id.seqid.num or 0 for end in (stretch.start, stretch.end))
                if letter == "E" or last - first >= 5:
                    found[(chain.auth_seq >= first) & (chain.auth_seq <= last)] = letter
    return "".join(found)


@pytest.mark.parametrize(
    ("name", "chain_id", "agreement"),
    [("1a8o.cif", "A", 0.95), ("1orc.pdb", "A", 0.85), ("3jqh.cif", "A", 0.9), ("4zhl.cif.gz", "U", 0.7)],
)
def test_letters_agree_with_those_of_the_authors(
    structures: Path, name: str, chain_id: str, agreement: float
) -> None:
    chain = read_chain(structures / name, chain_id)
    found = fold_of(chain.ca_coords, np.append(np.diff(chain.residue_index) > 1, False))
    expected = of_author(structures / name, chain)
    assert len(found) == len(chain) and set(found) <= set("HE-")
    assert np.mean([a == b for a, b in zip(found, expected, strict=True)]) >= agreement
    assert not {"HE", "EH"} & {a + b for a, b in zip(found, expected, strict=True)} or name == "4zhl.cif.gz"


def test_ideal_helices_and_sheets() -> None:
    assert fold_of(helix(12), whole(helix(12))) == "-" + 10 * "H" + "-"
    mirrored = helix(12) * [-1, 1, 1]
    assert fold_of(mirrored, whole(mirrored)) == 12 * "-"  # left-handed
    coords = sheet(7)
    assert fold_of(coords, whole(coords)) == "-EEEEE-" + 6 * "-" + "-EEEEE-"
    alone = coords[:7]
    assert fold_of(alone, whole(alone)) == 7 * "-"  # a strand has a neighbour


def test_nothing_goes_on_over_a_gap() -> None:
    coords, gap = helix(17), np.zeros(17, dtype=bool)
    gap[7] = True
    assert fold_of(coords, gap) == "-HHHHHH--HHHHHHH-"


def test_turns_are_no_helices(structures: Path) -> None:
    for length in (4, 7, 8):
        found = (length - 2) * "H" if length == 8 else (length - 2) * "-"
        assert fold_of(helix(length), whole(helix(length))) == f"-{found}-"
    chain = read_chain(structures / "1a8o.cif")
    letters = fold_of(chain.ca_coords, whole(chain.ca_coords))
    numbers = [chain.auth_seq[[found.start(), found.end() - 1]] for found in re.finditer("H+", letters)]
    # All of the authors but 189-192, a turn.
    assert np.abs(np.subtract(numbers, [(161, 175), (179, 187), (196, 205), (211, 217)])).max() <= 1


@pytest.mark.parametrize("length", range(5))
def test_short_chains_have_no_fold(length: int) -> None:
    assert fold_of(helix(length), whole(helix(length))) == length * "-"


@given(seed=st.integers(0, 999), length=st.integers(1, 60))
def test_letters_are_the_same_in_any_orientation(seed: int, length: int) -> None:
    coords = np.concatenate([walk(length, seed)[0], helix(9) + 100])
    found = fold_of(coords, whole(coords))
    assert len(found) == len(coords) and "HHHHH" in found
    assert fold_of(np.add(turned(coords, seed), (10, -20, 30)), whole(coords)) == found


def test_places_that_coincide_are_no_error() -> None:
    assert fold_of(np.zeros((9, 3), dtype=np.float32), np.zeros(9, dtype=bool)) == 9 * "-"
