"""Malformed inputs, reproducible from seed and number: mutated files, archives, arrays."""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from programs import PROGRAMS, damaged_binary_cif, of_libraries, zip_archive

STRUCTURES = Path(__file__).resolve().parents[1] / "structures"
ATOMS = 350  # of each real file: enough for all code paths of the reader, and fast

Rng = np.random.Generator
Mutation = Callable[[bytes, Rng], bytes]

NUMBERS = (
    b"nan", b"inf", b"-inf", b"1e308", b"-1e308", b"1e-320", b"99999999", b"-9999999", b"********",
    b"        ", b"0", b"-0", b"1e5", b"12..5", b"0x1F", b"2147483648", b"-2147483649",
    b"9223372036854775808", b"?", b".", b"1,5", b"\xd9\xa1", b"A000", b"zzzz",
)  # fmt: skip
SCRAPS = (
    b"\r", b"\r\n", b"\n\r", b"\0", b"\t", b"\xff\xfe", b"\xef\xbb\xbf", "é".encode(), "é".encode("latin-1"),
    "Å".encode(), b"\x1a", b"'", b'"', b";", b"#", b"\n;", b"\n;\n", b"loop_\n", b"data_y\n", b"save_x\n",
    b"_", b"END\n", b"ENDMDL\n", b"TER\n", b"MODEL        1\n", b"MODEL     9999\n", b"{", b"}", b"[",
    b"]", b",", b"\\", b"$", b"stop_\n", b"global_\n", b" " * 200, b"A" * 5000, b"\n" * 50,
)  # fmt: skip


@cache
def seeds() -> list[bytes]:
    """Return real files of every format, the first atoms of each."""
    found = []
    for name in ("1a8o.pdb", "1orc.pdb", "pdb1gdr.ent", "4hhh_frag.pdb", "1lcd.pdb.gz", "2beg.pdb.gz"):
        lines = _unzipped(STRUCTURES / name).splitlines(keepends=True)
        first = next(n for n, line in enumerate(lines) if line.startswith(b"ATOM"))
        header = [line for line in lines[:first] if not line.startswith(b"REMARK")]
        found.append(b"".join([*header, *lines[first : first + ATOMS]]))
    for name in ("1a8o.cif", "3jqh.cif", "4zhl.cif.gz", "1lcd.cif.gz"):
        block = gemmi.cif.read_string(_unzipped(STRUCTURES / name)).sole_block()
        text = _cut(block)
        found.append(text.encode())
        if name in ("1a8o.cif", "4zhl.cif.gz"):
            found.append(gemmi.cif.read_string(text).as_json(mmjson=True).encode())
    return found


