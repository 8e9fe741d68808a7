"""An Embedder is pickled and copied by its arguments."""

from __future__ import annotations

import copy
import pickle
import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import Embedder, EmbeddingError

OPTIONS = {
    "threads": 1, "model_number": 2, "altloc": "A", "min_residues": 5, "memory_limit": 2**28,
    "residue_limit": 999, "byte_limit": 2**24, "time_limit": 60.0,
}  # fmt: skip


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickled_embedder_is_equal(protocol: int, structures: Path) -> None:
    first = Embedder("small", "cpu", **OPTIONS)  # type: ignore[arg-type]
    other = pickle.loads(pickle.dumps(first, protocol=protocol))
    assert repr(other) == repr(first) and other.provenance == first.provenance
    assert other.limits == first.limits and other.worker_arguments(1) == first.worker_arguments(1)
    x = structures / "1lcd.cif.gz"
    np.testing.assert_array_equal(other.embed(x).residue, first.embed(x).residue)


def test_copies_have_their_own_session(structures: Path) -> None:
    first = Embedder("small", "cpu", threads=1)
    for other in (copy.copy(first), copy.deepcopy(first), copy.deepcopy({"x": [first]})["x"][0]):
        assert other is not first
        np.testing.assert_array_equal(
            other.embed(structures / "1orc.pdb").protein, first.embed(structures / "1orc.pdb").protein
        )


def test_a_model_given_by_path_is_found_from_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(Embedder("small", "cpu").model.path, tmp_path / "mine.onnx")
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Embedder("mine.onnx", "cpu", threads=1))
    monkeypatch.chdir("/")
    assert Path(pickle.loads(data).model.path) == tmp_path / "mine.onnx"


def test_pickling_keeps_the_subclass() -> None:
    assert type(pickle.loads(pickle.dumps(Mine("small", "cpu", threads=1)))) is Mine


class Mine(Embedder):
    """A subclass defined by a user."""


def test_other_processes_embed_with_a_pickled_embedder(structures: Path) -> None:
    first = Embedder("small", "cpu", threads=1)
    paths = [str(structures / "1orc.pdb"), str(structures / "1a8o.cif")]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        found = list(pool.map(first.embed, paths))
    for path, embedding in zip(paths, found, strict=True):
        np.testing.assert_array_equal(embedding.residue, first.embed(path).residue)


def test_joblib_embeds_with_a_pickled_embedder(structures: Path) -> None:
    joblib = pytest.importorskip("joblib")
    first = Embedder("small", "cpu", threads=1)
    paths = [str(structures / "1orc.pdb"), str(structures / "1a8o.cif")]
    try:
        found = joblib.Parallel(2)(joblib.delayed(first.embed)(path) for path in paths)
    finally:  # joblib keeps its workers for the next call, and other tests count processes
        joblib.externals.loky.get_reusable_executor().shutdown(wait=True)
    assert [e.id for e in found] == ["1orc_A", "1a8o_A"]


def test_scikit_learn_clones_a_transformer_with_an_embedder() -> None:
    base = pytest.importorskip("sklearn.base")
    interop = pytest.importorskip("protemb_train.interop")
    transformer = interop.EmbeddingTransformer(Embedder("small", "cpu", threads=1))
    assert repr(base.clone(transformer).model) == repr(transformer.model)


def test_pickling_session_options_gives_a_clear_error() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    embedder = Embedder("small", "cpu", session_options=onnxruntime.SessionOptions())
    for make in (pickle.dumps, copy.deepcopy):
        with pytest.raises(EmbeddingError, match="use threads="):
            make(embedder)
