"""Verify rows of a store: compute them again from their files, and compare."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from protemb_sdk._base.errors import ModelError, OutputError, ProtembError, StructureError
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._model.models import find_bundled
from protemb_sdk._store.parts import store_parts
from protemb_sdk._store.writer import check_pyarrow, read_header
from protemb_sdk._structure.archives import is_archive, members
from protemb_sdk._structure.chain import Skipped
from protemb_sdk._structure.inputs import Input, Kind

# Of the largest value in a vector: threads and processors add in another order, float16 rounds.
TOLERANCES = {"float32": 1e-4, "float16": 2e-3}


@dataclass(slots=True)
class Verified:
    """Result of a verification.

    Parameters
    ----------
    rows : int
        Rows that were computed again.
    worst : float
        Largest deviation, as a share of the largest value of its vector.
    wrong : list of str
        Ids of rows that deviate by more than is tolerated, or whose chain is not in the file any more.
    missing : list of Skipped
        Rows whose file is not there or cannot be read.
    """

    rows: int = 0
    worst: float = 0.0
    wrong: list[str] = field(default_factory=list)
    missing: list[Skipped] = field(default_factory=list)


def verify_store(
    store: str | PathLike[str],
    sample: int = 20,
    seed: int = 0,
    *,
    model: str | PathLike[str] | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Verified:
    """Embed the files of some rows of a store again, and compare.

    Parameters
    ----------
    store : path
        Folder.
    sample : int, default 20
        Rows to draw at random.
    seed : int, default 0
        Same seed, same rows.
    model : str or path, optional
        If the model of the store is not bundled.
    device, threads
        As in `Embedder`.

    Raises
    ------
    OutputError
        If it is not a store, is damaged or empty.
    ModelError
        If the store's model is not available.
    """
    store = Path(store)
    check_pyarrow(store)
    import pyarrow as pa
    import pyarrow.parquet as pq

    header = read_header(store)
    provenance = header["provenance"]
    reading = provenance["options"]
    if model is None:
        # Its name may have passed to a newer model.
        bundled = find_bundled(provenance["model"], model_sha256=provenance["model_sha256"])
        model = provenance["model"] if bundled is None else bundled.name
    embedder = Embedder(
        model, device, model_number=reading["model"],
        threads=threads, altloc=reading["altloc"], min_residues=reading["min_residues"],
        min_plddt=reading.get("min_plddt"), chains=reading.get("chains"),
        assembly=reading.get("assembly"),
    )  # fmt: skip
    for name in ("model_sha256", "contract", "noise_level"):
        if embedder.provenance[name] != provenance[name]:
            raise ModelError(
                f"made with {name} {provenance[name]!r}, and the loaded model has "
                f"{embedder.provenance[name]!r}; pass the store's model with --model",
                store,
            )
    found, tolerance = Verified(), TOLERANCES[header["dtype"]]
    columns = ["id", "source", "chain", "protein", *(["residue"] if "residue" in header["levels"] else [])]
    parts = store_parts(store)
    try:
        counts = [pq.read_metadata(part).num_rows for part in parts]
        if not sum(counts):
            raise OutputError("the store holds no chain to verify", store)
        drawn = np.random.default_rng(seed).choice(sum(counts), min(sample, sum(counts)), replace=False)
        first = np.concatenate([[0], np.cumsum(counts)])
        for number, part in enumerate(parts):
            here = np.sort(drawn[(drawn >= first[number]) & (drawn < first[number + 1])] - first[number])
            if here.size:
                for row in pq.read_table(part, columns=columns).take(here).to_pylist():
                    _compare(row, embedder, found, tolerance)
    except (pa.ArrowException, OSError) as error:
        raise OutputError(f"cannot be read ({str(error).splitlines()[0]})", store) from error
    return found


def _member(source: str) -> Input:
    """Return a file by its path, or a member by that of its archive, a slash, and its own."""
    path = Path(source)
    for parent in path.parents:
        if parent.is_file() and is_archive(str(parent)):
            for name, content in members(str(parent)):
                if name == source:
                    return Input(name, content, Kind.MEMBER)
    return Input.of(path)


def _compare(row: dict[str, Any], embedder: Embedder, found: Verified, tolerance: float) -> None:
    source = row["source"]
    try:
        if not source:
            raise StructureError("the row names no file")
        chains = embedder.read(_member(source)).chains
        twins = [chain for chain in chains if chain.chain_id == row["chain"]]
        again = embedder.embed_chain(twins[0], residue="residue" in row) if twins else None
    except ProtembError as error:
        found.missing.append(Skipped.of(error, source or row["id"], row["chain"]))
        return
    found.rows += 1
    if again is None:
        found.wrong.append(row["id"])
        return
    worst = 0.0
    for level in ("protein", "residue"):
        if level in row:
            kept, now = np.array(row[level], dtype=np.float32), getattr(again, level)
            off = np.abs(kept - now).max() / np.abs(now).max() if kept.shape == now.shape else np.inf
            worst = max(worst, float(off) if np.isfinite(off) else np.inf)  # max() would pass NaN over
    found.worst = max(found.worst, worst)
    if not worst <= tolerance:
        found.wrong.append(row["id"])
