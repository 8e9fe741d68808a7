"""A store has the rows of single embeddings, each exactly once, also after interruptions; clear errors."""

from __future__ import annotations

import csv
import inspect
import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from protemb_sdk import Embedder, EmbeddingError, OutputError
from protemb_sdk._store import writer as module
from protemb_sdk._store.fill import StoreSummary, embed_into_store

READOUTS = ["contact"]


def rows_of(store: Path) -> dict[str, dict[str, Any]]:
    """Return the rows of a store by source and chain; each must occur exactly once."""
    rows = [row for part in sorted(store.glob("*.parquet")) for row in pq.read_table(part).to_pylist()]
    found = {f"{Path(row['source']).name}:{row['chain']}": row for row in rows}
    assert len(found) == len(rows)
    return found


def skipped_of(store: Path) -> list[list[str]]:
    with (store / module.SKIPPED).open(newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, structures: Path) -> Path:
    """Return a folder with valid files in subfolders, a damaged file and a file that is not a structure."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "deep" / "er").mkdir(parents=True)
    for name, home in (("1orc.pdb", "."), ("2beg.pdb.gz", "deep"), ("1a8o.cif", "deep/er")):
        (folder / home / name).write_bytes((structures / name).read_bytes())
    (folder / "poison.cif").write_bytes(b"data_x\nloop_\n_atom_site.id\n1 2 3\n")
    (folder / "notes.txt").write_text("not a structure")
    return folder


@pytest.fixture(scope="module")
def filled(
    files: Path, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, StoreSummary]:
    store = tmp_path_factory.mktemp("stores") / "store"
    return store, embed_into_store(embedder, files, store, readouts=READOUTS)


def test_rows_equal_single_embeddings(
    filled: tuple[Path, StoreSummary], files: Path, embedder: Embedder
) -> None:
    store, did = filled
    rows = rows_of(store)
    run = embedder.embed_many(files, readouts=READOUTS, on_error="skip")
    alone = {f"{Path(e.chain.source).name}:{e.chain_id}": e for e in run}
    assert rows.keys() == alone.keys() and len(rows) == 7
    for name, row in rows.items():
        one = alone[name]
        assert (row["id"], row["sequence"], row["length"]) == (one.id, one.sequence, len(one))
        np.testing.assert_array_equal(np.float32(row["protein"]), one.protein)
        np.testing.assert_array_equal(np.float32(row["residue"]), one.residue)
        np.testing.assert_array_equal(np.float32(row["readout_contact"]), one.readouts["contact"])
        np.testing.assert_array_equal(np.float32(row["ca_coords"]), np.float32(one.chain.ca_coords))
        for column in ("auth_seq", "residue_index", "label_seq"):
            np.testing.assert_array_equal(row[column], getattr(one, column))
        assert row["insertion_code"] == one.insertion_code.tolist()
        assert row["residue_name"] == one.residue_name.tolist()
    assert did == StoreSummary(inputs=4, chains=7, failed=1, before=0)
    header = json.loads((store / module.HEADER).read_text())
    assert header["provenance"]["model_sha256"] == embedder.provenance["model_sha256"]


def test_a_damaged_file_is_listed_as_skipped(filled: tuple[Path, StoreSummary], files: Path) -> None:
    ((source, chain, reason),) = skipped_of(filled[0])
    assert (
        source == str(files / "poison.cif")
        and chain == ""
        and "lacks the column _atom_site.Cartn_x" in reason
    )


def test_a_second_run_embeds_only_missing_inputs(files: Path, embedder: Embedder, tmp_path: Path) -> None:
    store, some = tmp_path / "store", [files / "1orc.pdb", files / "poison.cif"]
    assert embed_into_store(embedder, some, store) == StoreSummary(inputs=2, chains=1, failed=1)
    parts = sorted(store.glob("*.parquet"))
    relative = os.path.relpath(files)  # another spelling of the same folder
    assert embed_into_store(embedder, relative, store) == StoreSummary(inputs=2, chains=6, before=2)
    assert embed_into_store(embedder, files, store) == StoreSummary(before=4)
    assert len(rows_of(store)) == 7 and len(skipped_of(store)) == 1
    twice = embed_into_store(embedder, [files, relative], tmp_path / "twice")
    assert (
        twice == StoreSummary(inputs=4, chains=7, failed=1, before=4)
        and len(rows_of(tmp_path / "twice")) == 7
    )
    assert set(parts) < set(store.glob("*.parquet"))


@pytest.mark.parametrize("ending", ["tar", "tar.gz", "tgz"])
def test_archives_are_read_as_streams(
    files: Path, embedder: Embedder, filled: tuple[Path, StoreSummary], tmp_path: Path, ending: str
) -> None:
    archive = tmp_path / f"all.{ending}"
    with tarfile.open(archive, "w:" if ending == "tar" else "w:gz") as tar:
        tar.add(files, "inside")
        link = tarfile.TarInfo("../../outside.pdb")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    store = tmp_path / "store"
    did = embed_into_store(embedder, archive, store, workers=2)
    assert did == StoreSummary(inputs=4, chains=7, failed=1)
    rows, expected = rows_of(store), rows_of(filled[0])
    assert rows.keys() == expected.keys()
    for name, row in rows.items():
        np.testing.assert_array_equal(row["residue"], expected[name]["residue"])
        assert row["source"].startswith(f"{archive}/inside/")
    assert embed_into_store(embedder, archive, store) == StoreSummary(before=4)
    # Of a truncated archive, the members before the damage are embedded, and the archive is reported.
    whole = archive.read_bytes()
    archive.write_bytes(whole[: int(len(whole) * 0.6)])
    cut = embed_into_store(embedder, archive, tmp_path / "cut")
    assert cut.failed >= 1 and 0 < cut.chains < 7
    (reason,) = (why for source, _, why in skipped_of(tmp_path / "cut") if source == str(archive))
    assert "is it whole?" in reason


SLOW = """
import sys
import protemb_sdk._store.writer as store
from protemb_sdk import Embedder
from protemb_sdk._store.fill import embed_into_store
store.PART_CHAINS = 3
if __name__ == "__main__":
    embedder = Embedder(device="cpu", threads=2)
    embed_into_store(embedder, sys.argv[1], sys.argv[2], workers=int(sys.argv[3]), levels=["protein"])
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("workers", [1, 2])
def test_after_a_kill_every_row_is_written_exactly_once(
    structures: Path, tmp_path: Path, workers: int
) -> None:
    folder, store, script = tmp_path / "files", tmp_path / "store", tmp_path / "run.py"
    folder.mkdir()
    content = (structures / "1a8o.pdb").read_bytes()
    for number in range(300):
        (folder / f"{number:03}.pdb").write_bytes(content)
    script.write_text(SLOW)
    command = [sys.executable, str(script), str(folder), str(store), str(workers)]
    run = subprocess.Popen(command, start_new_session=True, stderr=subprocess.PIPE)
    while len(list(store.glob("*.parquet"))) < 3:
        assert run.poll() is None, run.stderr.read() if run.stderr else ""
        time.sleep(0.01)
    os.killpg(run.pid, signal.SIGKILL)
    run.communicate()
    before = len(rows_of(store))
    assert 0 < before < 300
    subprocess.run(command, check=True)
    assert sorted(rows_of(store)) == [f"{number:03}.pdb:A" for number in range(300)]


