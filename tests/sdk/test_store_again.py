"""A store that is continued: after an interrupt, with higher limits, from another folder."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pytest

from protemb_sdk import Embedder, EmbeddingError, read_chains
from protemb_sdk._base.signals import signals_wait
from protemb_sdk._store import fill
from protemb_sdk._store import writer as module
from protemb_sdk._store.fill import StoreSummary, embed_into_store
from protemb_sdk._store.pair_maps import PairMaps
from protemb_sdk._store.parts import FORMAT, Before, read_before
from protemb_sdk._store.verify import verify_store

from .test_store import rows_of, skipped_of


@pytest.fixture
def two_chains(structures: Path, tmp_path: Path) -> Path:
    """Return a file with a chain A of 70 residues and a chain B of 30."""
    whole = gemmi.read_structure(str(structures / "1a8o.pdb"))
    whole.remove_ligands_and_waters()
    short = whole[0]["A"].clone()
    short.name = "B"
    while len(short) > 30:
        del short[-1]
    whole[0].add_chain(short)
    whole.write_pdb(str(tmp_path / "two.pdb"))
    return tmp_path / "two.pdb"


def test_a_higher_limit_embeds_refused_chains_exactly_once(
    two_chains: Path, structures: Path, tmp_path: Path
) -> None:
    files, store = [two_chains, structures / "1orc.pdb"], tmp_path / "store"
    low = Embedder("small", "cpu", threads=1, residue_limit=50)
    assert embed_into_store(low, files, store) == StoreSummary(inputs=2, chains=1, failed=2)
    assert [row[1] for row in skipped_of(store)] == ["A", "A"]
    for _ in range(2):  # repeated runs duplicate nothing
        assert embed_into_store(low, files, store) == StoreSummary(inputs=2, chains=0, failed=2)
        assert sorted(rows_of(store)) == ["two.pdb:B"] and len(skipped_of(store)) == 2
    middle = Embedder("small", "cpu", threads=1, residue_limit=65)
    assert embed_into_store(middle, files, store) == StoreSummary(inputs=2, chains=1, failed=1)
    assert sorted(rows_of(store)) == ["1orc.pdb:A", "two.pdb:B"]
    assert [row[:2] for row in skipped_of(store)] == [[str(two_chains), "A"]]
    high = Embedder("small", "cpu", threads=1)
    assert embed_into_store(high, files, store) == StoreSummary(inputs=1, chains=1, before=1)
    assert sorted(rows_of(store)) == ["1orc.pdb:A", "two.pdb:A", "two.pdb:B"] and skipped_of(store) == []
    assert embed_into_store(high, files, store) == StoreSummary(before=2)


def test_a_missing_file_is_tried_again(embedder: Embedder, structures: Path, tmp_path: Path) -> None:
    path, store = tmp_path / "1orc.pdb", tmp_path / "store"
    assert embed_into_store(embedder, [path], store) == StoreSummary(inputs=1, failed=1)
    path.write_bytes((structures / "1orc.pdb").read_bytes())
    assert embed_into_store(embedder, [path], store) == StoreSummary(inputs=1, chains=1)
    assert skipped_of(store) == []


def test_chains_of_one_name_from_two_folders_are_distinct(
    embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    chains = []
    for folder, name in (("a", "1orc.pdb"), ("b", "1a8o.pdb")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.pdb").write_bytes((structures / name).read_bytes())
        chains += read_chains(tmp_path / folder / "model.pdb").chains
    assert {chain.id for chain in chains} == {"model_A"}
    assert embed_into_store(embedder, chains, tmp_path / "store") == StoreSummary(inputs=2, chains=2)
    assert embed_into_store(embedder, chains, tmp_path / "store") == StoreSummary(before=2)


def test_files_are_found_from_another_working_folder(
    embedder: Embedder, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "1orc.pdb").write_bytes((structures / "1orc.pdb").read_bytes())
    monkeypatch.chdir(tmp_path)
    embed_into_store(embedder, "in", "store")
    monkeypatch.chdir(tmp_path / "in")
    found = verify_store("../store")
    assert found.rows == 1 and not found.wrong and not found.missing


def test_nan_vectors_fail_the_verification(embedder: Embedder, structures: Path, tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    embed_into_store(embedder, [structures / "1orc.pdb"], tmp_path / "store")
    (part,) = (tmp_path / "store").glob("part-*")
    table = pq.read_table(part)
    place = table.schema.get_field_index("protein")
    broken = pa.array([[np.nan] * embedder.widths["protein"]], type=table.schema.field(place).type)
    pq.write_table(table.set_column(place, table.schema.field(place), broken), part)
    found = verify_store(tmp_path / "store")
    assert found.wrong == ["1orc_A"] and found.worst == np.inf


def limited(residues: int) -> Embedder:
    return Embedder("small", "cpu", threads=1, residue_limit=residues)


def test_skipped_inputs_are_listed_as_in_the_last_run(
    two_chains: Path, structures: Path, tmp_path: Path
) -> None:
    store, away = tmp_path / "store", tmp_path / "1orc.pdb"
    embed_into_store(limited(20), [two_chains, away], store)
    away.write_bytes((structures / "1orc.pdb").read_bytes())
    for limit in (25, 40, 45):  # later runs have the inputs in reverse order
        embed_into_store(limited(limit), [two_chains, away][:: 1 if limit == 25 else -1], store)
    assert sorted(row[1] for row in skipped_of(store)) == ["A", "A"]
    assert all("residue_limit=45" in row[2] for row in skipped_of(store))
    assert sorted(rows_of(store)) == ["two.pdb:B"]


def test_a_chain_without_a_name_is_recognised_in_later_runs(two_chains: Path, tmp_path: Path) -> None:
    text = two_chains.read_text()
    lines = [line[:21] + " " + line[22:] if line[21:22] == "B" else line for line in text.splitlines()]
    two_chains.write_text("\n".join(lines) + "\n")
    store = tmp_path / "store"
    for limit in (50, 50, 60, 100):
        embed_into_store(limited(limit), [two_chains], store)
        assert [row[1] for row in skipped_of(store)] == (["A"] if limit < 70 else [])
    assert sorted(rows_of(store)) == ["two.pdb:", "two.pdb:A"]


def test_a_folder_that_is_no_longer_empty_is_not_listed_as_skipped(
    embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    for _ in range(2):
        assert embed_into_store(embedder, [tmp_path / "in"], tmp_path / "store").failed == 1
        assert [row[0] for row in skipped_of(tmp_path / "store")] == [str(tmp_path / "in")]
    (tmp_path / "in" / "1orc.pdb").write_bytes((structures / "1orc.pdb").read_bytes())
    assert embed_into_store(embedder, [tmp_path / "in"], tmp_path / "store") == StoreSummary(
        inputs=1, chains=1
    )
    assert skipped_of(tmp_path / "store") == []


def test_paths_through_links_are_resolved_by_the_system(
    embedder: Embedder, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "there" / "deep").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "there" / "deep", target_is_directory=True)
    (tmp_path / "there" / "x.pdb").write_bytes((structures / "1orc.pdb").read_bytes())
    (tmp_path / "here" / "x.pdb").write_bytes((structures / "1a8o.pdb").read_bytes())
    monkeypatch.chdir(tmp_path / "here")
    embed_into_store(embedder, ["link/../x.pdb"], tmp_path / "store")
    (row,) = rows_of(tmp_path / "store").values()
    assert row["length"] == 64  # of 1orc


def as_first_format(store: Path, **about: Any) -> None:
    """Convert a store to the first version of the format."""
    import pyarrow.parquet as pq

    header = json.loads((store / module.HEADER).read_text())
    (store / module.HEADER).write_text(json.dumps(header | {"format": "protemb-store-1"}))
    for part in store.glob("part-*"):
        table = pq.read_table(part)
        old = json.loads(table.schema.metadata[b"protemb"]) | {"format": "protemb-store-1"} | about
        del old["run"], old["again"]
        pq.write_table(table.replace_schema_metadata({"protemb": json.dumps(old)}), part)


def test_a_store_of_the_first_format_can_be_continued(
    embedder: Embedder, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, store = [structures / "1orc.pdb", structures / "1a8o.pdb"], tmp_path / "store"
    monkeypatch.chdir(tmp_path)
    chains = [chain for file in files for chain in read_chains(file).chains]
    embed_into_store(embedder, chains, store)
    as_first_format(store, done=[str(tmp_path / chain.id) for chain in chains])
    assert embed_into_store(embedder, chains, store) == StoreSummary(before=2)
    assert embed_into_store(embedder, [structures / "4zhl.cif.gz"], store).chains == 2
    assert len(rows_of(store)) == 4
    header = (store / module.HEADER).read_text()
    assert json.loads(header)["format"] == FORMAT != "protemb-store-1" and header.startswith('{\n "format"')


def test_runs_are_numbered_from_one(embedder: Embedder, structures: Path, tmp_path: Path) -> None:
    store, files = tmp_path / "store", [structures / "1orc.pdb", structures / "1a8o.pdb"]
    assert read_before(tmp_path) == Before(1, set(), {})
    embed_into_store(embedder, files, store, levels=module.LEVELS)
    assert len(list(store.glob("part-*"))) == 1
    assert read_before(store) == Before(2, set(map(str, files)), {})
    as_first_format(store)
    assert read_before(store).run == 1


def test_the_summary_keeps_a_limited_number_of_skipped_inputs(
    embedder: Embedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fill, "KEPT", 3)
    for number in range(5):
        (tmp_path / f"{number}.pdb").write_text("hello")
    filled = embed_into_store(embedder, [tmp_path / f"{n}.pdb" for n in range(5)], tmp_path / "store")
    assert filled.failed == 5 and [Path(s.source).stem for s in filled.skipped] == ["0", "1", "2"]
    assert (
        all(skipped.error is None for skipped in filled.skipped) and len(skipped_of(tmp_path / "store")) == 5
    )


def test_retryable_inputs_count_towards_the_size_of_a_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PART_CHAINS", 1)  # four inputs
    (tmp_path / "bad.pdb").write_text("hello")
    files = [tmp_path / "bad.pdb", *(tmp_path / f"away{number}.pdb" for number in range(8))]
    embed_into_store(limited(50), files, tmp_path / "store")
    assert len(list((tmp_path / "store").glob("part-*"))) == 3
    assert len(skipped_of(tmp_path / "store")) == 9


# --- interrupts -----------------------------------------------------------------------------------


def test_ctrl_c_while_a_row_is_added_loses_no_row(
    embedder: Embedder, structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files, store = (
        [structures / name for name in ("1a8o.pdb", "1orc.pdb", "3wup.json.gz")],
        tmp_path / "store",
    )
    add, count = PairMaps.add, 0

    def interrupted(self: PairMaps, *arguments: Any) -> None:
        nonlocal count
        add(self, *arguments)
        count += 1
        if count == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(PairMaps, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            embed_into_store(embedder, files, store, levels=module.LEVELS)
    assert sorted(rows_of(store)) == ["1a8o.pdb:A", "1orc.pdb:A"]
    assert embed_into_store(embedder, files, store, levels=module.LEVELS).before == 2
    assert len(rows_of(store)) == 3


PAIRS = """
import sys, tempfile
from protemb_sdk import Embedder, embed_into_store
embedder = Embedder("small", "cpu", threads=1)
for turn in range(1000):  # in HDF5 most of the time, where exceptions of signal handlers are lost
    with tempfile.TemporaryDirectory() as folder:
        embed_into_store(embedder, [sys.argv[1]], folder + "/store", levels=("protein", "residue", "pair"))
    if turn == 0:  # all is imported, where they may be lost too
        print("begun", flush=True)
