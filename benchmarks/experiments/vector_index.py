"""Libraries for nearest neighbours on protein descriptors: recall, and time to search, build and open.

    python benchmarks/experiments/vector_index.py INDEX -o benchmarks/experiments/vector_index.md

INDEX is made by `protemb index`. The larger set has many copies of its vectors with added noise. One thread
is used.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.machine import processor

K = 200  # number of candidates for reranking
QUERIES = 300
# For graphs (HNSW): links per node, and width of the search when a node is added and in queries.
LINKS, BUILD, LOOK = 16, 128, 256

Vectors = NDArray[np.float32]
Find = Callable[[Vectors], NDArray[np.int64]]


def numpy_product(vectors: Vectors, path: Path) -> None:
    np.save(path, vectors)


def open_numpy(path: Path, width: int) -> Find:
    vectors = np.load(path, mmap_mode="r")

    def find(query: Vectors) -> NDArray[np.int64]:
        alike = vectors @ query
        best = np.argpartition(-alike, K)[:K]
        return np.asarray(best[np.argsort(-alike[best])])

    return find


def usearch(vectors: Vectors, path: Path, dtype: str = "f16") -> None:
    from usearch.index import Index

    index = Index(ndim=vectors.shape[1], metric="cos", dtype=dtype, connectivity=LINKS, expansion_add=BUILD)
    index.add(np.arange(len(vectors)), vectors, threads=1)
    index.save(str(path))


def open_usearch(path: Path, width: int, exact: bool = False) -> Find:
    from usearch.index import Index

    index = Index.restore(str(path), view=True)
    assert index is not None
    index.expansion_search = LOOK
    return lambda query: np.asarray(index.search(query, K, threads=1, exact=exact).keys, dtype=np.int64)


def hnswlib(vectors: Vectors, path: Path) -> None:
    import hnswlib as library

    index = library.Index(space="cosine", dim=vectors.shape[1])
    index.init_index(max_elements=len(vectors), ef_construction=BUILD, M=LINKS)
    index.add_items(vectors, num_threads=1)
    index.save_index(str(path))


def open_hnswlib(path: Path, width: int) -> Find:
    import hnswlib as library

    index = library.Index(space="cosine", dim=width)
    index.load_index(str(path))
    index.set_ef(LOOK)
    return lambda query: index.knn_query(query, k=K, num_threads=1)[0][0].astype(np.int64)


def faiss(vectors: Vectors, path: Path, kind: str) -> None:
    import faiss as library

    index = library.index_factory(vectors.shape[1], kind, library.METRIC_INNER_PRODUCT)
    if kind.startswith("HNSW"):
        index.hnsw.efConstruction = BUILD
    index.train(vectors)
    index.add(vectors)
    library.write_index(index, str(path))


def open_faiss(path: Path, width: int) -> Find:
    import faiss as library

    index = library.read_index(str(path), library.IO_FLAG_MMAP)
    if hasattr(index, "hnsw"):
        index.hnsw.efSearch = LOOK
    elif hasattr(index, "nprobe"):
        index.nprobe = max(1, index.nlist // 16)
    return lambda query: index.search(query[None], K)[1][0]


def voyager(vectors: Vectors, path: Path) -> None:
    import voyager as library

    index = library.Index(library.Space.Cosine, vectors.shape[1], M=LINKS, ef_construction=BUILD)
    index.add_items(vectors, num_threads=1)
    index.save(str(path))


def open_voyager(path: Path, width: int) -> Find:
    import voyager as library

    index = library.Index.load(str(path))
    return lambda query: index.query(query, K, query_ef=LOOK)[0].astype(np.int64)


KINDS: dict[str, tuple[str, Callable[[Vectors, Path], None], Callable[[Path, int], Find]]] = {
    "NumPy, exhaustive": ("numpy", numpy_product, open_numpy),
    "usearch, exhaustive, float16": (
        "usearch",
        usearch,
        lambda path, width: open_usearch(path, width, exact=True),
    ),
    "usearch, float16": ("usearch", usearch, open_usearch),
    "usearch, int8": ("usearch", lambda v, path: usearch(v, path, "i8"), open_usearch),
    "hnswlib": ("hnswlib", hnswlib, open_hnswlib),
    "FAISS HNSW": ("faiss", lambda v, path: faiss(v, path, f"HNSW{LINKS}"), open_faiss),
    "FAISS IVF": ("faiss", lambda v, path: faiss(v, path, f"IVF{int(len(v) ** 0.5)},Flat"), open_faiss),
    "voyager": ("voyager", voyager, open_voyager),
}


def import_seconds(module: str) -> float:
    """Return the import time in addition to NumPy's, in a new process; minimum of three."""
    code = f"import numpy, time; t = time.perf_counter(); import {module}; print(time.perf_counter() - t)"
    if module == "usearch":
        code = code.replace("import usearch", "import usearch.index")
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in "abc"
    ]
    return min(float(run.stdout) for run in runs)


