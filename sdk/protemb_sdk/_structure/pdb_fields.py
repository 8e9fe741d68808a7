"""Fields of a PDB file: residue numbers, coordinates, names of four letters, and what the header says."""

from __future__ import annotations

import re

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._structure.residue_names import is_long_name, kind_of

Bytes = NDArray[np.uint8]

SPACE = 32

_DIGIT = np.zeros(256, dtype=bool)
_DIGIT[ord("0") : ord("9") + 1] = True
_NUMERIC = _DIGIT.copy()
_NUMERIC[list(b" +-.eE")] = True
_NO_POSITION = re.compile(rb"\*+|[-+]?nan|[-+]?inf(inity)?|[?.]?", re.IGNORECASE)

_WHOLE = np.frombuffer(b"  1.00", dtype=np.uint8)
# Digits are of kind 0, blanks 1, a minus 2, all else 3; before the point come blanks, a minus, digits.
_KIND = bytes(0 if chr(c).isdecimal() and c < 128 else {SPACE: 1, ord("-"): 2}.get(c, 3) for c in range(256))
_VALUE = bytes(c - ord("0") if ord("0") <= c <= ord("9") else 0 for c in range(256))
_FOLLOWS = np.zeros(16, dtype=bool)
_FOLLOWS[[0, 4, 5, 6, 8]] = True
_PLACES = np.array([1e6, 1e5, 1e4, 1e3, 0, 100, 10, 1])

_CODE = re.compile(rb"[1-9][A-Za-z0-9]{3}")


def as_bytes(block: Bytes) -> list[bytes]:
    """Return the rows of a block of letters."""
    if block.size == 0:
        return [b""] * len(block)
    # A NUL at the end of a row would be lost; there is none in cleaned text.
    found: list[bytes] = np.ascontiguousarray(block).view(f"S{block.shape[1]}").ravel().tolist()
    return found


def as_text(block: Bytes) -> list[str]:
    """Return the rows of a block of letters without the blanks around them."""
    return [row.decode("ascii").strip() for row in as_bytes(block)]


# --- numbers of residues --------------------------------------------------------------------------


def numbers_and_codes(block: Bytes) -> tuple[list[int | None], list[str]]:
    """Return residue numbers and insertion codes out of columns 23 to 27, shape (residues, 5)."""
    if (block[:, 4] == SPACE).all():
        try:
            numbers = np.ascontiguousarray(block[:, :4]).view("S4").ravel().astype(np.int64)
            return list(numbers.tolist()), [""] * len(block)
        except ValueError:
            pass
    pairs = [number_and_code(field) for field in as_bytes(block)]
    return [number for number, _ in pairs], [code for _, code in pairs]


def number_and_code(field: bytes) -> tuple[int | None, str]:
    """Return a residue number and its insertion code out of columns 23 to 27; None where there is no number.

    Numbers above 9999 come with five digits or in hybrid-36 (A000 is 10000).
    """
    text, code = field[:4].strip(), field[4:].decode("ascii").strip()
    if code.isdigit() and text.isdigit() and len(text) == 4:
        return int(field), ""
    try:
        return int(text.replace(b"_", b"?")), code
    except ValueError:
        pass
    if len(text) == 4 and text.isalnum() and text[:1].isalpha():
        upper = text.isupper() or text[:1].isupper()
        return int(text, 36) - 10 * 36**3 + 10**4 + (0 if upper else 26 * 36**3), code
    return None, code


def names_and_chains(head: Bytes) -> tuple[list[str], list[str]]:
    """Return residue and chain names out of columns 18 to 22."""
    rows = as_bytes(head[:, :5])
    long = long_names(rows)
    cut = {row: (4 if row[3:5] in long else 3) for row in set(rows)}
    names = {row: row[:at].decode("ascii").strip() for row, at in cut.items()}
    chains = {row: row[at:].decode("ascii").strip() for row, at in cut.items()}
    return [names[row] for row in rows], [chains[row] for row in rows]


# --- coordinates ----------------------------------------------------------------------------------


