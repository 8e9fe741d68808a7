"""What search finds: neighbours of test chains in the corpus, beside sequence search and TM-align.

    python benchmarks/search.py CORPUS.arrow TM.npz -o benchmarks/search.md \\
        --index base=INDEX --index untrained=INDEX

TM.npz and the stores of the indexes are made by benchmarks/search_data.py. Needs MMseqs2. One thread.
"""

from __future__ import annotations

import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.machine import processor
from benchmarks.search_data import chains, queries, tm_align_pair
from protemb_sdk import Chain, Embedder, Embedding
from protemb_sdk.search import CANDIDATES, Index, open_index
from protemb_train.corpus.corpus import Corpus
from protemb_train.corpus.mmseqs import search as search_sequences

K = 10  # hits whose TM-scores are averaged
HITS = 20  # of which the recall is taken
FOLD = (
    0.5  # TM-score from which two chains share a fold (Xu and Zhang 2010, doi:10.1093/bioinformatics/btq066)
)
SIMILAR_LENGTH = 0.1  # of a chain drawn at random
E_VALUE = 10.0  # the largest of a sequence hit
BOOTSTRAPS = 2000

Order = NDArray[np.int64]
Ranking = Callable[[int, Order], Order]
"""Of a query's row and positions in the corpus without the query's: those positions, best first."""


@dataclass(frozen=True)
class Task:
    """What is searched, for what."""

    corpus: Corpus
    structures: list[Chain]
    asked: Order
    targets: Order
    tm: NDArray[np.float32]  # of each query with each target, by the length of the query

    def relatives(self, row: int) -> NDArray[np.bool_]:
        """Return which chains of the corpus lie in the query's cluster."""
        return np.asarray(self.corpus.clusters == self.corpus.clusters[self.asked[row]])

    def others(self, row: int, pool: Order) -> Order:
        """Return a pool without the query."""
        return pool[pool != self.asked[row]]


class Model:
    """An index, with the queries embedded by its model."""

    def __init__(self, name: str, path: Path, task: Task, embedder: Embedder) -> None:
        self.name, self.task = name, task
        self.index: Index = open_index(path)
        place = {identifier: number for number, identifier in enumerate(self.index.ids)}
        # Of each chain of the corpus, its number in the index.
        self.number = np.array([place[identifier] for identifier in task.corpus.table["id"].to_pylist()])
        self.descriptors = self.index.descriptors[self.number]
        self.queries: list[Embedding] = [embedder.embed(task.structures[q]) for q in task.asked]
        self._scores: dict[tuple[int, int], float] = {}

    def by_descriptor(self, row: int, pool: Order) -> Order:
        cosine = self.descriptors[pool] @ self.index.descriptor(self.queries[row])
        return pool[np.argsort(-cosine, kind="stable")]

    def by_search(self, row: int, pool: Order) -> Order:
        found = self.by_descriptor(row, pool)
        return np.concatenate([self._aligned(row, found[:CANDIDATES]), found[CANDIDATES:]])

    def by_alignment(self, row: int, pool: Order) -> Order:
        return self._aligned(row, self.by_descriptor(row, pool))

    def _aligned(self, row: int, pool: Order) -> Order:
        missing = [int(chain) for chain in pool if (row, int(chain)) not in self._scores]
        scores, _ = self.index.align(self.queries[row], self.number[missing])
        self._scores |= {(row, chain): float(score) for chain, score in zip(missing, scores, strict=True)}
        score = np.array([self._scores[row, int(chain)] for chain in pool])
        return pool[np.argsort(-score, kind="stable")]


def by_sequence(task: Task) -> Ranking:
    """Return the ranking of MMseqs2, by E-value; what it does not find comes in random order behind."""
    sequences = [chain.sequence for chain in task.structures]
    asked = [sequences[query] for query in task.asked]
    values = np.full((len(asked), len(sequences)), np.inf)
    first = {sequence: row for row, sequence in reversed(list(enumerate(asked)))}
    for hit in search_sequences(asked, sequences, identity=0.0, e_value=E_VALUE):
        values[hit.query, hit.target] = min(values[hit.query, hit.target], hit.e_value)
    values = values[[first[sequence] for sequence in asked]]
    behind = np.random.default_rng(0).random(values.shape)
    return lambda row, pool: pool[np.lexsort((behind[row, pool], values[row, pool]))]


def at_random(task: Task) -> Ranking:
    """Return a random ranking: chains of about the query's length first."""
    lengths, chance = task.corpus.lengths, np.random.default_rng(1)

    def ranking(row: int, pool: Order) -> Order:
        pool = chance.permutation(pool)
        own = lengths[task.asked[row]]
        far = np.abs(lengths[pool] - own) > SIMILAR_LENGTH * own
        return np.asarray(pool[np.argsort(far, kind="stable")])

    return ranking


def by_tm_align(task: Task) -> Ranking:
    """Return the ranking of TM-align, within its targets."""
    place = {int(target): column for column, target in enumerate(task.targets)}

    def ranking(row: int, pool: Order) -> Order:
        score = np.array([task.tm[row, place[int(chain)]] for chain in pool])
        return np.asarray(pool[np.argsort(-score, kind="stable")])

    return ranking


