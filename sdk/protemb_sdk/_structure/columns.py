"""The columns of results: the same names in `.npz`, `.parquet`, stores, data frames and CSV."""

from __future__ import annotations

from collections.abc import Iterator

from protemb_sdk._structure.chain import Chain

TEXTS = ("id", "name", "chain", "label_chain", "source", "sequence", "notes")
"""One text for each chain."""
NUMBERS = ("residue_index", "auth_seq", "label_seq")
NAMES = ("insertion_code", "residue_name", "chain_of_residue")
PER_RESIDUE = ("ca_coords", *NUMBERS, *NAMES)
"""One row for each residue."""

RESIDUE = ("source", "chain", "auth_seq", "insertion_code", "label_seq", "residue_name")
"""The columns that name a residue in CSV."""


def text_of(chain: Chain, column: str) -> str:
    """Return what a column of `TEXTS` holds."""
    if column == "notes":
        return " | ".join(chain.notes)
    return chain.chain_id if column == "chain" else str(getattr(chain, column))


def source_of(chain: Chain) -> str:
    """Return where a chain came from: the path of its file, or else its name."""
    return chain.source or chain.name


def facts_of(chain: Chain) -> dict[str, object]:
    """Return what notebooks show of a chain."""
    return {"name": chain.name, "chain": chain.chain_id, "residues": len(chain)}


def residues_of(chain: Chain) -> Iterator[tuple[object, ...]]:
    """Give the cells of `RESIDUE` for each residue; `label_seq` is empty where it is unknown."""
    source = source_of(chain)
    numbers = zip(
        chain.chain_of_residue.tolist(), chain.auth_seq.tolist(), chain.insertion_code.tolist(),
        chain.label_seq.tolist(), chain.residue_name.tolist(), strict=True,
    )  # fmt: skip
    for own, auth, code, label, name in numbers:
        yield (source, own, auth, code, "" if label < 0 else label, name)
