"""Pair embeddings in a store: equal to single embeddings, each exactly once, written completely."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from protemb_sdk import Embedder, OutputError
from protemb_sdk._store import writer as module
from protemb_sdk._store.fill import StoreSummary, embed_into_store
from protemb_sdk._store.pair_maps import pairs_of
from protemb_sdk.search import build_index


def maps_of(store: Path) -> dict[str, np.ndarray]:
    """Return the maps of a store by source and chain, read as the README says."""
    rows = pd.read_parquet(store)
    found = {}
    for row in rows.itertuples():
        with h5py.File(store / row.pair_file) as file:
            found[f"{Path(row.source).name}:{row.chain}"] = file[row.pair_name][:]
    assert len(found) == len(rows)
    return found


def hidden(store: Path) -> list[str]:
    return [name for name in os.listdir(store) if name.startswith(".")]


@pytest.fixture
def files(structures: Path) -> list[Path]:
    return [structures / name for name in ("1orc.pdb", "2beg.pdb.gz", "1a8o.cif")]


@pytest.mark.parametrize(("dtype", "workers"), [("float32", 1), ("float16", 1), ("float32", 2)])
def test_maps_equal_those_of_single_embeddings(
    files: list[Path], embedder: Embedder, tmp_path: Path, dtype: str, workers: int
) -> None:
    store = tmp_path / "store"
    did = embed_into_store(embedder, files, store, levels=module.LEVELS, dtype=dtype, workers=workers)
    assert did == StoreSummary(inputs=3, chains=7)
    maps = maps_of(store)
    for embedding in embedder.embed_many(files, pair=True):
        assert embedding.pair is not None
        kept = maps.pop(f"{Path(embedding.chain.source).name}:{embedding.chain_id}")
        assert kept.dtype == dtype
        np.testing.assert_allclose(kept, embedding.pair, rtol=0 if dtype == "float32" else 1e-3, atol=1e-5)
    assert not maps and not hidden(store)
    assert embed_into_store(embedder, files, store, levels=module.LEVELS, dtype=dtype) == StoreSummary(
        before=3
    )


# The map of the first file (64 residues, 64 channels, float32) just reaches the limit, or is just below it.
@pytest.mark.parametrize(
    ("size", "parts"), [(1, [1, 5, 1]), (64 * 64 * 64 * 4, [1, 6]), (64 * 64 * 64 * 4 + 1, [6, 1])]
)
def test_parts_end_when_their_maps_reach_the_size_limit(
    files: list[Path], embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int,
    parts: list[int],
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "PART_PAIRS", size)
    embed_into_store(embedder, files, tmp_path / "store", levels=module.LEVELS)
    written = sorted((tmp_path / "store").glob("*.parquet"), key=lambda part: part.stat().st_mtime_ns)
    assert [pq.read_metadata(part).num_rows for part in written] == parts
    assert len(list((tmp_path / "store").glob("_pairs*"))) == len(parts)
    assert len(maps_of(tmp_path / "store")) == 7
    build_index(tmp_path / "store", tmp_path / "index")  # does not need the maps


def test_maps_without_a_part_are_deleted_and_computed_again(
    files: list[Path], embedder: Embedder, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    embed_into_store(embedder, files[:1], store, levels=module.LEVELS)
    (part,) = store.glob("part-*")
    embed_into_store(embedder, files[1:2], store, levels=module.LEVELS)
    part.unlink()  # as if a run was killed between the two files of a part
    assert embed_into_store(embedder, files, store, levels=module.LEVELS).before == 1
    assert len(maps_of(store)) == 7 and not hidden(store)
    assert {pairs_of(part) for part in store.glob("part-*")} == set(store.glob("_pairs-*"))


FULL = """
import resource, signal, sys
from protemb_sdk import Embedder, OutputError
from protemb_sdk._store.fill import embed_into_store
import h5py, pyarrow.parquet
embedder = Embedder(device="cpu", threads=1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # as a disk that is full: writes fail
try:
    embed_into_store(embedder, sys.argv[2:], sys.argv[1], levels=("protein", "residue", "pair"))
except OutputError as error:
    print(error)
"""


def test_a_full_disk_leaves_no_maps(files: list[Path], embedder: Embedder, tmp_path: Path) -> None:
    pytest.importorskip("resource", reason="limits are POSIX's")
    store = tmp_path / "store"
    command = [sys.executable, "-c", FULL, str(store), *map(str, files)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "cannot be written" in run.stdout and str(store) in run.stdout, run.stderr
    assert not list(store.glob("part-*")) and not list(store.glob("_pairs*")) and not hidden(store)
    assert embed_into_store(embedder, files, store, levels=module.LEVELS).chains == 7


def test_other_levels_and_a_missing_library_are_refused(
    files: list[Path], embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embed_into_store(embedder, files[:1], tmp_path / "store")
    with pytest.raises(OutputError, match=r"a store with levels .*nothing was changed"):
        embed_into_store(embedder, files, tmp_path / "store", levels=module.LEVELS)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(OutputError, match=r"pip install '\.\[pairs\]'"):
        embed_into_store(embedder, files, tmp_path / "new", levels=module.LEVELS)
