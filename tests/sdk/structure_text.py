"""Hand-made PDB text and a comparison of chains, for the tests of reading."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.reader import read_chain

HERE = Path(__file__).resolve().parents[1] / "structures"
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


def a_chain(length: int = 4) -> Chain:
    return read_chain((np.arange(3.0 * length).reshape(-1, 3) * 2, "ACDE"[:length]))


def assert_same(a: Chain, b: Chain, *fields: str) -> None:
    assert a.sequence == b.sequence
    for field in fields or SAME_IN_BOTH_FORMATS:
        np.testing.assert_array_equal(getattr(a, field), getattr(b, field), err_msg=f"{a.id} {field}")
