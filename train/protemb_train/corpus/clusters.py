"""Clusters of chains: from official files, from MMseqs2, or from the collection."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from protemb_train.corpus.alignment import LEAST_IDENTITY
from protemb_train.corpus.corpus import CorpusError
from protemb_train.corpus.mmseqs import cluster_sequences


@dataclass(frozen=True, slots=True)
class ClusterFile:
    """Clusters of the members of a cluster file.

    Parameters
    ----------
    by_entity : bool
        Whether members are entities (1ABC_1) and not chains (1ABC_A).
    cluster_of : dict of str to int
        Line number of each member, from 0; PDB codes are in upper case.
    """

    by_entity: bool
    cluster_of: dict[str, int]


def parse_clusters(text: str) -> ClusterFile:
    """Read one cluster per line, with members separated by spaces.

    Both official formats are supported: entities (``1ABC_1 2XYZ_2``, RCSB's clusters-by-entity-NN.txt) and
    chains (``1ABC_A 2XYZ_B``, the older bc-NN.out). Members are interpreted as entities if all of them
    end in a number. A repeated member stays in its first cluster.

    Raises
    ------
    CorpusError
        If a member is not a PDB code with an entity or chain.
    """
    cluster_of: dict[str, int] = {}
    by_entity = True
    for number, line in enumerate(text.splitlines()):
        for member in line.split():
            entry, underscore, part = member.rpartition("_")
            if not (entry and underscore and part):
                raise CorpusError(
                    f"line {number + 1} contains {member[:40]!r}, but members look like 1ABC_1 (an entity) "
                    "or 1ABC_A (a chain)"
                )
            by_entity = by_entity and part.isdecimal()
            cluster_of.setdefault(f"{entry.upper()}_{part}", number)
    if not cluster_of:
        raise CorpusError("contains no cluster")
    return ClusterFile(by_entity, cluster_of)


def read_clusters(path: Path) -> ClusterFile:
    """Read an official cluster file, plain or gzipped; see `parse_clusters`.

    Raises
    ------
    CorpusError
        If the file is missing or has another format.
    """
    try:
        data = path.read_bytes()
        text = (gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data).decode("ascii")
    except FileNotFoundError:
        raise CorpusError(
            "the cluster file does not exist; download one from RCSB, or pass --clusters mmseqs", path
        ) from None
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise CorpusError(f"not a cluster file ({error})", path) from error
    try:
        return parse_clusters(text)
    except CorpusError as error:
        raise CorpusError(f"not a cluster file: {error.problem}", path) from error


def cluster_by_file(table: pa.Table, path: Path) -> tuple[pa.Table, dict[str, int]]:
    """Fill the column `cluster` from a cluster file.

    A chain that is not in the file is assigned to the cluster of the chains with its sequence, or to a new
    cluster. If the file has one sequence in several clusters, the cluster of the first chain is used for
    all: a sequence must be in one split.

    Parameters
    ----------
    table : pyarrow.Table
        Chains; for a file of entities the column `entity` is required, which mmCIF files provide.
    path : Path
        The cluster file.

    Returns
    -------
    table : pyarrow.Table
        The table with its clusters.
    counts : dict of str to int
        For the report: chains that are not in the file, and among them chains without an entity.

    Raises
    ------
    CorpusError
        If none of the chains is in the file.
    """
    file = read_clusters(path)
    ids: list[str] = table["id"].to_pylist()
    if file.by_entity:
        entities = table["entity"].to_pylist() if "entity" in table.column_names else [""] * len(ids)
        keys = [f"{_entry(i)}_{e}" if e else "" for i, e in zip(ids, entities, strict=True)]
    else:
        keys = [f"{_entry(i)}_{i.rpartition('_')[2]}" for i in ids]
    found = [file.cluster_of.get(key) for key in keys]
    if all(cluster is None for cluster in found):
        kind = "entities (1ABC_1)" if file.by_entity else "chains (1ABC_A)"
        why = "; only mmCIF files contain entities" if file.by_entity and not any(keys) else ""
        raise CorpusError(
            f"contains {kind}, and none of the {len(ids)} chains ({ids[0]}, ...) can be mapped to "
            f"them{why}; pass the other kind of cluster file, or --clusters mmseqs",
            path,
        )
    sequences: list[str] = table["sequence"].to_pylist()
    of_sequence: dict[str, int] = {}
    for cluster, sequence in zip(found, sequences, strict=True):
        if cluster is not None:
            of_sequence.setdefault(sequence, cluster)
    after = max(file.cluster_of.values()) + 1
    new = dict.fromkeys(sequence for sequence in sequences if sequence not in of_sequence)
    of_sequence |= {sequence: after + number for number, sequence in enumerate(new)}
    clusters = [of_sequence[sequence] for sequence in sequences]
    counts = {"chains not in the cluster file": found.count(None)}
    if file.by_entity:
        counts["of these without an entity"] = keys.count("")
    counts |= _moved(found, clusters)
    return _with_clusters(table, clusters), counts


def cluster_by_column(table: pa.Table) -> tuple[pa.Table, dict[str, int]]:
    """Keep the column `cluster`, except that chains of one sequence get the cluster of the first."""
    clusters: list[int] = table["cluster"].to_pylist()
    of_sequence: dict[str, int] = {}
    one = [
        of_sequence.setdefault(sequence, cluster)
        for cluster, sequence in zip(clusters, table["sequence"].to_pylist(), strict=True)
    ]
    return _with_clusters(table, one), _moved(clusters, one)


def _moved(before: Sequence[int | None], after: Sequence[int]) -> dict[str, int]:
    moved = sum(old is not None and old != new for old, new in zip(before, after, strict=True))
    return {"chains moved to the cluster of their sequence": moved} if moved else {}


def _entry(chain_id: str) -> str:
    return chain_id.rpartition("_")[0].upper()


def cluster_by_mmseqs(table: pa.Table, identity: float = LEAST_IDENTITY) -> pa.Table:
    """Fill the column `cluster` by MMseqs2; see `protemb_train.corpus.mmseqs.cluster_sequences`."""
    return _with_clusters(table, cluster_sequences(table["sequence"].to_pylist(), identity))


def _with_clusters(table: pa.Table, clusters: list[int]) -> pa.Table:
    position = table.column_names.index("cluster")
    return table.set_column(position, "cluster", pa.array(clusters, type=pa.int64()))


def first_of_each(values: NDArray[np.generic]) -> NDArray[np.int64]:
    """Return the index of the first occurrence of each value, in order."""
    return np.sort(np.unique(values, return_index=True)[1]).astype(np.int64)
