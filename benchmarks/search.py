"""Search results: neighbours of test chains, compared with other methods.

    python benchmarks/search.py CORPUS.arrow -o benchmarks/search.md \\
        --index base=INDEX --map untrained=MAP.npz=UNTRAINED.ckpt --map proteinmpnn=MAP.npz

The indexes are of the stores that benchmarks/search_data.py makes; MAP.npz is from `protemb-train fit-map`.
Requires MMseqs2, mini3di, pulchra and tmtools. One thread is used; half an hour.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import processor
from benchmarks.search_data import Split, chains, queries, tm_align_pair
from benchmarks.search_rivals import (
    Order,
    Ranking,
    Task,
    at_random,
    by_map,
    by_segments,
    by_sequence,
    by_three_di,
)
from protemb_sdk import Embedder, Embedding
from protemb_sdk._base.output import written_whole
from protemb_sdk.search import CANDIDATES, SUPERPOSED, Index, open_index
from protemb_train.corpus.corpus import Corpus

K = 10  # number of hits whose TM-scores are averaged
THREE_DI = "3Di, Smith-Waterman"
FOLD = 0.5
"""TM-score above which two chains share a fold (Xu and Zhang 2010, doi:10.1093/bioinformatics/btq066)."""
BOOTSTRAPS = 2000


class Model:
    """An index, with the queries embedded by its model."""

    def __init__(self, name: str, path: Path, task: Task, embedder: Embedder) -> None:
        self.name, self.task = name, task
        self.index: Index = open_index(path)
        numbers = {identifier: number for number, identifier in enumerate(self.index.ids)}
        # For each chain of the task, its number in the index.
        self.number = np.array([numbers[chain.name] for chain in task.structures])
        self.descriptors = self.index.descriptors[self.number]
        self.queries: list[Embedding] = [embedder.embed(task.structures[q]) for q in task.asked]
        self.place = {chain.name: position for position, chain in enumerate(task.structures)}
        self._hits: dict[tuple[int, str], Order] = {}

    def by_vector(self, row: int, pool: Order) -> Order:
        cosine = self.descriptors[pool] @ self.index.descriptor(self.queries[row])
        return pool[np.argsort(-cosine, kind="stable")]

    def first(self, row: int, pool: Order, sort: str = "tm") -> tuple[Order, Order]:
        """Return the hits of a search without the query, best first, and the other chains by vector."""
        if (row, sort) not in self._hits:
            # The query is in the index and among its own candidates.
            hits = self.index.search(self.queries[row], SUPERPOSED + 1, CANDIDATES + 1, sort)
            places = np.array([self.place[hit.id] for hit in hits])
            self._hits[row, sort] = places[places != self.task.asked[row]][:SUPERPOSED]
        first, found = self._hits[row, sort], self.by_vector(row, pool)
        return first, found[~np.isin(found, first)]

    def by_search(self, row: int, pool: Order, sort: str = "tm") -> Order:
        """Rank as `protemb search --sort`."""
        return np.concatenate(self.first(row, pool, sort))

    def by_alignment(self, row: int, pool: Order) -> Order:
        """Rank the same chains by the alignment of residue vectors."""
        first, others = self.first(row, pool)
        score, _ = self.index.align(self.queries[row], self.number[first])
        return np.concatenate([first[np.argsort(-score, kind="stable")], others])


def by_tm_align_of_superposed(model: Model, evaluator: Evaluator) -> Ranking:
    """Return the ranking of the chains that the model's search superposes, by TM-align."""

    def ranking(row: int, pool: Order) -> Order:
        first, others = model.first(row, pool)
        evaluator.ask_one(row, first)
        score = np.array([evaluator.mean_score(row, int(chain)) for chain in first])
        return np.concatenate([first[np.argsort(-score, kind="stable")], others])

    return ranking


def average_precision(relevant: NDArray[np.bool_]) -> float:
    """Return the mean precision at the rank of each relevant chain of a ranking; there is at least one."""
    ranks = np.flatnonzero(relevant) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


