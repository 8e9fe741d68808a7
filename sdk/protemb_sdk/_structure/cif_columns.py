"""Columns of an atom table: lists of values, or letters in fixed places, which NumPy reads at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from operator import itemgetter, ne
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


class Values(Protocol):
    """The values of one column, as the file writes them."""

    def __len__(self) -> int: ...

    def pick(self, rows: Rows) -> Sequence[Any]:
        """Return the values in some rows."""

    def changes(self, rows: Rows | None) -> NDArray[np.bool_]:
        """Tell where a value differs from the one before it, of some rows or all; shape (rows - 1,)."""

    def codes(self, of: Mapping[str, int], rows: Rows | None) -> NDArray[np.int64] | None:
        """Return numbers for values, -1 for other ones; None where a value is missing."""

    def floats(self, rows: Rows) -> NDArray[np.float64] | None:
        """Return numbers; None where a value is none."""


Column = Callable[[str], Values | None]
"""Returns a column by its tag; None for one that is missing."""

NULL = frozenset({"", ".", "?"})


class Listed:
    """A column of any sequence of values."""

    def __init__(self, values: Any) -> None:  # a column of gemmi is a sequence, but is not typed as one
        self._values = values

    def __len__(self) -> int:
        return len(self._values)

    def pick(self, rows: Rows) -> Sequence[Any]:
        """Return the values in some rows."""
        if len(rows) < 2:
            return [self._values[i] for i in rows.tolist()]
        picked: tuple[Any, ...] = itemgetter(*rows.tolist())(self._values)
        return picked

    def _all(self, rows: Rows | None) -> Sequence[Any]:
        return list(self._values) if rows is None else self.pick(rows)

    def changes(self, rows: Rows | None) -> NDArray[np.bool_]:
        """Tell where a value differs from the one before it."""
        values = self._all(rows)
        return np.array(list(map(ne, islice(values, 1, None), values)), dtype=bool)

    def codes(self, of: Mapping[str, int], rows: Rows | None) -> NDArray[np.int64] | None:
        """Return numbers for values."""
        values = self._all(rows)
        table = {value: of.get(str(value), -1) for value in set(values)}
        if not table.keys().isdisjoint(NULL):
            return None
        return np.fromiter(map(table.__getitem__, values), dtype=np.int64, count=len(values))

    def floats(self, rows: Rows) -> NDArray[np.float64] | None:
        """Return numbers."""
        try:
            return np.array(list(map(float, self.pick(rows))), dtype=np.float64)
        except (ValueError, TypeError):
            return None


class Fixed:
    """A column of letters, shape (rows, width), with blanks on either side of a value."""

    def __init__(self, letters: NDArray[np.uint8]) -> None:
        self._letters = letters

    def __len__(self) -> int:
        return len(self._letters)

    def pick(self, rows: Rows) -> Sequence[Any]:
        """Return the values in some rows."""
        found = [word.decode("ascii").strip() for word in self._words(rows).tolist()]
        return found

    def _words(self, rows: Rows | None) -> NDArray[np.bytes_]:
        letters = self._letters if rows is None else self._letters[rows]
        return np.ascontiguousarray(letters).view(f"S{letters.shape[1]}").ravel()

    def changes(self, rows: Rows | None) -> NDArray[np.bool_]:
        """Tell where a value differs from the one before it."""
        words = self._words(rows)
        found: NDArray[np.bool_] = words[1:] != words[:-1]
        return found

    def codes(self, of: Mapping[str, int], rows: Rows | None) -> NDArray[np.int64] | None:
        """Return numbers for values."""
        words, width = self._words(rows), self._letters.shape[1]
        if any((words == null.encode().ljust(width)).any() for null in NULL - {""}):
            return None
        found = np.full(len(words), -1, dtype=np.int64)
        for name, number in of.items():
            if len(name) <= width:
                found[words == name.encode().ljust(width)] = number
        return found

    def floats(self, rows: Rows) -> NDArray[np.float64] | None:
        """Return numbers."""
        try:
            return self._words(rows).astype(np.float64)
        except ValueError:
            return None
