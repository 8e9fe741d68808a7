"""The pre-training corpus: chains in one Arrow file, split by cluster, free of test relatives.

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
import pyarrow.compute as pc
from numpy.typing import NDArray

from protemb_sdk._chain import encode_sequence, index_with_gaps
from protemb_sdk._errors import ProtembError
from protemb_sdk._output import written_whole
from protemb_train.arrays import read_arrays

COLUMNS = ("id", "sequence", "ca", "residue_index", "cluster", "split")
SPLITS = ("train", "val", "test")


LEAST_COVERAGE = 0.5
"""Share of the shorter sequence that an alignment must cover to make two chains relatives."""


class CorpusError(ProtembError):
    """A corpus cannot be built or read."""


@dataclass(frozen=True, slots=True, eq=False)
class Trace:
    """One chain as training sees it.

    Parameters
    ----------
    id : str
        Entry and chain.
    ca_coords : ndarray, float32, shape (L, 3)
        C-alpha coordinates in angstrom, centred.
    residue_type, residue_index : ndarray, int64, shape (L,)
        As in `protemb_sdk._chain.Chain`.
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
        Which of "train", "val" and "test" to show.

    Attributes
    ----------
    lengths, clusters : ndarray, int64, shape (number of chains,)
        Residues and cluster of each chain.
    sha256 : str
        Of the file.

    Raises
    ------
    CorpusError
        If the file is missing or is no corpus.
    """

    def __init__(self, path: str | Path, splits: Iterable[str] = SPLITS) -> None:
        self.path, self.splits = Path(path), tuple(splits)
        try:
            table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
            self.sha256 = hashlib.sha256(self.path.read_bytes()).hexdigest()
        except FileNotFoundError:
            raise CorpusError(f"{path}: no such corpus; make one with protemb-train corpus") from None
        except (OSError, pa.ArrowInvalid) as error:
            reason = (error.args or ("unreadable",))[-1]
            raise CorpusError(
                f"{path}: not a corpus file ({reason}); make one with protemb-train corpus"
            ) from error
        missing = [name for name in COLUMNS if name not in table.column_names]
        if missing:
            raise CorpusError(
                f"{path}: not a corpus file (no column {missing[0]}); make one with protemb-train corpus"
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

    def __iter__(self) -> Iterator[Trace]:
        return (self[position] for position in range(len(self)))


def sequences_to_avoid(path: Path) -> list[str]:
    """Read sequences from a FASTA file, or from an npz with flat `seq` and `offset` (downstream data).

    Raises
    ------
    ArrayFileError, CorpusError
        If the file is missing or holds no sequence.
    """
    if path.suffix == ".npz":
        data = read_arrays(path, ("seq", "offset"), "an npz of sequences (seq, offset)")
        offset, seq = data["offset"], data["seq"]
        return [seq[a:b].tobytes().decode("ascii") for a, b in zip(offset[:-1], offset[1:], strict=True)]
    try:
        records = path.read_text(encoding="ascii").split(">")[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read as FASTA ({error})") from error
    found = ["".join(record.split("\n")[1:]).replace(" ", "").strip() for record in records]
    if not any(found):
        raise CorpusError(f"{path}: holds no sequence; pass a FASTA file (>name, then the sequence)")
    return [sequence for sequence in found if sequence]


def relatives(queries: Iterable[str], targets: list[str], identity: float = 0.3) -> set[int]:
    """Return positions of the targets that MMseqs2 finds similar to any query.

    An alignment counts from `identity` upwards when it covers half of the shorter sequence, so that a
    domain is found in a chain of several.

    Parameters
    ----------
    queries : iterable of str
        One-letter sequences to stay away from.
    targets : list of str
        One-letter sequences to judge.
    identity : float, default 0.3
        Least share of identical residues in the alignment.

    Raises
    ------
    CorpusError
        If MMseqs2 is not installed or fails.
    """
    program = shutil.which("mmseqs")
    if program is None:
        raise CorpusError(
            "removing relatives needs MMseqs2, and there is no program mmseqs; install it "
            "(apt install mmseqs2), or leave --avoid out"
        )
    unique = [sequence for sequence in dict.fromkeys(queries) if sequence]
    if not unique or not targets:
        return set()
    with tempfile.TemporaryDirectory() as folder:
        query, target, hits = (Path(folder) / name for name in ("query.fa", "target.fa", "hits.tsv"))
        query.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(unique)))
        target.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(targets)))
        command = [program, "easy-search", query, target, hits, Path(folder) / "tmp"]
        command += ["--min-seq-id", identity, "-e", 1e-3, "-s", 7.5, "--max-seqs", 100_000, "-v", 1]
        # Coverage of the shorter is judged here: MMseqs2's own --cov-mode 5 compares lengths only.
        command += ["--format-output", "target,qlen,tlen,qcov,tcov"]
        run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
        if run.returncode:
            said = (run.stderr.strip() or run.stdout.strip() or "no reason given").splitlines()[-1]
            raise CorpusError(f"MMseqs2 failed with status {run.returncode}: {said}")
        found = set()
        for line in hits.read_text().splitlines():
            position, query_length, target_length, query_share, target_share = line.split("\t")
            query_is_shorter = int(query_length) <= int(target_length)
            if float(query_share if query_is_shorter else target_share) >= LEAST_COVERAGE:
                found.add(int(position))
        return found


def read_collection(path: Path, drop_sources: Iterable[str] = ()) -> pa.Table:
    """Read a collection of chains in the flat npz layout.

    Parameters
    ----------
    path : Path
        npz with `ids`, `source` and `cluster30` per chain, `offsets`, `source_names`, and per residue
        `seq` (ASCII), `dxyz_milliA` (steps, 0.001 angstrom) and `resnum`.
    drop_sources : iterable of str
        Names out of `source_names` to leave out.

    Returns
    -------
    pyarrow.Table
        With the columns of a corpus, except `split`.

    Raises
    ------
    ArrayFileError
        If the file is missing or holds other arrays.
    CorpusError
        If its arrays do not match, a source is unknown, or no chain is left.
    """
    names = ("ids", "offsets", "seq", "dxyz_milliA", "resnum", "cluster30", "source", "source_names")
    z = read_arrays(path, names, "a collection of chains")
    residues = len(z["seq"])
    if len(z["offsets"]) != len(z["ids"]) + 1 or z["offsets"][-1] != residues:
        raise CorpusError(f"{path}: its offsets do not match its {len(z['ids'])} chains; the file is damaged")
    if z["dxyz_milliA"].shape != (residues, 3) or len(z["resnum"]) != residues:
        raise CorpusError(f"{path}: coordinates and sequences differ in length; the file is damaged")
    dropped = list(drop_sources)
    unknown = set(dropped) - set(z["source_names"].tolist())
    if unknown:
        known = ", ".join(z["source_names"].tolist())
        raise CorpusError(f"{path}: has no source {', '.join(sorted(unknown))}; its sources are {known}")
    rows = []
    for i in np.flatnonzero(~np.isin(z["source_names"][z["source"]], dropped)):
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
    if not rows:
        raise CorpusError(f"{path}: no chain is left; drop fewer sources")
    return pa.Table.from_pylist(rows)


def split_by_cluster(clusters: NDArray[np.int64], seed: int) -> list[str]:
    """Return "train", "val" or "test" for each chain: 80 / 10 / 10 of the clusters, none of them cut.

    Parameters
    ----------
    clusters : ndarray, int64, shape (number of chains,)
        Cluster of each chain.
    seed : int
        Same seed, same split.
    """
    unique = np.unique(clusters)
    order = np.random.default_rng(seed).permutation(len(unique))
    share = np.empty(len(unique))
    share[order] = np.arange(len(unique)) / len(unique)
    names = np.array(SPLITS)[np.digitize(share, [0.8, 0.9])]
    return [str(name) for name in names[np.searchsorted(unique, clusters)]]


def write_corpus(table: pa.Table, path: Path, seed: int) -> dict[str, int]:
    """Split the chains, write the Arrow file in one piece, and return the chains and clusters per split.

    Raises
    ------
    CorpusError
        If there is no chain to write.
    OutputError
        If the file cannot be written.
    """
    if not table.num_rows:
        raise CorpusError(f"{path}: not written, because no chain is left for the corpus")
    clusters = table["cluster"].to_numpy()
    splits = split_by_cluster(clusters, seed)
    table = table.append_column("split", pa.array(splits)).combine_chunks()
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