def positions(
    block: Bytes, is_ca: NDArray[np.bool_], lines: NDArray[np.int64], where: str
) -> NDArray[np.float64]:
    """Return coordinates out of columns 30 to 55, shape (atoms, 3); NaN where there is no position.

    Raises
    ------
    StructureError
        If a number is not where the format has it, or that of a C-alpha is none.
    """
    check_columns(block, lines, where)
    fields = np.ascontiguousarray(block[:, 1:25]).reshape(-1, 3, 8)
    if (found := _thousandths(fields)) is not None:
        return found
    flat = fields.view("S8").reshape(-1, 3)
    odd = ~(_NUMERIC[fields].all(axis=2) & _DIGIT[fields].any(axis=2))
    if odd.any():
        flat = flat.copy()
        for row, axis in np.argwhere(odd):
            if is_ca[row] and not _NO_POSITION.fullmatch(flat[row, axis].strip()):
                raise _garbled(where, lines[row])
            flat[row, axis] = b"nan"
    try:
        return flat.astype(np.float64)
    except ValueError:
        return _one_by_one(flat, is_ca, lines, where)


def _thousandths(fields: Bytes) -> NDArray[np.float64] | None:
    """Return numbers of three decimals in eight columns, shape (..., 8); None if one is written otherwise."""
    letters = fields.tobytes()  # bytes are translated faster than arrays are indexed
    kind = np.frombuffer(letters.translate(_KIND), dtype=np.uint8).reshape(fields.shape)
    follows = _FOLLOWS.take(4 * kind[..., :3] + kind[..., 1:4])
    decimals = (kind[..., 3] == 0).all() and (kind[..., 5:] == 0).all()
    if not (decimals and (fields[..., 4] == ord(".")).all() and follows.all()):
        return None
    # Whole thousandths, divided once, are the nearest number as float() gives it.
    digits = np.frombuffer(letters.translate(_VALUE), dtype=np.uint8).reshape(fields.shape)
    value = digits.astype(np.float64) @ _PLACES / 1000.0
    found: NDArray[np.float64] = np.where((kind[..., :3] == 2).any(axis=-1), -value, value)
    return found


def check_columns(block: Bytes, lines: NDArray[np.int64], where: str) -> None:
    """Check that numbers begin and end within columns 31 to 38, 39 to 46 and 47 to 54.

    Raises
    ------
    StructureError
        If one begins before them or goes on behind them, so that digits would be cut off.
    """
    first, last, after = block[:, 1:25:8], block[:, 8:25:8], block[:, 9:26:8]
    # Numbers touch where all eight columns are taken, with three decimals.
    is_full = block[:, 5:25:8] == ord(".")
    shifted = ((last != SPACE) & (after != SPACE) & ~is_full).any(axis=1)
    shifted |= (block[:, 0] != SPACE) & (first[:, 0] != SPACE)
    if shifted.any():
        raise StructureError(
            f"the coordinates in line {lines[int(np.argmax(shifted))] + 1} are not in columns 31 "
            "to 54 as in a PDB file; PQR and other formats with free columns are not read",
            where,
        )


def _one_by_one(
    flat: NDArray[np.bytes_], is_ca: NDArray[np.bool_], lines: NDArray[np.int64], where: str
) -> NDArray[np.float64]:
    found = np.full(flat.shape, np.nan)
    for row in range(len(flat)):
        try:
            found[row] = [float(field) for field in flat[row]]
        except ValueError:
            if is_ca[row]:
                raise _garbled(where, lines[row]) from None
    return found


def _garbled(where: str, line: int) -> StructureError:
    return StructureError(
        f"the coordinates of the C-alpha in line {line + 1} are not numbers; remove or repair it", where
    )


def occupancies(block: Bytes) -> NDArray[np.float64]:
    """Return occupancies; 1 where there is none."""
    # "  1.00" as most files have it, without another look.
    if (block == _WHOLE).all():
        return np.ones(len(block))
    fields = np.ascontiguousarray(block).view("S6").ravel()
    fields = np.where((block == SPACE).all(axis=1), b"1", fields)
    try:
        found = fields.astype(np.float64)
    except ValueError:
        found = np.array([_number(field) for field in fields.tolist()])
    return np.where(np.isfinite(found), found, 1.0)


