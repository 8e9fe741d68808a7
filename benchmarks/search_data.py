"""Data for `benchmarks/search.py`: a store of the corpus, and TM-align of its queries.

    python benchmarks/search_data.py store CORPUS.arrow -o STORE --model base
    python benchmarks/search_data.py align CORPUS.arrow -o TM.npz

Queries are test chains, which no network was trained on. TM-align of each with every test chain takes two
hours on one core; an interrupted run is continued.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from protemb_sdk import ALPHABET, Chain, Embedder, embed_into_store
from protemb_sdk._base.output import written_whole
from protemb_train.corpus.corpus import Corpus

SHORTEST = 40  # residues of a query
SEED = 0
SAVED = 60.0  # seconds between saving the alignments

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def chains(corpus: Corpus) -> list[Chain]:
    """Return the chains of a corpus as `Chain` objects of the SDK."""
    found = []
    for position in range(len(corpus)):
        trace = corpus[position]
        count = len(trace.residue_type)
        found.append(
            Chain(
                name=trace.id,
                chain_id="",
                label_chain="",
                ca_coords=trace.ca_coords.astype(np.float64),
                sequence="".join(ALPHABET[kind] for kind in trace.residue_type),
                residue_index=trace.residue_index,
                auth_seq=np.arange(1, count + 1, dtype=np.int32),
                insertion_code=np.full(count, ""),
                label_seq=np.full(count, -1, dtype=np.int32),
                residue_name=np.full(count, "UNK"),
            )
        )
    return found


def queries(corpus: Corpus, split: str = "test") -> list[int]:
    """Return indices of queries: one random chain of each cluster of a split with relatives in the corpus."""
    member = corpus.table["split"].to_numpy(zero_copy_only=False) == split
    sizes = dict(zip(*np.unique(corpus.clusters[member], return_counts=True), strict=True))
    rng = np.random.default_rng(SEED)
    found: dict[int, int] = {}
    for position in rng.permutation(np.flatnonzero(member & (corpus.lengths >= SHORTEST))):
        cluster = int(corpus.clusters[position])
        if sizes[cluster] > 1:
            found.setdefault(cluster, int(position))
    return list(found.values())


def tm_align(query: Chain, other: Chain) -> tuple[float, float]:
    """Return the TM-scores of two chains by TM-align, normalised by the first and by the second."""
    import tmtools

    found = tmtools.tm_align(query.ca_coords, other.ca_coords, query.sequence, other.sequence)
    return found.tm_norm_chain1, found.tm_norm_chain2


@app.command()
def store(
    corpus: Annotated[Path, typer.Argument(help="Corpus, by protemb-train corpus.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the store.")],
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
) -> None:
    """Embed every chain of a corpus into a store."""
    done = embed_into_store(Embedder(model, "cpu", threads=threads), chains(Corpus(corpus)), out)
    print(done)


@app.command()
def align(
    corpus: Annotated[Path, typer.Argument(help="Corpus, by protemb-train corpus.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="File of TM-scores, .npz.")],
    workers: Annotated[int, typer.Option(min=1, help="Number of processes.")] = 1,
) -> None:
    """Align each query with every test chain by TM-align."""
    every = Corpus(corpus)
    structures = chains(every)
    targets = np.flatnonzero(every.table["split"].to_numpy(zero_copy_only=False) == "test")
    asked = np.array(queries(every))
    tm = np.full((len(asked), len(targets), 2), np.nan, dtype=np.float32)
    if out.exists():
        kept = np.load(out)
        assert str(kept["corpus"]) == every.sha256 and (kept["queries"] == asked).all()
        tm = kept["tm"]
    todo = [(row, column) for row, column in zip(*np.nonzero(np.isnan(tm[:, :, 0])), strict=True)]
    pairs = ((structures[asked[row]], structures[targets[column]]) for row, column in todo)
    saved = time.monotonic()
    with multiprocessing.Pool(workers) as pool:
        for place, found in zip(todo, pool.imap(tm_align_pair, pairs, chunksize=16), strict=True):
            tm[place] = found
            if time.monotonic() - saved > SAVED:
                saved = time.monotonic()
                _save(out, every, asked, targets, tm)
                print(f"query {place[0] + 1} of {len(asked)}", flush=True)
    _save(out, every, asked, targets, tm)


def tm_align_pair(pair: tuple[Chain, Chain]) -> tuple[float, float]:
    """Return `tm_align` of a pair."""
    return tm_align(*pair)


def _save(
    out: Path,
    corpus: Corpus,
    asked: NDArray[np.int64],
    targets: NDArray[np.int64],
    tm: NDArray[np.float32],
) -> None:
    with written_whole(out) as part:
        np.savez(part, corpus=corpus.sha256, queries=asked, targets=targets, tm=tm)


if __name__ == "__main__":
    app()
