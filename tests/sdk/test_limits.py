"""Limits on the residues, bytes and time of one input."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import tarfile
import threading
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import Embedder, EmbeddingError, QualityScorer, StructureError, read_chain, read_chains
from protemb_sdk._model.onnx_file import has_external_data
from protemb_sdk._structure.files import _unzipped

from .conftest import walk


def test_long_chains_are_refused_before_the_network_runs(structures: Path) -> None:
    embedder = Embedder("small", "cpu", residue_limit=64)
    assert len(embedder.embed(structures / "1orc.pdb")) == 64
    with pytest.raises(StructureError, match=r"1a8o_A: has 70 residues, more than residue_limit=64; set it"):
        embedder.embed(structures / "1a8o.cif")
    with pytest.raises(StructureError, match="residue_limit"):
        embedder.denoising_gradient(walk(65), sigma=1.0)
    run = embedder.embed_many([structures / "1a8o.cif", structures / "1orc.pdb"], on_error="skip")
    assert [e.id for e in run] == ["1orc_A"] and "residue_limit=64" in run.skipped[0].reason
    start = time.perf_counter()
    with pytest.raises(StructureError, match="has 100000 residues, more than residue_limit=10000"):
        Embedder("small", "cpu").embed(walk(100_000))
    assert time.perf_counter() - start < 20


def test_decompression_bombs_are_refused_with_little_memory(tmp_path: Path) -> None:
    bomb = gzip.compress(b"ATOM".ljust(2**20) * 64, 9)
    (tmp_path / "bomb.pdb.gz").write_bytes(bomb)
    (tmp_path / "large.pdb").write_bytes(b"ATOM".ljust(2**21))
    tracemalloc.start()
    for x in (tmp_path / "bomb.pdb.gz", bomb, io.BytesIO(bomb), tmp_path / "large.pdb"):
        with pytest.raises(StructureError, match="holds more than byte_limit=1048576 bytes, unzipped"):
            read_chains(x, byte_limit=2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20


def test_other_members_of_an_archive_with_a_too_large_file_are_read(tmp_path: Path, structures: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        large = tarfile.TarInfo("large.pdb")
        large.size = 2**21
        archive.addfile(large, io.BytesIO(bytes(2**21)))
        archive.add(structures / "1orc.pdb", "1orc.pdb")
    run = Embedder("small", "cpu", byte_limit=2**20).embed_many(tmp_path / "a.tar", on_error="skip")
    assert [e.id for e in run] == ["1orc_A"] and "byte_limit=1048576" in run.skipped[0].reason


def test_an_endless_device_is_refused() -> None:
    with pytest.raises(StructureError, match="/dev/zero: holds more than byte_limit"):
        read_chains("/dev/zero", byte_limit=2**20)


def test_a_pipe_is_read(tmp_path: Path, structures: Path) -> None:
    os.mkfifo(tmp_path / "1orc.pdb")
    content = (structures / "1orc.pdb").read_bytes()
    writer = threading.Thread(target=(tmp_path / "1orc.pdb").write_bytes, args=(content,))
    writer.start()
    (chain,) = read_chains(tmp_path / "1orc.pdb").chains
    writer.join()
    assert len(chain) == 64


def test_the_time_limit_stops_the_network(random_walk: object) -> None:
    embedder = Embedder("base", "cpu", threads=1, time_limit=1)
    start = time.perf_counter()
    with pytest.raises(EmbeddingError, match="array: was not done within time_limit; set it higher"):
        embedder.embed(walk(2000))  # takes about 6 s
    assert time.perf_counter() - start < 4
    assert embedder.embed(walk(30)).protein.shape == (128,)  # the embedder still works
    with pytest.raises(EmbeddingError, match="time_limit"):
        embedder.denoising_gradient(walk(2000), sigma=1.0)
    np.testing.assert_array_equal(
        embedder.embed(walk(40)).residue, Embedder("base", "cpu", threads=1).embed(walk(40)).residue
    )


def test_waiting_for_other_threads_does_not_count_towards_the_limit(random_walk: object) -> None:
    chain = read_chain(walk(300))
    free = Embedder("small", "cpu", threads=1)
    free.embed(chain)
    start = time.perf_counter()
    free.embed(chain)
    once = time.perf_counter() - start
    embedder = Embedder("small", "cpu", threads=1, time_limit=max(4 * once, 0.5))
    count = int(3 * max(4 * once, 0.5) / once)  # together three times the limit of one input
    with ThreadPoolExecutor(count) as pool:
        assert len(list(pool.map(embedder.embed, [chain] * count))) == count


def test_heads_respect_the_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = QualityScorer(device="cpu", threads=1, time_limit=30)
    assert scorer.score(walk(40)).lddt > 0
    monkeypatch.setattr(scorer.embedder, "limits", scorer.embedder.limits._replace(seconds=1e-9))
    embedding = Embedder("base", "cpu", threads=1).embed(walk(400), **scorer.info.asked)
    with pytest.raises(EmbeddingError, match="array: was not done within time_limit"):
        scorer.predict_embedding(embedding)


@pytest.mark.parametrize(
    "wrong",
    [
        {"residue_limit": 0},
        {"byte_limit": 1.5},
        {"time_limit": 0},
        {"time_limit": float("nan")},
        {"time_limit": float("inf")},
    ],
)
def test_invalid_limits_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(EmbeddingError, match=next(iter(wrong))):
        Embedder("small", "cpu", **wrong)  # type: ignore[arg-type]


def test_workers_have_the_same_limits(structures: Path) -> None:
    embedder = Embedder("small", "cpu", residue_limit=64, byte_limit=2**20, time_limit=60)
    arguments = embedder.worker_arguments(2)
    assert Embedder(**arguments).limits == embedder.limits
    with pytest.raises(EmbeddingError, match="workers must be a whole number, at least 1, not 0"):
        embedder.worker_arguments(0)


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.binary(max_size=400).map(lambda part: part * 300), max_size=5),
    padding=st.integers(0, 3),
)
def test_gzip_streams_of_several_members_are_decompressed(parts: list[bytes], padding: int) -> None:
    stream = b"".join(gzip.compress(part) + bytes(padding) for part in parts)
    whole = b"".join(parts)
    assert _unzipped(stream, "x", len(whole)) == whole == gzip.decompress(stream)
    if whole:
        with pytest.raises(StructureError, match="byte_limit"):
            _unzipped(stream, "x", len(whole) - 1)


def test_many_empty_gzip_members_do_not_take_quadratic_time() -> None:
    start = time.perf_counter()
    assert _unzipped(gzip.compress(b"") * 100_000, "x", 10) == b""
    assert time.perf_counter() - start < 5


# --- models ---------------------------------------------------------------------------------------


def test_bundled_models_have_no_external_data() -> None:
    from protemb_sdk._model.models import BUNDLED

    for path in BUNDLED.glob("*.onnx"):
        assert not has_external_data(path.read_bytes())


@pytest.mark.parametrize("inside", ["initializer", "constant", "branch"])
def test_tensors_in_other_files_are_refused(tmp_path: Path, inside: str) -> None:
    onnx = pytest.importorskip("onnx")
    from protemb_sdk import ModelError

    helper, kind = onnx.helper, onnx.TensorProto
    (tmp_path / "secret").write_bytes(bytes(16))
    tensor = helper.make_tensor("t", kind.FLOAT, [4], [0.0] * 4)
    tensor.ClearField("float_data")
    tensor.data_location = kind.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "secret"
    value = helper.make_tensor_value_info("y", kind.FLOAT, [4])
    nodes, tensors = [helper.make_node("Identity", ["t"], ["y"])], [tensor]
    if inside != "initializer":
        nodes, tensors = [helper.make_node("Constant", [], ["y"], value=tensor)], []
    if inside == "branch":
        branch = helper.make_graph(nodes, "branch", [], [value])
        truth = helper.make_tensor("c", kind.BOOL, [], [True])
        nodes = [helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)]
        tensors = [truth]
    model = helper.make_model(helper.make_graph(nodes, "g", [], [value], tensors))
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"model\.onnx: keeps tensors in other files, which is not read"):
        Embedder(tmp_path / "model.onnx", "cpu")


@settings(max_examples=300, deadline=None)
@given(content=st.binary(max_size=300))
def test_any_bytes_are_checked_for_external_data_or_refused(content: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert has_external_data(content) in (True, False)
