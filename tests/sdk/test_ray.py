"""Ray engine with several processes: the rows of the local engine, each exactly once, also after a kill."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protemb_sdk import Embedder, EmbeddingError, OutputError, cli
from protemb_sdk._store.fill import StoreSummary, embed_into_store
from protemb_sdk._store.writer import open_store

from .test_pair_maps import maps_of
from .test_store import rows_of, skipped_of

ray = pytest.importorskip("ray", reason="needs Ray")
pytest.importorskip("ray.data", reason="needs Ray Data")

from protemb_sdk import ray as engine  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("default"),  # warnings of Ray itself
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs POSIX"),
]


@pytest.fixture(scope="module")
def one_thread() -> Embedder:
    return Embedder(device="cpu", threads=1)


def assert_same_rows(some: dict[str, dict[str, Any]], others: dict[str, dict[str, Any]]) -> None:
    assert some.keys() == others.keys()
    for name, row in some.items():
        for column in ("protein", "residue", "readout_contact"):
            np.testing.assert_allclose(row[column], others[name][column], atol=1e-5)
        for column in ("id", "sequence", "length", "auth_seq"):
            assert row[column] == others[name][column]


def test_both_engines_write_the_same_rows(
    cluster: None, one_thread: Embedder, structures: Path, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    empty = tmp_path / "empty"
    empty.mkdir()
    inputs = [structures, structures / "3jqh.bcif.gz", empty]
    local = embed_into_store(one_thread, inputs, here, readouts=["contact"])
    did = engine.embed_into_store(one_thread, inputs, there, actors=2, readouts=["contact"])
    assert did == local and did.failed == 1 and did.chains == 18
    assert_same_rows(rows_of(there), rows_of(here))
    assert skipped_of(there) == skipped_of(here)
    # Each engine continues the store of the other; the empty folder is tried again.
    again = StoreSummary(inputs=1, failed=1, before=13)
    assert engine.embed_into_store(one_thread, inputs, here, readouts=["contact"]) == again
    assert embed_into_store(one_thread, inputs, there, readouts=["contact"]) == again


def test_pair_embeddings_are_written_into_a_store(
    cluster: None, one_thread: Embedder, structures: Path, tmp_path: Path
) -> None:
    files = [structures / "1orc.pdb", structures / "1a8o.cif"]
    engine.embed_into_store(one_thread, files, tmp_path / "store", levels=("protein", "residue", "pair"))
    maps = maps_of(tmp_path / "store")
    for embedding in one_thread.embed_many(files, pair=True):
        name = Path(embedding.chain.source).name
        np.testing.assert_allclose(maps[f"{name}:{embedding.chain_id}"], embedding.pair, atol=1e-5)
    with pytest.raises(EmbeddingError, match="pair embeddings go into a store"):
        engine.embed(None, one_thread, levels=("protein", "residue", "pair"))


def test_a_dataset_of_files_becomes_a_dataset_of_rows(
    cluster: None, one_thread: Embedder, structures: Path, tmp_path: Path
) -> None:
    files = ray.data.read_binary_files(str(structures), include_paths=True)
    rows = {
        f"{Path(row['source']).name}:{row['chain']}": row
        for row in engine.embed(files, one_thread, readouts=["contact"]).take_all()
    }
    errors = {name: row["error"] for name, row in rows.items() if row["error"] is not None}
    assert sorted(errors) == ["README.md:"]
    embed_into_store(one_thread, structures, tmp_path / "store", readouts=["contact"])
    assert_same_rows(
        {name: row for name, row in rows.items() if name not in errors}, rows_of(tmp_path / "store")
    )


def test_reading_from_and_writing_to_an_object_store(
    cluster: None, one_thread: Embedder, structures: Path
) -> None:
    from pyarrow import fs, parquet

    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", port=0)
    s3fs = pytest.importorskip("s3fs")
    server.start()
    try:
        host, port = server.get_host_and_port()
        store = s3fs.S3FileSystem(
            key="key", secret="secret", client_kwargs={"endpoint_url": f"http://{host}:{port}"}
        )
        store.mkdir("bucket")
        for name in ("1orc.pdb", "3jqh.cif"):
            store.pipe(f"bucket/structures/{name}", (structures / name).read_bytes())
        filesystem = fs.PyFileSystem(fs.FSSpecHandler(store))
        files = ray.data.read_binary_files("bucket/structures", filesystem=filesystem, include_paths=True)
        engine.embed(files, one_thread).write_parquet("bucket/embeddings", filesystem=filesystem)
        rows = parquet.read_table("bucket/embeddings", filesystem=filesystem).to_pylist()
    finally:
        server.stop()
    assert sorted(row["source"] for row in rows) == [
        f"bucket/structures/{name}" for name in ("1orc.pdb", "3jqh.cif")
    ]
    for row in rows:
        here = one_thread.embed(structures / Path(row["source"]).name, row["chain"])
        np.testing.assert_allclose(row["residue"], here.residue, atol=1e-5)


def test_the_command_runs_on_ray(
    cluster: None, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    line = ["embed", structures / "2beg.pdb.gz", "-o", store, "--engine", "ray", "--workers", 2, "--quiet"]
    monkeypatch.setattr(sys, "argv", ["protemb", *map(str, line)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 0
    assert sorted(rows_of(store)) == [f"2beg.pdb.gz:{chain}" for chain in "ABCDE"]


def test_invalid_inputs_are_refused(cluster: None, one_thread: Embedder, tmp_path: Path) -> None:
    chain = one_thread.read(([[0, 0, 3.8 * i] for i in range(5)], "AAAAA")).chains[0]
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddingError, match="on Ray inputs are files and folders, not Chain"):
        engine.embed_into_store(one_thread, [chain], tmp_path / "store")
    with pytest.raises(EmbeddingError, match="takes a Ray Dataset, not PosixPath; make one with"):
        engine.embed(tmp_path, one_thread)
    with pytest.raises(EmbeddingError, match="actors must be a whole number"):
        engine.embed_into_store(one_thread, [], tmp_path / "store", actors=0)
    with pytest.raises(OutputError, match="is a file, but a store is a folder"):
        engine.embed_into_store(one_thread, [], tmp_path / "file")


def test_a_repeated_task_writes_the_same_part(structures: Path, tmp_path: Path) -> None:
    """After the loss of a node, another actor repeats the task and may find the part of the first actor."""
    low = Embedder(device="cpu", threads=1, residue_limit=66)  # fewer than 1a8o has
    arguments = engine._arguments(low, 1)
    batch = {"path": np.array([str(structures / name) for name in ("1orc.pdb", "1a8o.pdb", "2beg.pdb.gz")])}
    for run in (1, 2):
        with open_store(tmp_path / "store", low.provenance, widths=low.widths) as store:
            before = store.before._replace(done=set())
            assert before.run == run
            for _ in range(2):
                actor = engine._Parts(arguments, str(tmp_path / "store"), dict(store.header), before)
                actor(batch if run == 1 else {"path": batch["path"][1:2]})
        assert len(rows_of(tmp_path / "store")) == 6
    assert [Path(row[0]).name for row in skipped_of(tmp_path / "store")] == ["1a8o.pdb"]


SLOW = """
import sys
import ray
import protemb_sdk.ray as engine
from protemb_sdk import Embedder
engine.INPUTS = 8
if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    engine.embed_into_store(Embedder(device="cpu", threads=1), sys.argv[1], sys.argv[2], actors=2)
"""


def many_files(structures: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "files"
    folder.mkdir()
    content = (structures / "1a8o.pdb").read_bytes()
    for number in range(400):
        (folder / f"{number:03}.pdb").write_bytes(content)
    return folder


def test_after_a_kill_every_row_is_written_exactly_once(structures: Path, tmp_path: Path) -> None:
    folder, store, script = many_files(structures, tmp_path), tmp_path / "store", tmp_path / "run.py"
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(folder), str(store)]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    while len(list(store.glob("*.parquet"))) < 3:
        assert run.poll() is None
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)  # including the processes of Ray
    run.wait()
    time.sleep(1)
    assert 0 < len(rows_of(store)) < 400
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL)
    assert sorted(rows_of(store)) == [f"{number:03}.pdb:A" for number in range(400)]


def test_an_actor_that_dies_is_replaced(structures: Path, tmp_path: Path) -> None:
    psutil = pytest.importorskip("psutil")
    script, store = tmp_path / "run.py", tmp_path / "store"
    script.write_text(SLOW)
    run = subprocess.Popen(
        [sys.executable, str(script), str(many_files(structures, tmp_path)), str(store)],
        start_new_session=True,
        stderr=subprocess.DEVNULL,
    )
    while len(list(store.glob("*.parquet"))) < 3:
        assert run.poll() is None
        time.sleep(0.01)
    processes = psutil.process_iter(["name", "cmdline"])
    actors = [p for p in processes if any("MapWorker" in word for word in p.info["cmdline"] or [])]
    assert actors
    actors[0].kill()  # as when memory runs out
    assert run.wait(200) == 0
    assert sorted(rows_of(store)) == [f"{number:03}.pdb:A" for number in range(400)]
