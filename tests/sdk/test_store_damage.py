"""Parts and headers of a store with invalid metadata: they are refused with a clear error; no row is lost."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from protemb_sdk import Embedder, OutputError, embed_into_store
from protemb_sdk._embed.outcome import embed_one
from protemb_sdk._store.fill import StoreSummary
from protemb_sdk._store.parts import skipped_rows, store_parts
from protemb_sdk._store.verify import verify_store
from protemb_sdk._store.writer import HEADER, open_store
from protemb_sdk._structure.inputs import Input

from .conftest import Run
from .test_store import rows_of, skipped_of

SOUND: dict[str, Any] = {"format": "protemb-store-2", "run": 1, "done": [], "skipped": [], "again": {}}
TRIED: dict[str, Any] = {"chains": ["A"], "skipped": [["a.pdb", "B", "too long"]]}

WRONG: dict[str, list[Any]] = {
    "done": [None, 5, "a.pdb", {}, [[]], [None], ["a.pdb", 1]],
    "skipped": [None, 5, {}, [1], ["abc"], [[]], [["a"]], [["a", 1, None]], [["a"] * 4]],
    "again": [
        None, 5, [], "a", {"a": {}}, {"a": None}, {"a": []}, {"a": TRIED, "b": {}},
        {"a": {"chains": []}}, {"a": TRIED | {"chains": "A"}}, {"a": TRIED | {"chains": [1]}},
        {"a": {"skipped": []}}, {"a": TRIED | {"skipped": {}}}, {"a": TRIED | {"skipped": [["a", "b"]]}},
    ],
    "run": [None, "1", 1.0, True, -1, [], float("inf"), float("nan"), 10**30],
}  # fmt: skip
WITHOUT = "its metadata does not say which inputs it holds"
DAMAGED = [
    ("", "Expecting value"), ("{", "Expecting property name"), ("[" * 100_000, "recursion"),
    ("null", WITHOUT), ("[]", WITHOUT), ('"done"', WITHOUT), ("5", WITHOUT),
    ("{}", "damaged in 'done'"), ('{"done": []}', "damaged in 'skipped'"),
    *(
        (json.dumps(SOUND | {name: value}), f"damaged in '{name}'")
        for name, values in WRONG.items()
        for value in values
    ),
    # The last run decides which inputs are tried again, so it must have a number.
    (json.dumps({"done": [], "skipped": [], "again": {"a": TRIED}}), "damaged in 'run'"),
    (json.dumps(SOUND | {"run": 0, "again": {"a": TRIED}}), "damaged in 'run'"),
]  # fmt: skip


def say(part: Path, stated: str) -> None:
    """Replace the metadata of a part and keep its rows."""
    pq.write_table(pq.read_table(part).replace_schema_metadata({"protemb": stated}), part)


@pytest.fixture(scope="module")
def whole(embedder: Embedder, structures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("whole") / "store"
    embed_into_store(embedder, [structures / "1orc.pdb"], store)
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "store"))


@pytest.mark.parametrize(("stated", "why"), DAMAGED, ids=[stated[:70] or "empty" for stated, _ in DAMAGED])
def test_a_part_with_invalid_metadata_is_refused(
    store: Path, embedder: Embedder, structures: Path, stated: str, why: str
) -> None:
    (part,) = store_parts(store)
    say(part, stated)
    before = sorted((path.name, path.read_bytes()) for path in store.iterdir())
    with pytest.raises(
        OutputError, match=rf"{part.name}: is not a complete part of a store .*{why}.*move it away"
    ):
        embed_into_store(embedder, [structures / "1orc.pdb", structures / "1a8o.pdb"], store)
    with pytest.raises(OutputError, match="is not a complete part of a store"):
        skipped_rows(store)
    assert sorted((path.name, path.read_bytes()) for path in store.iterdir()) == before


def test_a_part_without_metadata_is_refused_and_can_be_replaced(
    store: Path, embedder: Embedder, structures: Path, protemb: Run
) -> None:
    (part,) = store_parts(store)
    pq.write_table(pq.read_table(part).replace_schema_metadata(None), part)
    stated = protemb("embed", structures / "1orc.pdb", "-o", store)
    assert stated.status == 1 and len(stated.errors) == 1 and "Traceback" not in stated.err
    assert WITHOUT in " ".join(stated.err.split())
    part.unlink()
    assert embed_into_store(embedder, [structures / "1orc.pdb"], store) == StoreSummary(inputs=1, chains=1)


def test_a_part_damaged_during_a_run_does_not_lose_rows(
    store: Path, embedder: Embedder, structures: Path
) -> None:
    (part,) = store_parts(store)
    opened = open_store(store, embedder.provenance, widths=embedder.widths)
    path = str(structures / "1a8o.pdb")
    with pytest.raises(OutputError, match=f"{part.name}: is not a complete part"), opened as filling:  # noqa: PT012
        filling.add(embed_one(embedder, Input.of(path), filling.wanted, path))
        say(part, json.dumps(SOUND | {"skipped": [["a", 1, None]]}))
    assert sorted(rows_of(store)) == ["1a8o.pdb:A", "1orc.pdb:A"]


def test_rows_are_verified_and_indexed_despite_invalid_metadata(store: Path) -> None:
    (part,) = store_parts(store)
    say(part, "[]")
    found = verify_store(store)
    assert (found.rows, found.wrong, found.missing) == (1, [], [])
    pytest.importorskip("usearch")
    from protemb_sdk.search import build_index

    assert build_index(store, store.parent / "index") == 1


def test_names_that_cannot_be_encoded_are_escaped(store: Path, embedder: Embedder, structures: Path) -> None:
    (part,) = store_parts(store)
    tried = {"gone.pdb": TRIED | {"skipped": [["\udcff.pdb", "", "not there"]]}}
    say(part, json.dumps(SOUND | {"skipped": [["a\ud800\n.pdb", "A", "short"]], "again": tried}))
    assert embed_into_store(embedder, [structures / "1a8o.pdb"], store).chains == 1
    assert skipped_of(store) == [["\\udcff.pdb", "", "not there"], ["a\\ud800\\n.pdb", "A", "short"]]


def test_metadata_entries_of_later_versions_are_ignored(
    store: Path, embedder: Embedder, structures: Path
) -> None:
    (part,) = store_parts(store)
    say(part, json.dumps(SOUND | {"done": [str(structures / "1orc.pdb")], "more": 1}))
    assert embed_into_store(embedder, [structures / "1orc.pdb"], store) == StoreSummary(before=1)


@pytest.mark.parametrize(
    ("wrong", "stated"),
    [
        ({"levels": None}, "levels are None"), ({"levels": "protein"}, "levels are 'protein'"),
        ({"levels": ["residue"]}, "levels are"), ({"levels": [[]]}, "unhashable"),
        ({"dtype": "x"}, "dtype are 'x'"), ({"dtype": []}, "dtype are"),
        ({"readouts": [1]}, "readouts are"), ({"readouts": None}, "readouts are None"),
        ({"provenance": None}, "NoneType"), ({"provenance": {}}, "KeyError"),
    ],
)  # fmt: skip
def test_an_invalid_header_is_refused(
    store: Path, embedder: Embedder, structures: Path, wrong: dict[str, Any], stated: str
) -> None:
    header = json.loads((store / HEADER).read_text())
    (store / HEADER).write_text(json.dumps(header | wrong))
    refused = rf"{HEADER}: cannot be read as the header of a store \(.*{stated}"
    for run in (
        lambda: verify_store(store),
        lambda: embed_into_store(embedder, [structures / "1a8o.pdb"], store),
    ):
        with pytest.raises(OutputError, match=refused):
            run()


def test_missing_options_are_named_in_the_error(store: Path) -> None:
    header = json.loads((store / HEADER).read_text())
    del header["provenance"]["options"]["altloc"]
    (store / HEADER).write_text(json.dumps(header))
    with pytest.raises(OutputError, match=r"KeyError.*altloc"):
        verify_store(store)


def test_a_store_of_a_later_version_is_refused_by_its_format(
    store: Path, embedder: Embedder, structures: Path
) -> None:
    pytest.importorskip("usearch")
    from protemb_sdk.search import build_index

    header = json.loads((store / HEADER).read_text())
    (store / HEADER).write_text(
        json.dumps(header | {"format": "protemb-store-9", "levels": "of another kind"})
    )
    for run in (
        lambda: verify_store(store),
        lambda: build_index(store, store.parent / "index"),
        lambda: embed_into_store(embedder, [structures / "1a8o.pdb"], store),
    ):
        with pytest.raises(OutputError, match="format 'protemb-store-9', and this version reads"):
            run()


@pytest.mark.parametrize("column", ["length", "protein", "residue", "ca_coords", "id"])
def test_a_part_without_a_column_cannot_be_indexed(store: Path, column: str) -> None:
    pytest.importorskip("usearch")
    from protemb_sdk.search import build_index

    (part,) = store_parts(store)
    pq.write_table(pq.read_table(part).drop_columns([column]), part)
    with pytest.raises(
        OutputError, match=rf"{part.name}: is not a complete part of a store \(no column {column}\)"
    ):
        build_index(store, store.parent / "index")
    assert not (store.parent / "index").exists()
