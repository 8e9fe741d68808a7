"""A corpus from its sources: read, cluster, remove relatives, thin out, split, write, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from protemb_sdk._base.output import check_output
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

# An E-value falls with the residues searched, so that removing chains makes some of the others
# significant. This leaves room for nine chains in ten.
ROOM = 10


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a corpus is made from its sources.

    Parameters
    ----------
    avoid : tuple of Path
        FASTA or npz files whose sequences' relatives are removed; ``FILE.npz:SPLIT`` for those of a split.
    drop_sources : tuple of str
        Sources of a collection that are left out.
    clusters : str, optional
        "column" (the collection's own), "mmseqs", or the path of an official cluster file; by default
        "column" for a collection and "mmseqs" for structures.
    unique : bool
        Keep the first read of the chains with one sequence.
    one_per_cluster : bool
        Keep the first read of the chains of a cluster. Clusters are in the split that they are in without it.
    thorough : bool
        Remove relatives found by exact alignment of all pairs too, and up to E-values of `ROOM` times the
        usual limit: a corpus that `protemb-train prove` finds nothing in.
    seed : int
        Of the split.
    limits : Limits
        What a chain out of a structure file must keep to.
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
        """Return the options as the report tells them; files by their names."""
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
    """Write a corpus, its report (.json) and, from structures, what was skipped (.skipped.csv).

    Parameters
    ----------
    sources : list of str
        A collection (npz), or structures: folders, files, globs and lists.
    out : Path
        Arrow file to write. An interrupted call leaves a folder (.parts) beside it, from which the next
        one goes on.
    recipe : Recipe
        What is done.
    workers : int, default 1
        Processes that read structures, and threads that align them exactly.
    progress : callable
        Takes the files read so far and their total.

    Returns
    -------
    dict
        The report.

    Raises
    ------
    ProtembError
        If a source cannot be read, no chain is left, or the corpus cannot be written.
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
            raise CorpusError("--drop-source is for a collection (npz); these sources are structures")
        files = list(dict.fromkeys(file for source in sources for file in find_files(source)))
        check_output(out, ".arrow", files, beside=[".json", ".skipped.csv"])
        table, skips = read_structures(files, parts, recipe.limits, workers=workers, progress=progress)
        write_skipped(skips, listing)
        report |= {"files": len(files), "chains read": table.num_rows, "skipped": by_kind(skips)}
        if not table.num_rows:
            raise CorpusError(f"no chain of the {len(files)} files is fit for a corpus; {listing} says why")
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
        raise CorpusError("is a collection, and goes into a corpus alone", collections[0])
    return bool(collections)


def _clustered(table: pa.Table, clusters: str) -> tuple[pa.Table, dict[str, int]]:
    if clusters == MMSEQS:
        return cluster_by_mmseqs(table), {}
    if clusters != COLUMN:
        return cluster_by_file(table, Path(clusters))
    if pc.min(table["cluster"]).as_py() < 0:
        raise CorpusError("structure files name no clusters; pass a cluster file with --clusters, or mmseqs")
    return cluster_by_column(table)


def _without_relatives(
    table: pa.Table, queries: list[str], thorough: bool, threads: int
) -> tuple[pa.Table, dict[str, int]]:
    limit = LARGEST_E_VALUE * ROOM if thorough else LARGEST_E_VALUE
    sequences: list[str] = table["sequence"].to_pylist()
    if thorough:
        # Judged as the proof judges: MMseqs2 rounds an identity of .2996 to .300 after its own filter.
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
