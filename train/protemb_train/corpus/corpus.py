"""The pre-training corpus: chains in one Arrow file, split by cluster, without relatives of test chains.

Columns: id, sequence, ca (3L floats, angstrom), residue_index, cluster, split (train, val or test).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from protemb_sdk import ProtembError
from protemb_sdk._base.output import written_whole
from protemb_sdk._structure.chain import encode_sequence

COLUMNS = ("id", "sequence", "ca", "residue_index", "cluster", "split")
SPLITS = ("train", "val", "test")

# Columns before the split; a source may add columns, which are not written.
SCHEMA = pa.schema(
    {
        "id": pa.string(),
        "sequence": pa.string(),
        "ca": pa.list_(pa.float32()),
        "residue_index": pa.list_(pa.int32()),
        "cluster": pa.int64(),
    }
)


class CorpusError(ProtembError):
    """A corpus cannot be built or read."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One chain, as used in training.

    Parameters
    ----------
    id : str
        Entry and chain.
    ca_coords : ndarray, float32, shape (L, 3)
        C-alpha coordinates in angstrom, centred.
    residue_type, residue_index : ndarray, int64, shape (L,)
        As in `protemb_sdk._structure.chain.Chain`.
    """

    id: str
    ca_coords: NDArray[np.float32]
    residue_type: NDArray[np.int64]
    residue_index: NDArray[np.int64]


class Corpus:
    """Chains of one or more splits of a corpus file.

    Parameters
    ----------
    path : path
        Arrow file written by `write_corpus`.
    splits : iterable of str
        Splits to read: "train", "val", "test".

    Attributes
    ----------
    lengths, clusters : ndarray, int64, shape (number of chains,)
        Number of residues and cluster of each chain.

    Raises
    ------
    CorpusError
        If the file is missing or is not a corpus.
    """

    def __init__(self, path: str | Path, splits: Iterable[str] = SPLITS) -> None:
        self.path, self.splits = Path(path), tuple(splits)
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except FileNotFoundError:
            raise CorpusError("the corpus does not exist; make one with protemb-train corpus", path) from None
        except (OSError, pa.ArrowInvalid) as error:
            reason = (error.args or ("unreadable",))[-1]
            raise CorpusError(
                f"not a corpus file ({reason}); make one with protemb-train corpus", path
            ) from error
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise CorpusError(
                f"not a corpus file (no column {missing[0]}); make one with protemb-train corpus", path
            )
        keep = np.isin(table["split"].to_numpy(zero_copy_only=False), self.splits)
        self.table = table.filter(pa.array(keep))
        self.lengths: NDArray[np.int64] = pc.binary_length(self.table["sequence"]).to_numpy().astype(np.int64)
        self.clusters: NDArray[np.int64] = self.table["cluster"].to_numpy()

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, position: int) -> Trace:
        row = {name: self.table[name][position] for name in ("id", "sequence", "ca", "residue_index")}
        return Trace(
            id=row["id"].as_py(),
            ca_coords=row["ca"].values.to_numpy().reshape(-1, 3),
            residue_type=encode_sequence(row["sequence"].as_py()),
            residue_index=row["residue_index"].values.to_numpy().astype(np.int64),
        )

    def one_per_cluster(self, count: int, lengths: tuple[int, int], seed: int = 0) -> list[int]:
        """Return indices of random chains, one per cluster.

        Parameters
        ----------
        count : int
            Largest number of chains.
        lengths : tuple of int
            Smallest and largest number of residues.
        seed : int, default 0
            The same seed gives the same chains.
        """
        shortest, longest = lengths
        fitting = np.flatnonzero((self.lengths >= shortest) & (self.lengths <= longest))
        order = np.random.default_rng(seed).permutation(fitting)
        first = np.unique(self.clusters[order], return_index=True)[1]
        return [int(position) for position in order[np.sort(first)][:count]]

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return hashlib.sha256(self.path.read_bytes()).hexdigest()

    @property
    def clusters_sha256(self) -> str:
        """SHA-256 of the clusters: the same for a corpus and for its subset with one chain per cluster."""
        return hashlib.sha256(np.unique(self.clusters).tobytes()).hexdigest()

    def __iter__(self) -> Iterator[Trace]:
        return (self[position] for position in range(len(self)))


def split_by_cluster(clusters: NDArray[np.int64], seed: int) -> list[str]:
    """Return "train", "val" or "test" for each chain: 80 / 10 / 10 of the clusters, which are not divided.

    Parameters
    ----------
    clusters : ndarray, int64, shape (number of chains,)
        Cluster of each chain.
    seed : int
        The same seed gives the same split.
    """
    unique = np.unique(clusters)
    order = np.random.default_rng(seed).permutation(len(unique))
    share = np.empty(len(unique))
    share[order] = np.arange(len(unique)) / len(unique)
    names = np.array(SPLITS)[np.digitize(share, [0.8, 0.9])]
    return [str(name) for name in names[np.searchsorted(unique, clusters)]]


def write_corpus(table: pa.Table, path: Path, seed: int) -> dict[str, int]:
    """Split the chains, write the Arrow file atomically, and return the chains and clusters per split.

    Raises
    ------
    CorpusError
        If there is no chain to write.
    OutputError
        If the file cannot be written.
    """
    if not table.num_rows:
        raise CorpusError("not written: no chain remains for the corpus", path)
    clusters = table["cluster"].to_numpy()
    splits = split_by_cluster(clusters, seed)
    table = table.select(SCHEMA.names).append_column("split", pa.array(splits)).combine_chunks()
    with (
        written_whole(path) as part,
        pa.OSFile(str(part), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    counts = {f"{name} chains": splits.count(name) for name in SPLITS}
    for name in SPLITS:
        counts[f"{name} clusters"] = len(np.unique(clusters[np.array(splits) == name]))
    return counts


def check_splits(table: pa.Table, seed: int) -> None:
    """Check that `write_corpus` puts no sequence into two splits.

    Raises
    ------
    CorpusError
        If it does.
    """
    splits = split_by_cluster(table["cluster"].to_numpy(), seed)
    first: dict[str, tuple[str, str]] = {}
    names, sequences = (table[name].to_pylist() for name in ("id", "sequence"))
    for name, sequence, split in zip(names, sequences, splits, strict=True):
        other, there = first.setdefault(sequence, (name, split))
        if there != split:
            raise CorpusError(
                f"{other} ({there}) and {name} ({split}) have the same sequence but different splits; assign "
                "them to one cluster"
            )