def _unzipped(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def _cut(block: gemmi.cif.Block) -> str:
    """Return the categories that the reader uses, and the first atoms."""
    kept = gemmi.cif.Document()
    new = kept.add_new_block(block.name)
    for category in ("_entry.", "_cell.", "_entity.", "_entity_poly.", "_struct_asym.", "_atom_site."):
        table = block.find_mmcif_category(category)
        if len(table) == 1:
            for tag, value in zip(table.tags, table[0], strict=True):
                new.set_pair(tag, value)
        elif len(table):
            loop = new.init_loop(category, [tag.removeprefix(category) for tag in table.tags])
            for row in list(table)[:ATOMS]:
                loop.add_row(list(row))
    return kept.as_string()


# --- mutations of bytes ---------------------------------------------------------------------------


def _at(data: bytes, rng: Rng) -> int:
    return int(rng.integers(len(data) + 1))


def truncated(data: bytes, rng: Rng) -> bytes:
    return data[: _at(data, rng)]


def beheaded(data: bytes, rng: Rng) -> bytes:
    return data[_at(data, rng) :]


def flipped(data: bytes, rng: Rng) -> bytes:
    changed = np.frombuffer(data, np.uint8).copy()
    if len(changed):
        places = rng.integers(len(changed), size=int(rng.integers(1, 30)))
        changed[places] ^= (1 << rng.integers(8, size=len(places))).astype(np.uint8)
    return changed.tobytes()


def overwritten(data: bytes, rng: Rng) -> bytes:
    at, size = _at(data, rng), int(rng.integers(1, 80))
    return data[:at] + rng.bytes(size) + data[at + size :]


def scrap_put_in(data: bytes, rng: Rng) -> bytes:
    for _ in range(int(rng.integers(1, 6))):
        at = _at(data, rng)
        data = data[:at] + SCRAPS[rng.integers(len(SCRAPS))] + data[at:]
    return data


def number_replaced(data: bytes, rng: Rng) -> bytes:
    found = list(re.finditer(rb"-?\d+(?:\.\d+)?", data))
    for match in sorted(
        (found[n] for n in rng.integers(len(found), size=min(len(found), int(rng.integers(1, 8))))),
        key=lambda match: -match.start(),
    ):
        new, width = NUMBERS[rng.integers(len(NUMBERS))], match.end() - match.start()
        new = new[:width].rjust(width) if rng.random() < 0.5 else new
        data = data[: match.start()] + new + data[match.end() :]
    return data


def _lines(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True) or [b""]


def lines_dropped(data: bytes, rng: Rng) -> bytes:
    lines, share = _lines(data), rng.random() ** 2
    return b"".join(
        line for line, gone in zip(lines, rng.random(len(lines)) < share, strict=True) if not gone
    )


def lines_doubled(data: bytes, rng: Rng) -> bytes:
    lines = _lines(data)
    first = int(rng.integers(len(lines)))
    some = lines[first : first + int(rng.integers(1, 200))]
    at = int(rng.integers(len(lines) + 1))
    return b"".join([*lines[:at], *some * int(rng.integers(1, 4)), *lines[at:]])


def lines_shuffled(data: bytes, rng: Rng) -> bytes:
    lines = _lines(data)
    first, size = int(rng.integers(len(lines))), int(rng.integers(2, 300))
    some = lines[first : first + size]
    lines[first : first + size] = [some[n] for n in rng.permutation(len(some))]
    return b"".join(lines)


def columns_swapped(data: bytes, rng: Rng) -> bytes:
    first, second = sorted(rng.integers(80, size=2).tolist())
    size = int(rng.integers(1, 12))
    lines = _lines(data)
    for n in np.flatnonzero(rng.random(len(lines)) < rng.random()):
        line = lines[n]
        if second >= first + size:
            a, b = line[first : first + size], line[second : second + size]
            lines[n] = line[:first] + b + line[first + size : second] + a + line[second + size :]
    return b"".join(lines)


def columns_filled(data: bytes, rng: Rng) -> bytes:
    """Set a column of some lines to one value: chain names, altlocs, insertion codes, numbers."""
    at = int(rng.choice([0, 12, 13, 16, 17, 21, 22, 26, 30, 38, 46, 54, 60, 72, 76]))
    letters = b" A?19-.'\xc3_"
    new = bytes(rng.choice(list(letters), size=int(rng.integers(1, 9))).tolist())
    lines = _lines(data)
    for n in np.flatnonzero(rng.random(len(lines)) < rng.random()):
        lines[n] = lines[n][:at] + new + lines[n][at + len(new) :]
    return b"".join(lines)


def line_ends_mixed(data: bytes, rng: Rng) -> bytes:
    ends = (b"\n", b"\r\n", b"\r", b"\n\r", b"\n\n", b" \n", b"")
    lines = [line.rstrip(b"\r\n") for line in _lines(data)]
    some = rng.choice(len(ends), p=[0.6, 0.2, 0.05, 0.05, 0.04, 0.03, 0.03], size=len(lines))
    return b"".join(line + ends[n] for line, n in zip(lines, some, strict=True))


def words_swapped(data: bytes, rng: Rng) -> bytes:
    words = re.split(rb"(\s+)", data)
    for _ in range(int(rng.integers(1, 10))):
        a, b = rng.integers(len(words), size=2)
        words[a], words[b] = words[b], words[a]
    return b"".join(words)


def spliced(data: bytes, rng: Rng) -> bytes:
    other = seeds()[rng.integers(len(seeds()))]
    return data[: _at(data, rng)] + other[_at(other, rng) :]


def lowered(data: bytes, rng: Rng) -> bytes:
    return data.lower() if rng.random() < 0.5 else data.swapcase()


def moved(data: bytes, rng: Rng) -> bytes:
    """Move all atoms of a PDB file to one position, possibly far away."""
    place = b"".join(f"{x:8.3f}".encode()[:8] for x in rng.choice([0.0, 9999.0, -999.0], size=3))
    return re.sub(rb"(?m)^((?:ATOM|HETATM).{24}).{24}", lambda m: m[1] + place, data)


MUTATIONS: list[Mutation] = [
    truncated, beheaded, flipped, overwritten, scrap_put_in, number_replaced, number_replaced, lines_dropped,
    lines_doubled, lines_shuffled, columns_swapped, columns_filled, columns_filled, line_ends_mixed,
    words_swapped, spliced, lowered, moved,
]  # fmt: skip


def mutated_text(rng: Rng) -> bytes:
    """Return a real file with mutations; about a third have changes that programs make to files."""
    data = seeds()[rng.integers(len(seeds()))]
    if rng.random() < 0.35:
        for _ in range(int(rng.integers(1, 4))):
            data = PROGRAMS[rng.integers(len(PROGRAMS))](data, rng)
        if rng.random() < 0.6:
            return data
    for _ in range(min(int(rng.geometric(0.6)), 6)):
        data = MUTATIONS[rng.integers(len(MUTATIONS))](data, rng)
    return data


# --- containers ---------------------------------------------------------------------------


def zipped(rng: Rng) -> bytes:
    """Return a gzip stream: several members, truncated, corrupted, nested, or very large when read."""
    kind = rng.random()
    if kind < 0.02:
        return gzip.compress(b"ATOM  ".ljust(2**20) * 80, 9)
    data = gzip.compress(mutated_text(rng), 1, mtime=0)
    if kind < 0.3:
        return data + gzip.compress(mutated_text(rng), 1, mtime=0) * int(rng.integers(1, 4))
    if kind < 0.6:
        return MUTATIONS[rng.integers(4)](data, rng)
    return gzip.compress(data) if kind < 0.7 else data


def archive(rng: Rng) -> bytes:
    """Return a tar archive with members of unusual names and types, valid or damaged."""
    names = (
        "../../outside.pdb", "/etc/outside.pdb", "a\nb.pdb", "é.cif", "x.pdb", "x.pdb", ".hidden.pdb",
        "d/x.cif.gz", "a" * 300 + ".pdb", "x.txt", " .pdb", "\x1b[31m.pdb", "x.tar",
    )  # fmt: skip
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.DIRTYPE)
    whole = io.BytesIO()
    mode = ("w", "w:gz", "w:bz2", "w:xz")[rng.integers(4)]
    kind = int(rng.integers(1, 3))  # GNU or PAX; the oldest format cannot store such names
    with tarfile.open(fileobj=whole, mode=mode, format=kind) as tar:  # type: ignore[call-overload]
        for _ in range(int(rng.integers(1, 5))):
            info = tarfile.TarInfo(names[rng.integers(len(names))])
            content = zipped(rng) if rng.random() < 0.2 else mutated_text(rng)
            if rng.random() < 0.2:
                info.type, info.linkname, content = kinds[rng.integers(len(kinds))], "/etc/passwd", b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    data = whole.getvalue()
    return MUTATIONS[rng.integers(4)](data, rng) if rng.random() < 0.4 else data


