"""The pre-training corpus: chains in one memory-mapped Arrow file, split by cluster, free of test relatives.

Columns: id, sequence, ca (3L floats, angstrom), residue_index, cluster, split (train, val or test).
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from protemb_sdk._chain import encode_sequence, index_with_gaps
from protemb_sdk._errors import ProtembError

SPLITS = ("train", "val", "test")


class CorpusError(ProtembError):
    """A corpus cannot be built or read."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One chain as training sees it: id, C-alphas (L, 3) float32, residue types and indices (L,) int64."""

    id: str
    ca_coords: NDArray[np.float32]
    residue_type: NDArray[np.int64]
    residue_index: NDArray[np.int64]


class Corpus:
    """Chains of one or more splits of a corpus file, memory-mapped.

    Parameters
    ----------
    path : path
        Arrow file written by `write_corpus`.
    splits : iterable of str
        Which of "train", "val" and "test" to show.
    """

    def __init__(self, path: str | Path, splits: Iterable[str] = SPLITS) -> None:
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise CorpusError(
                f"{path}: not a corpus file ({error}); make one with protemb-train corpus"
            ) from error
        keep = np.isin(table["split"].to_numpy(zero_copy_only=False), list(splits))
        self.table = table.filter(pa.array(keep))
        self.lengths: NDArray[np.int64] = np.array(
            [len(s) for s in self.table["sequence"].to_pylist()], dtype=np.int64
        )
        self.clusters: NDArray[np.int64] = self.table["cluster"].to_numpy()
        self.sha256 = hashlib.sha256(Path(path).read_bytes()).hexdigest()

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

    def __iter__(self) -> Iterator[Trace]:
        return (self[position] for position in range(len(self)))


def sequences_to_avoid(path: Path) -> list[str]:
    """Read sequences from a FASTA file, or from an npz with flat `seq` and `offset` (downstream data)."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as data:
            offset, seq = data["offset"], data["seq"]
        return [seq[a:b].tobytes().decode("ascii") for a, b in zip(offset[:-1], offset[1:], strict=True)]
    records = path.read_text().split(">")[1:]
    return ["".join(record.splitlines()[1:]).strip() for record in records]


def relatives(queries: Iterable[str], targets: list[str], identity: float = 0.3) -> set[int]:
    """Return positions of the targets that MMseqs2 finds similar to any query.

    An alignment counts from `identity` upwards when it covers half of the shorter sequence.

    Raises
    ------
    CorpusError
        If MMseqs2 is not installed or fails.
    """
    program = shutil.which("mmseqs")
    if program is None:
        raise CorpusError(
            "removing relatives needs MMseqs2; install it (apt install mmseqs2) or pass no --avoid"
        )
    with tempfile.TemporaryDirectory() as folder:
        query, target, hits = (Path(folder) / name for name in ("query.fa", "target.fa", "hits.tsv"))
        query.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(dict.fromkeys(queries))))
        target.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(targets)))
        command = [
            program,
            "easy-search",
            query,
            target,
            hits,
            Path(folder) / "tmp",
            "--min-seq-id",
            identity,
        ]
        command += ["-c", 0.5, "--cov-mode", 5, "-e", 1e-3, "-s", 7.5, "--max-seqs", 100_000, "-v", 1]
        command += ["--format-output", "target"]
        run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if run.returncode:
            raise CorpusError(f"MMseqs2 failed: {run.stderr.strip() or run.stdout.strip()}")
        return {int(line) for line in hits.read_text().split()}


def read_collection(path: Path, drop_sources: Iterable[str] = ()) -> pa.Table:
    """Read a collection of chains in the flat npz layout (ids, offsets, seq, dxyz_milliA, resnum, cluster30)."""
    with np.load(path, allow_pickle=False) as data:
        z = {name: data[name] for name in ("ids", "offsets", "seq", "dxyz_milliA", "resnum", "cluster30")}
        dropped = np.isin(data["source_names"][data["source"]], list(drop_sources))
    rows = []
    for i in np.flatnonzero(~dropped):
        span = slice(z["offsets"][i], z["offsets"][i + 1])
        ca = np.cumsum(z["dxyz_milliA"][span].astype(np.int64), axis=0) / 1000.0
        ca -= ca.mean(axis=0)
        rows.append(
            {
                "id": str(z["ids"][i]),
                "sequence": z["seq"][span].tobytes().decode("ascii"),
                "ca": ca.astype(np.float32).ravel(),
                "residue_index": index_with_gaps(ca, z["resnum"][span]).astype(np.int32),
                "cluster": int(z["cluster30"][i]),
            }
        )
    return pa.Table.from_pylist(rows)


def split_by_cluster(clusters: NDArray[np.int64], seed: int) -> list[str]:
    """Return "train", "val" or "test" for each chain: 80 / 10 / 10 of the clusters, none of them cut."""
    unique = np.unique(clusters)
    order = np.random.default_rng(seed).permutation(len(unique))
    share = np.empty(len(unique))
    share[order] = np.arange(len(unique)) / len(unique)
    names = np.array(SPLITS)[np.digitize(share, [0.8, 0.9])]
    return [str(name) for name in names[np.searchsorted(unique, clusters)]]


def write_corpus(table: pa.Table, path: Path, seed: int) -> dict[str, int]:
    """Split the chains, write the Arrow file in one piece, and return the chains and clusters per split."""
    clusters = table["cluster"].to_numpy()
    splits = split_by_cluster(clusters, seed)
    table = table.append_column("split", pa.array(splits)).combine_chunks()
    part = path.with_name(path.name + ".part")
    with pa.OSFile(str(part), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    part.replace(path)
    counts = {f"{name} chains": splits.count(name) for name in SPLITS}
    for name in SPLITS:
        counts[f"{name} clusters"] = len(np.unique(clusters[np.array(splits) == name]))
    return counts