def average_precision(relevant: NDArray[np.bool_]) -> float:
    """Return the mean precision at the rank of each relevant chain, of a ranking; NaN if there is none."""
    ranks = np.flatnonzero(relevant) + 1
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks)) if len(ranks) else np.nan


class Judge:
    """Judges rankings; TM-align is asked about each pair once."""

    def __init__(self, task: Task, workers: int) -> None:
        self.task, self.workers = task, workers
        self.kept: dict[tuple[str, bool], NDArray[np.float64]] = {}  # of each ranking, a row a query
        self._tm: dict[tuple[int, int], float] = {}
        for (row, column), score in np.ndenumerate(task.tm):
            self._tm[row, int(task.targets[column])] = float(score)

    def ask(self, found: list[Order]) -> None:
        """Have TM-align score chains that were found, for each query."""
        missing = {
            (row, int(chain)) for row, chains in enumerate(found) for chain in chains
        } - self._tm.keys()
        pairs = sorted(missing)
        structures, asked = self.task.structures, self.task.asked
        arguments = ((structures[asked[row]], structures[chain]) for row, chain in pairs)
        with multiprocessing.Pool(self.workers) as pool:
            scores = pool.imap(tm_align_pair, arguments, chunksize=8)
            self._tm |= {pair: score for pair, (score, _) in zip(pairs, scores, strict=True)}

    def tm(self, row: int, found: Order) -> float:
        """Return the mean TM-score of hits that were asked about, by the length of the query."""
        return float(np.mean([self._tm[row, int(chain)] for chain in found]))

    def row(self, name: str, ranking: Ranking, pool: Order, *, folds: bool) -> str:
        """Return a line of the table: clusters, folds (within the targets) and TM-scores."""
        task, numbers = self.task, []
        orders = [ranking(row, task.others(row, pool)) for row in range(len(task.asked))]
        families = [task.relatives(row)[order] for row, order in enumerate(orders)]
        self.ask([order[:K] for order in orders])
        self.ask([order[~family][:K] for order, family in zip(orders, families, strict=True)])
        for row, (order, family) in enumerate(zip(orders, families, strict=True)):
            strange = order[~family]
            numbers.append([average_precision(family), float(family[0]) if family.any() else np.nan])
            if folds:
                alike = np.array([self._tm[row, int(chain)] >= FOLD for chain in strange])
                numbers[-1].append(average_precision(alike))
            numbers[-1] += [self.tm(row, order[:K]), self.tm(row, strange[:K])]
        self.kept[name, folds] = np.array(numbers)
        line = " | ".join(_interval(column) for column in self.kept[name, folds].T)
        print(name, line, flush=True)
        return f"| {name} | {line} |"

    def gain(self, name: str, over: str, *, folds: bool) -> str:
        """Return a line of what a ranking has more than another, query by query."""
        difference = self.kept[name, folds] - self.kept[over, folds]
        line = " | ".join(_interval(column) for column in difference.T)
        return f"| {name}, gain over {over} | {line} |"


def _interval(values: NDArray[np.float64]) -> str:
    """Return a mean over queries, with half of the width that 95% of resamplings take."""
    values = values[~np.isnan(values)]
    drawn = np.random.default_rng(0).choice(values, (BOOTSTRAPS, len(values))).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{values.mean():.3f} ± {(high - low) / 2:.3f}"


def _recalls(model: Model, pool: Order) -> tuple[float, float]:
    """Return the share of the best by cosine, and by aligning every chain, that a search finds."""
    task, cosine, aligned = model.task, [], []
    for row in range(len(task.asked)):
        found = model.index.search(model.queries[row], HITS)
        exact = model.number[model.by_alignment(row, pool)[:HITS]]
        ids = {model.index.ids[number] for number in exact}
        aligned.append(len(ids & {hit.id for hit in found}) / HITS)
        keys, _ = model.index._candidates(model.queries[row], CANDIDATES)
        best = model.number[model.by_descriptor(row, pool)[:CANDIDATES]]
        cosine.append(len(set(keys.tolist()) & set(best.tolist())) / CANDIDATES)
    return float(np.mean(cosine)), float(np.mean(aligned))


def _tm_beside(model: Model, judge: Judge) -> tuple[float, float]:
    """Return the median of our TM-score over TM-align's, for hits that share the fold, and the largest."""
    ratios = []
    for row in range(len(judge.task.asked)):
        place = {identifier: position for position, identifier in enumerate(_ids(judge.task))}
        hits = model.index.search(model.queries[row], K)
        for hit in hits:
            if place[hit.id] == judge.task.asked[row]:
                continue
            theirs = judge.tm(row, np.array([place[hit.id]]))
            if theirs >= FOLD:
                ratios.append(hit.tm_score / theirs)
    return float(np.median(ratios)), float(np.max(ratios))


def _ids(task: Task) -> list[str]:
    ids: list[str] = task.corpus.table["id"].to_pylist()
    return ids