"""


@pytest.mark.parametrize("wait", [0.3, 0.5, 0.7, 0.9, 1.1])
def test_ctrl_c_stops_the_compression_of_maps(structures: Path, wait: float) -> None:
    command = [sys.executable, "-c", PAIRS, str(structures / "4zhl.cif.gz")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None and run.stdout.readline() == "begun\n"
        time.sleep(wait)
        run.send_signal(signal.SIGINT)
        try:
            _, output = run.communicate(timeout=60)
        finally:
            run.kill()
    assert run.returncode in (-signal.SIGINT, 130) and "Exception ignored" not in output


def test_signals_are_delivered_after_the_block_and_handlers_restored() -> None:
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    done = []
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with signals_wait():
            os.kill(os.getpid(), signal.SIGINT)
            done.append("the rest of the block")
        done.append("nothing")
    assert done == ["the rest of the block"]
    with pytest.raises(KeyboardInterrupt) as caught, signals_wait():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("in the block")
    assert isinstance(caught.value.__context__, ValueError)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


def test_every_signal_is_delivered() -> None:
    heard: list[int] = []
    before = {
        number: signal.signal(number, lambda n, frame: heard.append(n))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        with signals_wait(), signals_wait():
            for number in (signal.SIGTERM, signal.SIGINT):
                os.kill(os.getpid(), number)
            assert not heard
        assert sorted(heard) == [signal.SIGINT, signal.SIGTERM]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# --- errors ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "output"),
    [
        (
            {"levels": "residue"},
            r"levels are \('protein',\), \('protein', 'residue'\) or \('protein', 'residue', 'pair'\), not",
        ),
        ({"levels": ("proteins", "residues")}, "levels are"),
        ({"levels": ("residue",)}, "levels are"),
        ({"levels": ()}, "levels are"),
        ({"dtype": "float64"}, "dtype is 'float32' or 'float16', not 'float64'"),
        ({"levels": ("protein",), "readouts": ["max"]}, r"readouts \(max\) are of residues"),
    ],
)
def test_invalid_levels_dtypes_and_readouts_are_refused(
    embedder: Embedder, structures: Path, tmp_path: Path, options: dict[str, Any], output: str
) -> None:
    with pytest.raises(EmbeddingError, match=output):
        embed_into_store(embedder, [structures / "1orc.pdb"], tmp_path / "store", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_only_a_lock_file_is_accepted(
    embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    (tmp_path / module.LOCK).touch()  # of a run that was killed before it wrote its header
    assert embed_into_store(embedder, [structures / "1orc.pdb"], tmp_path).chains == 1