def test_a_run_with_other_settings_is_refused(
    filled: tuple[Path, StoreSummary], files: Path, embedder: Embedder, tmp_path: Path
) -> None:
    store, _ = filled
    before = sorted((path.name, path.read_bytes()) for path in store.iterdir())
    other = Embedder("small", device="cpu")
    first = Embedder(device="cpu", altloc="first")
    for who, wanted, output in (
        (other, {}, "a store with model 'base', and this run has 'small'; nothing was changed"),
        (first, {}, "a store with options"),
        (embedder, {"dtype": "float16"}, "a store with dtype 'float32'"),
        (embedder, {"levels": ["protein"], "readouts": []}, "a store with levels"),
        (embedder, {"readouts": ["max"]}, "a store with readouts"),
    ):
        with pytest.raises(OutputError, match=output):
            embed_into_store(who, files, store, **{"readouts": READOUTS, **wanted})  # type: ignore[arg-type]
    header = json.loads((store / module.HEADER).read_text())
    older = header | {"format": "protemb-store-0"}
    for damage, output in ((older, "format 'protemb-store-0'"), ([], "cannot be read")):
        old = tmp_path / output[:6].strip()
        old.mkdir()
        (old / module.HEADER).write_text(json.dumps(damage))
        with pytest.raises(OutputError, match=output):
            embed_into_store(embedder, files, old, readouts=READOUTS)
    assert sorted((path.name, path.read_bytes()) for path in store.iterdir()) == before


