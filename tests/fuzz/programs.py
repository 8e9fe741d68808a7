"""Input from other programs: missing chain names, TER records, several parts; failing streams and arrays."""

from __future__ import annotations

import gzip
import io
import re
import zipfile
from collections.abc import Callable
from functools import cache
from http.client import IncompleteRead
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gemmi
import numpy as np

Rng = np.random.Generator

STRUCTURES = Path(__file__).resolve().parents[1] / "structures"
_ATOM = re.compile(rb"^(?:ATOM|HETATM)", re.IGNORECASE)


# --- text -----------------------------------------------------------------------------------------


def _in_atoms(data: bytes, rng: Rng, share: float, change: Callable[[bytes], bytes]) -> bytes:
    """Change a share of the atom lines, in a few runs."""
    lines = data.splitlines(keepends=True)
    some = np.zeros(len(lines), dtype=bool)
    for _ in range(int(rng.integers(1, 4))):
        first = int(rng.integers(max(len(lines), 1)))
        some[first : first + max(1, int(share * len(lines)))] = True
    return b"".join(
        change(line) if s and _ATOM.match(line) else line
        for line, s in zip(lines, some.tolist(), strict=True)
    )


def names_gone(data: bytes, rng: Rng) -> bytes:
    return _in_atoms(data, rng, rng.choice([0.1, 1.0]), lambda line: line[:20] + b"  " + line[22:])


def segments(data: bytes, rng: Rng) -> bytes:
    name = [b"PROA", b"PROB", b"A   ", b"1ABC", b"0.12", b"W1  "][rng.integers(6)]
    return _in_atoms(data, rng, rng.random(), lambda line: line.rstrip(b"\r\n")[:72].ljust(72) + name + b"\n")


def four_letters(data: bytes, rng: Rng) -> bytes:
    name = [b"LYSH", b"NMET", b"CYS2", b"POPC", b"ALAB", b"HISD"][rng.integers(6)]
    return _in_atoms(data, rng, 0.05, lambda line: line[:17] + name + line[21:])


def borders(data: bytes, rng: Rng) -> bytes:
    """Insert records that end molecules, models or files."""
    lines = data.splitlines(keepends=True)
    words = (
        b"TER\n",
        b"TER   \n",
        b"END\n",
        b"MODEL        1\n",
        b"MODEL\n",
        b"ENDMDL\n",
        b"ENDROOT\n",
        b"data_z\n",
    )
    for _ in range(int(rng.integers(1, 6))):
        lines.insert(int(rng.integers(len(lines) + 1)), words[rng.integers(len(words))])
    return b"".join(lines)


def twice(data: bytes, rng: Rng) -> bytes:
    between = (b"", b"END\n", b"TER\n", b"ENDMDL\n", b"\n")[rng.integers(5)]
    return data + between + data


def no_positions(data: bytes, rng: Rng) -> bytes:
    new = [b"     nan", b"9999.000", b"   0.000", b"********", b"        ", b"       ?", b" 999.999"][
        rng.integers(7)
    ]

    def change(line: bytes) -> bytes:
        return line[:30] + new * 3 + line[54:]

    if rng.random() < 0.5:
        return _in_atoms(data, rng, rng.random() ** 2, change)
    return _in_atoms(
        data, rng, rng.random() ** 2, lambda line: re.sub(rb"-?\d+\.\d{3}\b", new.strip() or b"?", line)
    )


def moved_by_columns(data: bytes, rng: Rng) -> bytes:
    at, by = int(rng.integers(6, 60)), b" " * int(rng.integers(1, 9))
    return _in_atoms(data, rng, 1.0, lambda line: line[:at] + by + line[at:])


def tag_renamed(data: bytes, rng: Rng) -> bytes:
    """Remove a column of an mmCIF table."""
    tags = re.findall(rb"_atom_site\.\w+", data)
    if not tags:
        return data
    return data.replace(tags[rng.integers(len(tags))], b"_atom_site.other", 1)


def text_in_front(data: bytes, rng: Rng) -> bytes:
    return (b"some words\n", b"# x\n", b"REMARK x\n", b"\n;\n", b"'\n")[rng.integers(5)] + data


PROGRAMS = [
    names_gone, names_gone, segments, four_letters, borders, borders, twice, no_positions, no_positions,
    moved_by_columns, tag_renamed, text_in_front,
]  # fmt: skip


@cache
def binary_cif() -> bytes:
    return gzip.decompress((STRUCTURES / "3jqh.bcif.gz").read_bytes())


def damaged_binary_cif(rng: Rng) -> bytes:
    data = bytearray(binary_cif())
    for _ in range(int(rng.integers(0, 12))):
        at = int(rng.integers(len(data)))
        if rng.random() < 0.5:
            data[at] = int(rng.integers(256))
        else:
            data[at : at + int(rng.integers(9))] = rng.bytes(int(rng.integers(9)))
    return bytes(data[: int(rng.integers(len(data)))]) if rng.random() < 0.2 else bytes(data)


