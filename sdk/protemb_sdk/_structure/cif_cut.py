"""The atom table of an mmCIF file, without the rest, and its columns where they are in fixed places.

The table is half of a file and more, and all that is read of most. Archives and programs write each column
in places of its own, so that NumPy reads it as it does PDB files.
"""

from __future__ import annotations

import re

import numpy as np

from protemb_sdk._structure.cif_columns import Fixed

_BLOCK = re.compile(rb"(?:\s|#[^\n]*\n)*(data_\S*)")
_HEAD = re.compile(rb"loop_[ \t]*\r?\n((?:[ \t]*_atom_site\.[^\s#]+[ \t]*\r?\n)+)")
_ENTRY = re.compile(rb"\n_entry\.id[ \t]+([^\s'\";]+)")
# What may follow a table; else its end was only a comment between rows.
_AFTER = re.compile(rb"(?:\s|#[^\n]*(?:\n|\Z))*(?:loop_|_|\Z)")

SPACE = 32


class AtomTable:
    """The atom table of a file with one block.

    Attributes
    ----------
    name : str
        Of the entry, or else of the block.
    tags : list of str
        Of its columns, in lower case.
    rows : bytes
        What follows the tags.
    text : bytes
        The table as a file of its own.
    rest : bytes
        The file without the table.
    """

    def __init__(self, name: str, block: bytes, head: bytes, data: bytes, span: tuple[int, int, int]) -> None:
        self._data, (self._start, begin, self._past) = data, span
        self.name, self.rows = name, data[begin : self._past]
        self.tags = head.decode("ascii", "replace").lower().split()
        self._block = block

    @property
    def text(self) -> bytes:
        return (
            self._block + b"\nloop_\n" + "\n".join(self.tags).encode("ascii", "replace") + b"\n" + self.rows
        )

    @property
    def rest(self) -> bytes:
        return self._data[: self._start] + self._data[self._past :]

    def fixed(self) -> dict[str, Fixed] | None:
        """Return the columns, if each row holds one word in the places of each, else None."""
        width = self.rows.find(b"\n") + 1
        if not width or len(self.rows) % width or self.rows.find(b"\t") >= 0 or not self.rows.isascii():
            return None
        page = np.frombuffer(self.rows, dtype=np.uint8).reshape(-1, width)
        page, ends = page[:, :-1], page[:, -1]
        if (ends != ord("\n")).any() or (page < SPACE).any():
            return None
        filled = page != SPACE
        begins = filled.copy()
        begins[:, 1:] &= ~filled[:, :-1]
        used = np.flatnonzero(np.diff(np.concatenate([[False], filled.any(axis=0), [False]]).astype(np.int8)))
        first, past = used[::2], used[1::2]
        if len(first) != len(self.tags) or (begins.sum(axis=1) != len(self.tags)).any():
            return None
        columns = {
            tag: Fixed(page[:, a:b])
            for tag, a, b in zip(self.tags, first.tolist(), past.tolist(), strict=True)
        }
        # Every row has a word in every column, because it has as many as there are, and none is across two.
        return columns if len(columns) == len(self.tags) else None


def atom_table(data: bytes) -> AtomTable | None:
    """Cut the atom table out of a file.

    Returns None where it is not certain that nothing of the table is lost: if there are several blocks or
    tables, text fields within, or anything else that is unusual. Then all of the file has to be parsed.
    """
    block = _BLOCK.match(data)
    start = data.rfind(b"loop_", 0, max(data.find(b"\n_atom_site."), 0))
    head = _HEAD.match(data, start) if start > 0 else None
    # Within a text field, which begins and ends with a semicolon, a table is text.
    if block is None or head is None or data[start - 1 : start] != b"\n" or data.count(b"\n;", 0, start) % 2:
        return None
    # A name, a comment or a text field: the next of these single letters, which no value should hold.
    found = [at for letter in (b"_", b"#", b";") if (at := data.find(letter, head.end())) >= 0]
    past = data.rfind(b"\n", 0, min(found)) + 1 if found else len(data)
    if (
        past < head.end()
        or not _AFTER.match(data, past)
        or data.find(b"_atom_site.", past) >= 0
        or data.find(b"\ndata_", block.end()) >= 0
    ):
        return None
    entry = _ENTRY.search(data, 0, start)
    name = entry[1] if entry else block[1][5:]
    return AtomTable(name.decode("utf-8", "replace"), block[1], head[1], data, (start, head.end(), past))