def rows(vectors: Vectors, queries: Vectors, folder: Path) -> list[str]:
    """Return a row for each library; recall is relative to all products in float32."""
    wanted = [set(np.argsort(-(vectors @ query), kind="stable")[:K].tolist()) for query in queries]
    first = [set(np.argsort(-(vectors @ query), kind="stable")[:20].tolist()) for query in queries]
    lines = []
    for label, (module, build, opened) in KINDS.items():
        path = folder / label.replace(" ", "_")
        path = path.with_suffix(".npy") if module == "numpy" else path
        start = time.perf_counter()
        build(vectors, path)
        built = time.perf_counter() - start
        start = time.perf_counter()
        find = opened(path, vectors.shape[1])
        find(queries[0])
        ready = time.perf_counter() - start
        taken, found = [], []
        for query in queries:
            start = time.perf_counter()
            found.append(find(query).tolist())
            taken.append(time.perf_counter() - start)
        recall = np.mean([len(w & set(f)) / K for w, f in zip(wanted, found, strict=True)])
        recall20 = np.mean([len(w & set(f[:20])) / 20 for w, f in zip(first, found, strict=True)])
        lines.append(
            f"| {label} | {recall20:.4f} | {recall:.4f} | {1e3 * np.median(taken):.2f} | {1e3 * ready:.0f} | "
            f"{built:.1f} | {path.stat().st_size / 2**20:.0f} | {1e3 * import_seconds(module):.0f} |"
        )
        print(lines[-1], flush=True)
        path.unlink()
    return lines


def _descriptors(index: Path) -> Vectors:
    from protemb_sdk.search import open_index

    return open_index(index).descriptors


def main(
    index: Annotated[Path, typer.Argument(help="Folder made by protemb index, or an .npy file.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    copies: Annotated[int, typer.Option(help="Number of copies of each vector in the larger set.")] = 25,
) -> None:
    """Compare libraries on the descriptors of an index, and on a larger set of similar ones."""
    vectors: Any = np.load(index) if index.suffix == ".npy" else _descriptors(index)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rng: Any = np.random.default_rng(0)
    queries = vectors[rng.choice(len(vectors), QUERIES, replace=False)]
    many = np.concatenate(
        [v + rng.normal(scale=0.5 * v.std(), size=v.shape).astype(np.float32) for v in [vectors] * copies]
    )
    many /= np.linalg.norm(many, axis=1, keepdims=True)
    with threadpool_limits(1):
        page = _page(vectors, many, queries)
    out.write_text("\n".join(page) + "\n", encoding="utf-8")


def _page(vectors: Vectors, many: Vectors, queries: Vectors) -> list[str]:
    lines = [
        "# Libraries for nearest neighbours",
        "",
        f"By `python benchmarks/experiments/vector_index.py`: {processor()}, one thread, {QUERIES} queries; "
        f"medians, cosine in {vectors.shape[1]} dimensions; the nearest {K} of each query, for "
        f"reranking. Graphs with {LINKS} links, search width {BUILD} when adding, {LOOK} in queries. Recall "
        "is relative to all products in float32.",
        "",
        "The package uses usearch: exhaustive search or the graph from one memory-mapped file, in float16, "
        "and the smallest; recall and time of the graph are similar to those of the others.",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for name, held in (("chains", vectors), ("chains, many noisy copies of each", many)):
            lines += ["", f"## {len(held):,} {name}", ""]
            lines += [
                f"| library | recall of the first 20 | of all {K} | ms per query | "
                "ms to open and first query | s to build | MiB | ms to import |",
                "|---|---|---|---|---|---|---|---|",
            ]
            lines += rows(held, queries, Path(folder))
    return lines


if __name__ == "__main__":
    typer.run(main)