class Evaluator:
    """Evaluates rankings; each pair is aligned by TM-align once, and its scores are kept in a file."""

    def __init__(self, task: Task, workers: int, scores: Path | None) -> None:
        self.task, self.workers, self.scores = task, workers, scores
        self.kept: dict[str, NDArray[np.float64]] = {}  # for each ranking, one row per query
        self._tm: dict[tuple[int, int], tuple[float, float]] = {}  # normalised by query and by target
        self._corpus = np.array(task.corpus.sha256)
        if scores is not None and scores.exists():
            with np.load(scores) as kept:
                if kept["corpus"] != self._corpus:
                    raise typer.BadParameter(f"{scores} has the scores of another corpus; name another file")
                pairs, values = kept["pairs"].tolist(), kept["scores"].tolist()
            self._tm = {
                (row, chain): (one, other) for (row, chain), (one, other) in zip(pairs, values, strict=True)
            }

    def ask(self, found: list[Order]) -> None:
        """Align hits with TM-align, for each query."""
        missing = {
            (row, int(chain)) for row, chains in enumerate(found) for chain in chains
        } - self._tm.keys()
        pairs = sorted(missing)
        structures, asked = self.task.structures, self.task.asked
        arguments = ((structures[asked[row]], structures[chain]) for row, chain in pairs)
        with multiprocessing.Pool(self.workers) as pool:
            scores = pool.imap(tm_align_pair, arguments, chunksize=8)
            self._tm |= dict(zip(pairs, scores, strict=True))
        if self.scores is not None and pairs:
            arrays = {"pairs": np.array(list(self._tm)), "scores": np.array(list(self._tm.values()))}
            with written_whole(self.scores) as part, part.open("wb") as file:
                np.savez(file, corpus=self._corpus, **arrays)

    def ask_one(self, row: int, found: Order) -> None:
        """Align the hits of one query with TM-align."""
        self.ask([found if row == n else found[:0] for n in range(len(self.task.asked))])

    def mean_score(self, row: int, chain: int) -> float:
        """Return the mean of both TM-scores of a query and an aligned chain."""
        return float(np.mean(self._tm[row, chain]))

    def both(self, row: int, chain: int) -> tuple[float, float]:
        """Return both TM-scores of a query and an aligned chain."""
        return self._tm[row, chain]

    def tm(self, row: int, found: Order) -> NDArray[np.float64]:
        """Return TM-scores of hits, shape (hits, 2): normalised by the query, and mean of both."""
        both = np.array([self._tm[row, int(chain)] for chain in found])
        return np.stack([both[:, 0], both.mean(axis=1)], axis=1)

    def row(self, name: str, ranking: Ranking) -> str:
        """Return a line of the table: clusters, TM-scores and folds."""
        task, numbers = self.task, []
        orders = [ranking(row, task.others(row)) for row in range(len(task.asked))]
        families = [task.relatives(row)[order] for row, order in enumerate(orders)]
        self.ask([order[:K] for order in orders])
        self.ask([order[~family][:K] for order, family in zip(orders, families, strict=True)])
        for row, (order, family) in enumerate(zip(orders, families, strict=True)):
            first, strange = self.tm(row, order[:K]), self.tm(row, order[~family][:K])
            scores = np.stack([first.mean(axis=0), strange.mean(axis=0), (strange >= FOLD).mean(axis=0)])
            numbers.append([average_precision(family), float(family[0]), *scores.T.flatten()])
        self.kept[name] = np.array(numbers)
        line = " | ".join(_interval(column) for column in self.kept[name].T)
        print(name, line, flush=True)
        return f"| {name} | {line} |"

    def gain(self, name: str, over: str) -> str:
        """Return a line of the table: the mean difference of two rankings over queries."""
        line = " | ".join(_interval(column) for column in (self.kept[name] - self.kept[over]).T)
        return f"| {name} minus {over} | {line} |"


