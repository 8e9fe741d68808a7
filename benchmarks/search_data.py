"""A store of the test or validation chains of a corpus, for `benchmarks/search.py`.

    python benchmarks/search_data.py CORPUS.arrow -o STORE --model base

No network of this project was trained on these chains. Ten minutes on one core.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import typer

sys.path.insert(0, str(Path(__file__).parents[1]))

from protemb_sdk import ALPHABET, Chain, Embedder, embed_into_store
from protemb_train.corpus.corpus import Corpus

SHORTEST = 40  # residues of a query
SEED = 0

Split = Annotated[
    Literal["test", "val"], typer.Option(help="Chains of the corpus; val to choose settings of the search.")
]


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


def queries(corpus: Corpus) -> list[int]:
    """Return indices of queries: one random chain of each cluster with several chains."""
    sizes = dict(zip(*np.unique(corpus.clusters, return_counts=True), strict=True))
    rng = np.random.default_rng(SEED)
    found: dict[int, int] = {}
    for position in rng.permutation(np.flatnonzero(corpus.lengths >= SHORTEST)):
        cluster = int(corpus.clusters[position])
        if sizes[cluster] > 1:
            found.setdefault(cluster, int(position))
    return list(found.values())


def tm_align(query: Chain, other: Chain) -> tuple[float, float]:
    """Return the TM-scores of two chains by TM-align, normalised by the first and by the second."""
    import tmtools

    found = tmtools.tm_align(query.ca_coords, other.ca_coords, query.sequence, other.sequence)
    return found.tm_norm_chain1, found.tm_norm_chain2


def main(
    corpus: Annotated[Path, typer.Argument(help="Corpus, by protemb-train corpus.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the store.")],
    model: Annotated[str, typer.Option(help="Bundled model, or path of an .onnx file.")] = "base",
    threads: Annotated[int, typer.Option(min=1, help="Number of CPU threads.")] = 1,
    split: Split = "test",
) -> None:
    """Embed the test or validation chains of a corpus into a store."""
    found = chains(Corpus(corpus, [split]))
    print(embed_into_store(Embedder(model, "cpu", threads=threads), found, out))


def tm_align_pair(pair: tuple[Chain, Chain]) -> tuple[float, float]:
    """Return `tm_align` of a pair."""
    return tm_align(*pair)


if __name__ == "__main__":
    typer.run(main)
