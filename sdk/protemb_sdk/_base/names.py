"""Names in lists that people read."""

from __future__ import annotations

from collections.abc import Iterable


def distinct(named: Iterable[tuple[str, str]]) -> list[str]:
    """Return names for a list: identifiers, each with its file where files share one.

    Parameters
    ----------
    named : iterable of tuple of str
        Identifier and file of each entry; the file may be empty.

    Examples
    --------
    >>> from protemb_sdk._base.names import distinct
    >>> distinct([("1abc_A", "old/1abc.cif"), ("1abc_A", "new/1abc.cif"), ("2xyz_B", "new/2xyz.cif")])
    ['1abc_A (old/1abc.cif)', '1abc_A (new/1abc.cif)', '2xyz_B']
    """
    entries = list(named)
    files: dict[str, set[str]] = {}
    for name, file in entries:
        files.setdefault(name, set()).add(file)
    return [f"{name} ({file})" if file and len(files[name]) > 1 else name for name, file in entries]


def short_hash(sha256: str) -> str:
    """Return the beginning of a hash, enough to recognise it."""
    return sha256[:12]