def test_folders_that_are_not_a_store_are_refused(files: Path, embedder: Embedder, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="is not a store, and not empty"):
        embed_into_store(embedder, files, files)
    with pytest.raises(OutputError, match="is a file, but a store is a folder"):
        embed_into_store(embedder, files, files / "notes.txt")
    with pytest.raises(OutputError, match="cannot be made"):
        embed_into_store(embedder, files, tmp_path / "no" / "where")
    with pytest.raises(EmbeddingError, match=r"input 1 \(bytes\) has no name"):
        embed_into_store(embedder, [b"ATOM"], tmp_path / "nameless")


def test_a_damaged_part_is_named_in_the_error(files: Path, embedder: Embedder, tmp_path: Path) -> None:
    store = tmp_path / "store"
    embed_into_store(embedder, files / "1orc.pdb", store)
    (part,) = store.glob("*.parquet")
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(
        OutputError, match=r"part-\w+\.parquet: is not a complete part of a store .* move it away"
    ):
        embed_into_store(embedder, files, store)
    part.unlink()
    assert embed_into_store(embedder, files, store).chains == 7


def test_a_second_writer_is_refused(files: Path, embedder: Embedder, tmp_path: Path) -> None:
    pytest.importorskip("fcntl", reason="locks are POSIX's")
    with (
        module.open_store(tmp_path / "store", embedder.provenance, widths=embedder.widths),
        pytest.raises(OutputError, match="another run is writing into this store"),
    ):
        embed_into_store(embedder, files, tmp_path / "store")
    assert embed_into_store(embedder, files, tmp_path / "store").chains == 7


FULL = """
import resource, signal, sys
from protemb_sdk import Embedder, OutputError
from protemb_sdk._store.fill import embed_into_store
embedder = Embedder(device="cpu", threads=1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))  # as a disk that is full: writes fail
try:
    embed_into_store(embedder, sys.argv[1], sys.argv[2])
except OutputError as error:
    print(error)
"""


def test_a_full_disk_keeps_the_old_rows_and_leaves_no_new_files(
    files: Path, embedder: Embedder, tmp_path: Path
) -> None:
    pytest.importorskip("resource", reason="limits are POSIX's")
    store = tmp_path / "store"
    embed_into_store(embedder, files / "1orc.pdb", store)
    before = {path.name: path.read_bytes() for path in store.glob("*.parquet")}
    run = subprocess.run(
        [sys.executable, "-c", FULL, str(files), str(store)], check=True, capture_output=True, text=True
    )
    assert "cannot be written" in run.stdout and str(store) in run.stdout
    assert {path.name: path.read_bytes() for path in store.glob("*.parquet")} == before
    assert not [name for name in os.listdir(store) if name.startswith(".")]
    assert embed_into_store(embedder, files, store).chains == 6


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_store_opens_in_pandas_polars_and_duckdb(
    files: Path, embedder: Embedder, tmp_path: Path, dtype: str
) -> None:
    store = tmp_path / "store"
    embed_into_store(embedder, files, store, dtype=dtype)
    table = pa.concat_tables([pq.read_table(part) for part in store.glob("*.parquet")])
    kind = {"float32": "float", "float16": "halffloat"}[dtype]
    assert str(table.schema.field("protein").type.value_type) == kind
    pandas = pytest.importorskip("pandas")
    frame = pandas.read_parquet(store)
    assert len(frame) == 7 and frame.protein[0].dtype == dtype
    assert np.stack(frame.residue[0]).shape == (frame.length[0], 395)
    polars = pytest.importorskip("polars")
    assert polars.read_parquet(store / "*.parquet").height == 7
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql(f"select max(length), min(len(protein)) from '{store}/*.parquet'").fetchall()
    assert found == [(70, 128)]
    exact = rows_of(store)["1a8o.cif:A"]["protein"]
    np.testing.assert_allclose(exact, embedder.embed(files / "deep" / "er" / "1a8o.cif").protein, rtol=1e-3)


