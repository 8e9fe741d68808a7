"""Identifiers of the PDB and of AlphaFold DB, recognised by their form."""

from __future__ import annotations

import re
from typing import NamedTuple

_PDB = re.compile(r"[1-9][a-z0-9]{3}|pdb_[a-z0-9]{8}", re.IGNORECASE | re.ASCII)
_UNIPROT = r"[OPQ][0-9][A-Z0-9]{3}[0-9]|[A-NR-Z][0-9](?:[A-Z][A-Z0-9]{2}[0-9]){1,2}"
_ALPHAFOLD = re.compile(
    rf"AF-({_UNIPROT})-F([1-9][0-9]{{0,3}})(?:-model_v([1-9][0-9]{{0,3}}))?", re.IGNORECASE | re.ASCII
)
_ADDRESS = re.compile(r"(https?|ftp):/+(?=\S)", re.IGNORECASE)


class Identifier(NamedTuple):
    """An entry of a database.

    Parameters
    ----------
    database : str
        "PDB" or "AlphaFold DB".
    name : str
        Identifier as the database writes it, without a version: "1abc", "AF-P69905-F1".
    accession : str
        UniProt accession of an entry of AlphaFold DB, else empty.
    version : int or None
        Version of a model of AlphaFold DB, if one is named.
    """

    database: str
    name: str
    accession: str = ""
    version: int | None = None


def identifier_of(text: str) -> Identifier | None:
    """Return the entry that a text names, or None if it has not the form of an identifier."""
    if _PDB.fullmatch(text):
        name = text.lower()
        # Entries of today have two names, 1abc and pdb_00001abc.
        short = name.removeprefix("pdb_0000")
        return Identifier("PDB", short if _PDB.fullmatch(short) else name)
    if found := _ALPHAFOLD.fullmatch(text):
        accession, part, version = found[1].upper(), int(found[2]), found[3]
        return Identifier(
            "AlphaFold DB", f"AF-{accession}-F{part}", accession, int(version) if version else None
        )
    return None


def as_address(text: str) -> str | None:
    """Return the URL that a text is, also one that was taken for a path and lost a slash; else None."""
    found = _ADDRESS.match(text)
    return f"{found[1]}://{text[found.end() :]}" if found else None


def how_to_fetch(text: str, way: str) -> str:
    """Return the end of the sentence about a missing file, empty if nothing can be fetched by its name.

    Parameters
    ----------
    text : str
        The name of the missing file.
    way : str
        What downloads an entry, as an imperative.
    """
    entry = identifier_of(text)
    if entry is not None:
        of = "the PDB" if entry.database == "PDB" else entry.database
        return f"; it has the form of an identifier of {of}: {way} to download the entry"
    address = as_address(text)
    if address is not None:
        return f"; it is an address: download the file first (curl -LO {address}), or use an identifier"
    return ""