def zip_archive(rng: Rng, content: Callable[[Rng], bytes]) -> bytes:
    names = (
        "a.pdb",
        "../b.cif",
        "d/c.ent",
        ".h.pdb",
        "__MACOSX/x.pdb",
        "x.txt",
        "é.cif",
        "a\nb.pdb",
        "d/",
        "a.pdb",
    )
    whole = io.BytesIO()
    kind = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)[rng.integers(4)]
    with zipfile.ZipFile(whole, "w", kind) as archive:
        used = set()
        for _ in range(int(rng.integers(1, 5))):
            name = names[rng.integers(len(names))]
            if name not in used:
                used.add(name)
                archive.writestr(zipfile.ZipInfo(name), content(rng))
    data = bytearray(whole.getvalue())
    if rng.random() < 0.4:
        for _ in range(int(rng.integers(1, 9))):
            data[rng.integers(len(data))] = int(rng.integers(256))
    return bytes(data[: int(rng.integers(len(data)))]) if rng.random() < 0.1 else bytes(data)


# --- objects --------------------------------------------------------------------------------------

ERRORS = (
    RuntimeError("not computed"), KeyError("x"), MemoryError(), IncompleteRead(b"ATOM", 1000),
    OSError(5, "I/O error"),
    NotImplementedError(), EOFError(), AssertionError("a\nb"), StopIteration(), RecursionError(),
    ValueError("\0"), UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), TypeError(), TimeoutError(),
    ZeroDivisionError(),
)  # fmt: skip


class Stream:
    """An open file that fails or returns invalid values."""

    def __init__(self, rng: Rng, content: bytes) -> None:
        self._error = ERRORS[rng.integers(len(ERRORS))]
        self._kind = int(rng.integers(6))
        self._content = content
        if rng.random() < 0.5:
            self.name = ("x.pdb", 5, None, "\n", b"x")[rng.integers(5)]

    def read(self) -> Any:
        if self._kind < 3:
            raise self._error
        return (self._content.decode("latin-1"), None, bytearray(self._content))[self._kind - 3]


class Lazy:
    """An array that fails when it is converted, or that differs from its description."""

    def __init__(self, rng: Rng, array: Any) -> None:
        self._error = ERRORS[rng.integers(len(ERRORS))]
        self._kind, self._array = int(rng.integers(3)), array

    def __array__(self, *arguments: Any, **options: Any) -> Any:
        if self._kind == 0:
            raise self._error
        return self._array if self._kind == 1 else np.ma.masked_all(np.shape(self._array))

    def __len__(self) -> int:
        raise self._error


class Strange:
    """An object whose attributes fail."""

    def __init__(self, rng: Rng) -> None:
        object.__setattr__(self, "_error", ERRORS[rng.integers(len(ERRORS))])

    def __getattr__(self, name: str) -> Any:
        raise object.__getattribute__(self, "_error")


def _like_biotite(rng: Rng) -> SimpleNamespace:
    length = int(rng.choice([0, 1, 5, 40]))
    table: dict[str, Any] = {
        "coord": rng.normal(size=(length, 3)).cumsum(axis=0) * 3,
        "chain_id": rng.choice(["A", "B", ""], length),
        "res_id": rng.integers(-2, 20, length), "res_name": rng.choice(["ALA", "LYSH", "HOH", "ZZZ"], length),
        "atom_name": rng.choice(["CA", "N", "C", "OXT", "CB"], length, p=[0.6, 0.1, 0.1, 0.1, 0.1]),
        "element": rng.choice(["C", "N", "", "CA"], length), "hetero": rng.random(length) < 0.1,
        "sym_id": rng.integers(0, 2, length),
    }  # fmt: skip
    if rng.random() < 0.5 and length:
        table["coord"][rng.integers(length)] = rng.choice([np.nan, np.inf, 9999.0, 0.0])
    if rng.random() < 0.4:
        name = sorted(table)[rng.integers(len(table))]
        array = table[name]
        masked = np.ma.array(array, mask=rng.random(array.shape) < 0.5)
        table[name] = [
            Lazy(rng, array), array[:-1], None, "x", masked, array.astype(object), array.tolist(),
        ][rng.integers(7)]  # fmt: skip
    return SimpleNamespace(**table)


def of_libraries(rng: Rng, content: bytes) -> Any:
    """Return a stream, a lazy or masked array, or a structure of another library."""
    kind = rng.integers(6)
    length = int(rng.integers(1, 40))
    coords = rng.normal(size=(length, 3)).cumsum(axis=0) * 3
    sequence = "A" * length
    if kind == 0:
        return Stream(rng, content)
    if kind == 1:
        return Lazy(rng, coords), sequence
    if kind == 2:
        return np.ma.array(coords, mask=rng.random(coords.shape) < rng.random()), sequence
    if kind == 3:
        return Strange(rng) if rng.random() < 0.5 else (coords, sequence, Lazy(rng, np.arange(length)))
    if kind == 4:
        return _like_biotite(rng)
    try:
        structure = gemmi.read_structure_string(content)
    except (RuntimeError, ValueError, IndexError):
        return Stream(rng, content)
    return structure