def test_a_part_is_written_after_a_time_limit(
    files: Path, embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_SECONDS", 0.0)
    embed_into_store(embedder, files, tmp_path / "store")
    assert len(list((tmp_path / "store").glob("*.parquet"))) == 4  # one per input
    assert len(rows_of(tmp_path / "store")) == 7


def test_a_part_without_rows_has_the_schema_of_the_others(
    files: Path, embedder: Embedder, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    for level in (["protein"], ["protein", "residue"]):
        path = store / level[-1]
        path.parent.mkdir(exist_ok=True)
        embed_into_store(
            embedder, files / "poison.cif", path, levels=level, readouts=["max"] * len(level[1:])
        )
        embed_into_store(embedder, files / "1orc.pdb", path, levels=level, readouts=["max"] * len(level[1:]))
        first, second = (pq.read_schema(part) for part in path.glob("*.parquet"))
        assert first.equals(second)
        assert len(pytest.importorskip("pandas").read_parquet(path)) == 1
        assert len(pytest.importorskip("polars").read_parquet(path / "*.parquet")) == 1


@pytest.mark.parametrize(
    ("limits", "parts"),
    [
        ({}, [5]),  # one part at the end
        ({"PART_CHAINS": 2}, [2, 2, 1]), ({"PART_CHAINS": 3}, [3, 2]), ({"PART_CHAINS": 5}, [5]),
        ({"PART_RESIDUES": 128}, [2, 2, 1]), ({"PART_RESIDUES": 129}, [3, 2]), ({"PART_RESIDUES": 320}, [5]),
        ({"PART_RESIDUES": 65}, [2, 2, 1]), ({"PART_RESIDUES": 128, "PART_CHAINS": 3}, [2, 2, 1]),
    ],
)  # fmt: skip
def test_parts_are_written_at_their_size_limits(
    embedder: Embedder, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    limits: dict[str, int], parts: list[int],
) -> None:  # fmt: skip
    for name, value in limits.items():
        monkeypatch.setattr(module, name, value)
    files = tmp_path / "files"
    files.mkdir()
    for number in range(5):  # of 64 residues each
        (files / f"{number}.pdb").write_bytes((structures / "1orc.pdb").read_bytes())
    embed_into_store(embedder, files, tmp_path / "store", levels=["protein"])
    written = sorted((tmp_path / "store").glob("*.parquet"), key=lambda part: part.stat().st_mtime_ns)
    assert [pq.read_metadata(part).num_rows for part in written] == parts
    assert all(re.fullmatch(r"part-[0-9a-f]{32}\.parquet", part.name) for part in written)


def test_inputs_without_chains_are_written_into_parts(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_CHAINS", 2)
    bad = tmp_path / "bad"
    bad.mkdir()
    for number in range(16):
        (bad / f"{number:02}.pdb").write_text("wrong")
    embed_into_store(embedder, bad, tmp_path / "store")
    parts = sorted(tmp_path.glob("store/*.parquet"), key=lambda part: part.stat().st_mtime_ns)
    done = [json.loads(pq.read_metadata(part).metadata[b"protemb"])["done"] for part in parts]
    assert [len(some) for some in done] == [8, 8]


def test_files_of_a_killed_run_are_deleted(files: Path, embedder: Embedder, tmp_path: Path) -> None:
    store = tmp_path / "store"
    embed_into_store(embedder, files / "1orc.pdb", store)
    left = store / ".part-0123.parquet.abcd"
    left.mkdir()
    (left / "part-0123.parquet").write_bytes(b"PAR1")
    (store / ".part-of-somebody-else").touch()  # not of protemb; must not cause an error
    embed_into_store(embedder, files / "1orc.pdb", store)
    assert not left.exists() and len(rows_of(store)) == 1


def test_the_default_is_one_process_without_output(
    files: Path, embedder: Embedder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    defaults = {name: p.default for name, p in inspect.signature(embed_into_store).parameters.items()}
    assert defaults["workers"] == defaults["batch"] == 1 and not defaults["progress"]
    embed_into_store(embedder, files, tmp_path / "store")
    assert capfd.readouterr() == ("", "")
    with pytest.raises(TypeError):
        embed_into_store(embedder, files, tmp_path / "store", 2)  # type: ignore[misc]
    (tmp_path / "other").mkdir()
    for name in ("z.txt", "only.txt", "zz.txt"):
        (tmp_path / "other" / name).touch()
    with pytest.raises(OutputError, match=r"is not a store, and not empty \(only\.txt\)"):
        embed_into_store(embedder, files, tmp_path / "other")
    header = (tmp_path / "store" / module.HEADER).read_text()
    assert header.startswith('{\n "format"') and header.endswith("}\n")
    assert json.loads(header)["channels"] == 64 and json.loads(header)["widths"]["residue"] == 395


def test_progress_gives_the_total_if_it_is_known(files: Path, embedder: Embedder, tmp_path: Path) -> None:
    inputs = [files / "1orc.pdb", files / "deep" / "2beg.pdb.gz", files / "1orc.pdb"]
    for name, some, known in (("list", inputs, 2), ("stream", iter(inputs), None)):
        calls: list[tuple[int, int | None]] = []
        embed_into_store(
            embedder, some, tmp_path / name, levels=["protein"],
            progress=lambda done, of, calls=calls: calls.append((done, of)),
        )  # fmt: skip
        assert calls[-1] == (2, known), name
