"""Building a corpus: read, cluster, remove relatives, filter, split, write, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from protemb_sdk._base.output import check_apart, check_output
from protemb_train.corpus.alignment import LARGEST_E_VALUE, related
from protemb_train.corpus.chains import Limits
from protemb_train.corpus.clusters import cluster_by_column, cluster_by_file, cluster_by_mmseqs, first_of_each
from protemb_train.corpus.corpus import Corpus, CorpusError, check_splits, write_corpus
from protemb_train.corpus.exact import exact_relatives
from protemb_train.corpus.mmseqs import relatives, search
from protemb_train.corpus.report import by_kind, histogram, write_report, write_skipped
from protemb_train.corpus.shards import read_structures, remove_parts
from protemb_train.corpus.sources import file_to_avoid, find_files, read_collection, sequences_to_avoid

COLUMN, MMSEQS = "column", "mmseqs"

# E-values decrease with the number of residues searched, so that removing chains makes some of the others
# significant. This factor allows for the removal of nine chains in ten.
ROOM = 10


@dataclass(frozen=True, slots=True)
class Recipe:
    """Settings for building a corpus.

    Parameters
    ----------
    avoid : tuple of Path
        FASTA or npz files with sequences whose relatives are removed; ``FILE.npz:SPLIT`` for one split.
    drop_sources : tuple of str
        Excluded sources of a collection.
    clusters : str, optional
        "column" (the collection's own), "mmseqs", or the path of an official cluster file; by default
        "column" for a collection and "mmseqs" for structures.
    unique : bool
        Keep only the first chain of each sequence.
    one_per_cluster : bool
        Keep only the first chain of each cluster. The splits of the clusters do not change.
    thorough : bool
        Also remove relatives found by exact alignment of all pairs, with E-values up to `ROOM` times the
        usual limit, so that `protemb-train prove` finds no relatives in the corpus.
    seed : int
        Seed of the split.
    limits : Limits
        Criteria for chains of structure files.
    """

    avoid: tuple[Path, ...] = ()
    drop_sources: tuple[str, ...] = ()
    clusters: str | None = None
    unique: bool = False
    one_per_cluster: bool = False
    thorough: bool = True
    seed: int = 0
    limits: Limits = field(default_factory=Limits)

    def as_dict(self) -> dict[str, Any]:
        """Return the options for the report, with the names of files."""
        limits = self.limits
        return {
            "avoid": [path.name for path in self.avoid],
            "drop_sources": list(self.drop_sources),
            "clusters": None if self.clusters is None else Path(self.clusters).name,
            "unique": self.unique,
            "one_per_cluster": self.one_per_cluster,
            "thorough": self.thorough,
            "seed": self.seed,
            "min_length": limits.min_length,
            "max_length": limits.max_length,
            "max_unknown": limits.max_unknown,
        }


def build_corpus(
    sources: list[str],
    out: Path,
    recipe: Recipe,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Write a corpus, its report (.json) and, for structures, a list of skipped ones (.skipped.csv).

    Parameters
    ----------
    sources : list of str
        A collection (npz), or structures: folders, files, globs and lists.
    out : Path
        Arrow file to write. An interrupted call leaves a folder (.parts) next to it, from which the next
        call continues.
    recipe : Recipe
        Settings.
    workers : int, default 1
        Number of processes that read structures, and of threads for exact alignment.
    progress : callable
        Called with the number of files read and their total.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    ProtembError
        If a source cannot be read, no chain remains, or the corpus cannot be written.
    """
    given = [
        *sources,
        *(file_to_avoid(source)[0] for source in recipe.avoid),
        recipe.clusters if recipe.clusters not in (COLUMN, MMSEQS) else None,
    ]
    check_output(out, ".arrow", given, beside=[".json", ".skipped.csv"])
    listing = out.with_suffix(".skipped.csv")
    queries = list(dict.fromkeys(s for path in recipe.avoid for s in sequences_to_avoid(path)))
    report: dict[str, Any] = {
        "sources": [Path(source).name for source in sources],
        "options": recipe.as_dict(),
    }
    parts = out.with_suffix(".parts")
    if _is_collection(sources):
        table = read_collection(Path(sources[0]), recipe.drop_sources)
        report["chains read"] = table.num_rows
    else:
        if recipe.drop_sources:
            raise CorpusError("--drop-source requires a collection (npz), but these sources are structures")
        files = list(dict.fromkeys(file for source in sources for file in find_files(source)))
        check_apart([out, out.with_suffix(".json"), listing], files)
        table, skips = read_structures(files, parts, recipe.limits, workers=workers, progress=progress)
        write_skipped(skips, listing)
        report |= {"files": len(files), "chains read": table.num_rows, "skipped": by_kind(skips)}
        if not table.num_rows:
            raise CorpusError(f"no chain of the {len(files)} files is suitable; {listing} lists the reasons")
    if recipe.unique:
        kept = table.take(first_of_each(table["sequence"].to_numpy(zero_copy_only=False)))
        report["repeated sequences removed"] = table.num_rows - kept.num_rows
        table = kept
    table, counts = _clustered(table, recipe.clusters or (COLUMN if _is_collection(sources) else MMSEQS))
    report |= {**counts, "clusters": pc.count_distinct(table["cluster"]).as_py()}
    if recipe.avoid:
        table, counts = _without_relatives(table, queries, recipe.thorough, workers)
        report |= {"downstream sequences": len(queries), **counts}
    if recipe.one_per_cluster:
        kept = table.take(first_of_each(table["cluster"].to_numpy()))
        report["others of a cluster removed"] = table.num_rows - kept.num_rows
        table = kept
    if table.num_rows:
        check_splits(table, recipe.seed)
    report |= write_corpus(table, out, recipe.seed)
    corpus = Corpus(out)
    report |= {"chains": len(corpus), "residues": int(corpus.lengths.sum())}
    report |= {"lengths": histogram(corpus.lengths), "sha256": corpus.sha256}
    write_report(report, out.with_suffix(".json"))
    remove_parts(parts)
    return report


def _is_collection(sources: list[str]) -> bool:
    collections = [source for source in sources if Path(source).suffix == ".npz"]
    if collections and len(sources) > 1:
        raise CorpusError("is a collection, which cannot be combined with other sources", collections[0])
    return bool(collections)


def _clustered(table: pa.Table, clusters: str) -> tuple[pa.Table, dict[str, int]]:
    if clusters == MMSEQS:
        return cluster_by_mmseqs(table), {}
    if clusters != COLUMN:
        return cluster_by_file(table, Path(clusters))
    if pc.min(table["cluster"]).as_py() < 0:
        raise CorpusError(
            "structure files contain no clusters; pass a cluster file with --clusters, or mmseqs"
        )
    return cluster_by_column(table)


def _without_relatives(
    table: pa.Table, queries: list[str], thorough: bool, threads: int
) -> tuple[pa.Table, dict[str, int]]:
    limit = LARGEST_E_VALUE * ROOM if thorough else LARGEST_E_VALUE
    sequences: list[str] = table["sequence"].to_pylist()
    if thorough:
        # With the criteria of the proof: MMseqs2 rounds an identity of .2996 to .300 after its own filter.
        hits = search(queries, sequences, identity=0.0, e_value=limit)
        found = {hit.target for hit in hits if related(hit, e_value=limit)}
    else:
        found = relatives(queries, sequences)
    table, counts = _without(table, found), {"relatives removed": len(found)}
    if thorough:
        found = exact_relatives(queries, table["sequence"].to_pylist(), e_value=limit, threads=threads)
        table = _without(table, found)
        counts["more relatives removed by exact alignment"] = len(found)
    return table, counts


def _without(table: pa.Table, positions: set[int]) -> pa.Table:
    return table.take(np.array([i for i in range(table.num_rows) if i not in positions], dtype=np.int64))