def _seconds(model: Model) -> tuple[float, float]:
    taken = []
    for query in model.queries:
        start = time.perf_counter()
        model.index.search(query)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken), max(taken)


def main(
    corpus: Annotated[Path, typer.Argument(help="Corpus, by protemb-train corpus.")],
    tm: Annotated[Path, typer.Argument(help="TM-scores, by search_data.py align.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    index: Annotated[list[str], typer.Option(help="NAME=FOLDER; NAME=FOLDER=MODEL.onnx if not bundled.")],
    workers: Annotated[int, typer.Option(min=1, help="Processes of TM-align.")] = 1,
) -> None:
    """Compare rankings of the corpus, and write the page."""
    every, kept = Corpus(corpus), np.load(tm)
    assert str(kept["corpus"]) == every.sha256 and (kept["queries"] == queries(every)).all()
    assert not np.isnan(kept["tm"]).any(), "search_data.py align is not done"
    task = Task(every, chains(every), kept["queries"], kept["targets"], kept["tm"][:, :, 0])
    with threadpool_limits(1):
        out.write_text("\n".join(_page(task, index, workers)) + "\n", encoding="utf-8")


def _page(task: Task, indexes: list[str], workers: int) -> list[str]:
    judge, pool = Judge(task, workers), np.arange(len(task.corpus))
    models = []
    for text in indexes:
        name, folder, *file = text.split("=")
        models.append(Model(name, Path(folder), task, Embedder(file[0] if file else name, "cpu", threads=1)))
    rankings: dict[str, Ranking] = {
        "random, of similar length": at_random(task),
        "MMseqs2": by_sequence(task),
    }
    for model in models:
        rankings[f"`{model.name}`, descriptors"] = model.by_descriptor
        rankings[f"`{model.name}`, search"] = model.by_search
    rankings[f"`{models[0].name}`, every chain aligned"] = models[0].by_alignment
    lines = _head(task)
    lines += ["", f"## In the whole corpus, {len(pool):,} chains", "", *_columns(folds=False)]
    lines += [judge.row(name, ranking, pool, folds=False) for name, ranking in rankings.items()]
    lines += _gains(judge, models, folds=False)
    lines += ["", f"## Among the {len(task.targets)} test chains, where TM-align ranked all", ""]
    lines += _columns(folds=True)
    rankings["TM-align"] = by_tm_align(task)
    lines += [judge.row(name, ranking, task.targets, folds=True) for name, ranking in rankings.items()]
    lines += _gains(judge, models, folds=True)
    lines += ["", "## Index", ""]
    lines += [
        f"| model | recall of {CANDIDATES} candidates | recall of {HITS} hits, every chain aligned | "
        "ms a query, median | slowest | MiB | TM-score over TM-align's, median | largest |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in models[:1]:
        numbers: list[Any] = [f"{share:.4f}" for share in _recalls(model, pool)]
        numbers += [f"{1e3 * seconds:.0f}" for seconds in _seconds(model)]
        size = sum(file.stat().st_size for file in model.index.path.iterdir())
        numbers += [f"{size / 2**20:.0f}", *(f"{ratio:.3f}" for ratio in _tm_beside(model, judge))]
        lines.append(f"| `{model.name}` | {' | '.join(numbers)} |")
    return lines


def _gains(judge: Judge, models: list[Model], *, folds: bool) -> list[str]:
    """Return what the first model's search has more than the last's, and than a sequence search."""
    name, last = f"`{models[0].name}`, search", f"`{models[-1].name}`, search"
    return [judge.gain(name, over, folds=folds) for over in dict.fromkeys(("MMseqs2", last)) if over != name]


def _head(task: Task) -> list[str]:
    return [
        "# What search finds",
        "",
        f"Written by `python benchmarks/search.py` ({processor()}, one thread). Queries are "
        f"{len(task.asked)} test chains of 40 residues and more, one of each 30% cluster that has others; no "
        "network saw their clusters in training. A query is never its own hit. Means over queries, with 95% "
        "intervals of resampling them.",
        "",
        "- *Family*: mean average precision for chains of the query's 30% cluster, and how often the first "
        "hit is one. The clusters were made by MMseqs2 itself, from sequences: it all but has the answers.",
        f"- *Fold*: mean average precision for chains of other clusters with TM-score {FOLD} or more by "
        "TM-align, normalised by the query. TM-align has the answers.",
        f"- *TM-score*: by TM-align, normalised by the query, mean of the first {K} hits, and of the first "
        f"{K} of other clusters.",
        "- *descriptors*: cosine of whitened mean and deviation of residues. *search*: what `protemb search` "
        f"does, the first {CANDIDATES} by descriptors ranked by alignment of residues. *every chain "
        "aligned*: without descriptors.",
        "",
        "Descriptor, whitening and the alignment's parameters were chosen on validation chains.",
    ]


def _columns(*, folds: bool) -> list[str]:
    fold = ["fold"] if folds else []
    names = ["ranking", "family", "first is family", *fold, "TM-score", "TM-score, other clusters"]
    return [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]


if __name__ == "__main__":
    typer.run(main)