def _interval(values: NDArray[np.float64]) -> str:
    """Return a mean over queries, with half of the 95% confidence interval by bootstrap."""
    drawn = np.random.default_rng(0).choice(values, (BOOTSTRAPS, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{values.mean():.3f} ± {(high - low) / 2:.3f}"


def _tm_compared(model: Model, evaluator: Evaluator) -> tuple[float, float, float]:
    """Compare TM-scores of the first hits with those of TM-align.

    Returns the share within .02 and the median difference, over both normalisations, and the share of hits
    with a TM-score above the aligned residues over the length.
    """
    gaps, impossible = [], []
    place = model.place
    for row in range(len(evaluator.task.asked)):
        query = model.queries[row]
        hits = [hit for hit in model.index.search(query, K) if place[hit.id] != evaluator.task.asked[row]]
        evaluator.ask_one(row, np.array([place[hit.id] for hit in hits], dtype=np.int64))
        for hit in hits:
            by_query, by_target = evaluator.both(row, place[hit.id])
            gaps += [hit.tm_query - by_query, hit.tm_target - by_target]
            count = len(hit.pairs)
            impossible.append(hit.tm_query > count / len(query) or hit.tm_target > count / hit.length)
    return float(np.mean(np.abs(gaps) <= 0.02)), float(np.median(gaps)), float(np.mean(impossible))


def _seconds(model: Model) -> tuple[float, float]:
    taken = []
    for query in model.queries:
        start = time.perf_counter()
        model.index.search(query)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), max(taken)


def main(
    corpus: Annotated[Path, typer.Argument(help="Corpus, by protemb-train corpus.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    index: Annotated[list[str], typer.Option(help="NAME=FOLDER; NAME=FOLDER=MODEL.onnx if not bundled.")],
    linear_map: Annotated[
        list[str] | None,
        typer.Option("--map", help="NAME=MAP.npz, of protemb-train fit-map; NAME=MAP.npz=CHECKPOINT."),
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Number of TM-align processes.")] = 1,
    scores: Annotated[
        Path | None, typer.Option(help="File that keeps the TM-scores of TM-align for the next page.")
    ] = None,
    split: Split = "test",
) -> None:
    """Compare rankings of the test or validation chains of a corpus, and write the page."""
    searched = Corpus(corpus, [split])
    task = Task(searched, chains(searched), np.array(queries(searched)))
    with threadpool_limits(1):
        page = _page(task, index, linear_map or [], Evaluator(task, workers, scores))
    out.write_text("\n".join(page) + "\n", encoding="utf-8")


def _page(task: Task, indexes: list[str], maps: list[str], evaluator: Evaluator) -> list[str]:
    models = []
    for text in indexes:
        name, folder, *file = text.split("=")
        models.append(Model(name, Path(folder), task, Embedder(file[0] if file else name, "cpu", threads=1)))
    rankings: dict[str, Ranking] = {
        "random, of similar length": at_random(task),
        "MMseqs2": by_sequence(task),
        THREE_DI: by_three_di(task),
        "distances between segments": by_segments(task),
    }
    for text in maps:
        name, path, *checkpoint = text.split("=")
        encoder = checkpoint[0] if checkpoint else name
        rankings[f"{name}, linear map"] = by_map(task, Path(path), encoder)
    for model in models:
        rankings[f"`{model.name}`, protein vectors"] = model.by_vector
        rankings[f"`{model.name}`, search"] = model.by_search
    first = models[0]
    rankings[_by_query(first.name)] = partial(first.by_search, sort="tm-query")
    rankings[f"`{first.name}`, superposed chains by residue alignment"] = first.by_alignment
    rankings[_of_superposed(first)] = by_tm_align_of_superposed(first, evaluator)
    lines = [*_head(task), "", *_columns()]
    lines += [evaluator.row(name, ranking) for name, ranking in rankings.items()]
    lines += _gains(evaluator, models, [f"{text.split('=')[0]}, linear map" for text in maps])
    lines += ["", "## Index", ""]
    lines += [
        f"First {K} hits of each query.",
        "",
        "| model | TM-scores within .02 of TM-align's | median difference | "
        "TM-score above aligned / length | ms per query, median | maximum | MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    close, gap, impossible = _tm_compared(first, evaluator)
    numbers: list[Any] = [f"{close:.3f}", f"{gap:+.4f}", f"{impossible:.4f}"]
    numbers += [f"{1e3 * seconds:.0f}" for seconds in _seconds(first)]
    size = sum(file.stat().st_size for file in first.index.path.iterdir())
    return [*lines, f"| `{first.name}` | {' | '.join([*numbers, f'{size / 2**20:.0f}'])} |"]


def _of_superposed(model: Model) -> str:
    return f"`{model.name}`, superposed chains by TM-align"


def _by_query(name: str) -> str:
    return f"`{name}`, search --sort tm-query"


def _gains(evaluator: Evaluator, models: list[Model], maps: list[str]) -> list[str]:
    """Return the gains of the first model over other rankings: of its search, and of its vectors."""
    first, *others = (model.name for model in models)
    search, vectors = f"`{first}`, search", f"`{first}`, protein vectors"
    over = ["MMseqs2", THREE_DI, *(f"`{name}`, search" for name in others), _of_superposed(models[0])]
    lines = [evaluator.gain(search, name) for name in over]
    lines.append(evaluator.gain(_by_query(first), THREE_DI))
    over = [*(f"`{name}`, protein vectors" for name in others), *maps]
    return lines + [evaluator.gain(vectors, name) for name in over]


def _head(task: Task) -> list[str]:
    return [
        "# Search results",
        "",
        f"Written by `python benchmarks/search.py` ({processor()}, one thread). {len(task.asked)} queries of "
        f"40 residues and more, one per 30% cluster with several chains, are searched among the "
        f"{len(task.structures):,} {task.corpus.splits[0]} chains of the corpus. No network of this project "
        "was trained on their clusters; ProteinMPNN was trained on the PDB up to August 2021. Queries are "
        "excluded from their hits. Means over queries, with 95% confidence intervals by bootstrap.",
        "",
        "- *Family*: mean average precision for chains of the query's cluster, and how often the first hit "
        "is one. The clusters are from MMseqs2, which therefore has an advantage here.",
        f"- *TM-score*: by TM-align, mean of the first {K} hits, and of the first {K} of other clusters. "
        "It is normalised by the query; *both* is the mean of both normalisations, by which a search sorts.",
        f"- *Fold*: share of the first {K} hits of other clusters with a TM-score of {FOLD} or more.",
        "- *Protein vectors*: cosine similarity. *Search*: the method of `protemb search`. Of the first "
        f"{CANDIDATES} by protein vectors, the {SUPERPOSED} with the best coarse superposition are "
        "superposed and sorted by TM-score (mean of both normalisations; with --sort tm-query that of the "
        "query). *Superposed chains by ...*: the same "
        "chains in another order. *Linear map*: vectors of another encoder with a map fitted in the "
        "same way; the untrained network has its own, too.",
        "- *3Di, Smith-Waterman*: 3Di states of mini3di on backbones of PULCHRA, the matrix of Foldseek, no "
        "prefilter. *Distances between segments*: 55 numbers of ten ordered segments of the chain.",
    ]


def _columns() -> list[str]:
    scores = ["TM-score", "TM-score, other clusters", "fold"]
    names = ["ranking", "family", "first is family", *scores, *(f"{score}, both" for score in scores)]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


if __name__ == "__main__":
    typer.run(main)