def b_factors(block: Bytes) -> NDArray[np.float64]:
    """Return B-factors; NaN where there is none."""
    return np.array([_number(field, np.nan) for field in as_bytes(block)], dtype=np.float64)


def _number(field: bytes, otherwise: float = 1.0) -> float:
    try:
        return float(field)
    except ValueError:
        return otherwise


# --- columns 18 to 22 and 73 to 80 ----------------------------------------------------------------


def long_names(heads: list[bytes]) -> set[bytes]:
    """Tell of which columns 21 and 22 the first is the fourth letter of a residue's name, not a chain's.

    A name of four letters is written into columns 18 to 21, a chain name of two into 21 and 22. A letter
    in column 21 is taken for the name's where all residues with the same two letters have names that are
    known with it (LYSH, NMET), or where they are of one type and the second letter alone is a chain, too.

    Parameters
    ----------
    heads : list of bytes
        Columns 18 to 22 of each residue.
    """
    rows = [row.decode("ascii") for row in set(heads)]
    alone = {row[4] for row in rows if row[3] == " "}
    pairs: dict[str, set[str]] = {}
    for row in rows:
        if row[3] != " ":
            pairs.setdefault(row[3:5], set()).add(row[:3])
    long: set[bytes] = set()
    for pair, names in pairs.items():
        polymer = {n for n in names if kind_of(n.strip())[0] in ("amino", "DNA", "RNA", "water")}
        known = {n for n in names if is_long_name(n + pair[0])}
        if (polymer <= known and known) or not polymer or (len(polymer) == 1 and pair[1] in alone):
            long.add(pair.encode())
    return long


def has_line_numbers(tail: Bytes) -> bool:
    """Whether columns 73 to 80 hold an entry's name and line numbers, as in files from before 1996."""
    if _DIGIT[tail[:, 7]].mean() <= 0.9:
        return False
    last = tail[:, 4:8]
    numbered = _DIGIT[last[:, 3]] & (_DIGIT[last] | (last == SPACE)).all(axis=1)
    return bool(numbered.mean() > 0.9)


def segments(between: Bytes, tail: Bytes, change: NDArray[np.bool_]) -> Bytes | None:
    """Return columns 73 to 76 if they are segment names, and None if they are something else.

    Parameters
    ----------
    between : ndarray, uint8, shape (atoms, 6)
        Columns 67 to 72, which are blank where segment names follow.
    tail : ndarray, uint8, shape (atoms, 8)
        Columns 73 to 80.
    change : ndarray, bool
        Whether a residue begins.
    """
    found = tail[:, :4]
    if (found == SPACE).all() or (between != SPACE).any() or (found == ord(".")).any():
        return None
    names = {name.strip() for name in as_bytes(found)} - {b""}
    if len(names) == 1 and _CODE.fullmatch(min(names)):
        return None  # the entry's code, which old files repeat in every line
    within = (found[1:] != found[:-1]).any(axis=1) & ~change[1:]
    return None if within.sum() > 0.1 * change.sum() else found


# --- header ---------------------------------------------------------------------------------------


def sequences(seqres: Bytes) -> dict[str, list[str]]:
    """Return the residue names of SEQRES records, by chain."""
    found: dict[str, list[str]] = {}
    for line in as_bytes(seqres):
        found.setdefault(line[10:12].decode().strip(), []).extend(line[19:71].decode().split())
    return found


def parents(modres: Bytes) -> dict[str, str]:
    """Return the standard residue of each modified one, from MODRES records."""
    return {line[12:15].decode().strip(): line[24:27].decode().strip() for line in as_bytes(modres)}


def title(lines: Bytes) -> str:
    """Return the text of TITLE records."""
    return " ".join(as_text(lines[:, 10:]))


def entry(header: Bytes) -> str:
    """Return the entry's name out of the first HEADER record, or nothing."""
    return as_text(header[:1, 62:66])[0] if len(header) else ""