def arrays(rng: Rng) -> tuple[Any, ...]:
    """Return a tuple like (coordinates, sequence, residue_index), mostly invalid."""
    length = int(rng.choice([0, 1, 2, 3, 30, 120, 2500], p=[0.05, 0.1, 0.1, 0.15, 0.4, 0.198, 0.002]))
    coords: Any = rng.normal(size=(length, 3)).cumsum(axis=0) * 10.0 ** int(rng.integers(-3, 7))
    if rng.random() < 0.3 and length:
        coords[rng.integers(length), rng.integers(3)] = rng.choice([np.nan, np.inf, 1e308, -1e40, 1e-320])
    if rng.random() < 0.1:
        with np.errstate(all="ignore"):
            coords = coords.astype(rng.choice(["float16", "int8", "complex64", "bool", "object", "U5"]))
    if rng.random() < 0.1:
        coords = coords[:, : int(rng.integers(4))] if rng.random() < 0.5 else coords.T
    if rng.random() < 0.05:
        coords = [None, "x", 3, [[1, 2, 3], [1, 2]], {}, coords.tolist()][rng.integers(6)]
    letters = list("ACDEFGHIKLMNPQRSTVWYXacxBZ*- é\0")
    off = int(rng.integers(-1, 2)) if rng.random() < 0.1 else 0
    sequence: Any = "".join(rng.choice(letters, size=max(length + off, 0)))
    if rng.random() < 0.5:
        return coords, sequence
    index: Any = np.cumsum(rng.integers(-1 if rng.random() < 0.3 else 1, 4, size=length))
    if rng.random() < 0.2:
        index = index.astype(rng.choice(["float64", "uint8", "object", "U4", "uint64"]))
    if rng.random() < 0.1:
        index = index.astype("int64") * 2**40 if index.dtype.kind in "iu" else index
    return coords, sequence, index


def malformed_input(seed: int, number: int) -> tuple[str, Any]:
    """Return the kind ("bytes", "archive", "zip", "arrays" or "objects") and content of an input."""
    rng = np.random.default_rng([seed, number])
    kind = rng.random()
    if kind < 0.74:
        return "bytes", mutated_text(rng)
    if kind < 0.80:
        return "bytes", zipped(rng)
    if kind < 0.83:
        return "bytes", damaged_binary_cif(rng)
    if kind < 0.86:
        return "archive", archive(rng)
    if kind < 0.88:
        return "zip", zip_archive(rng, mutated_text)
    return ("arrays", arrays(rng)) if kind < 0.95 else ("objects", of_libraries(rng, mutated_text(rng)))
