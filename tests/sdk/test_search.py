"""Search: correct alignments and superpositions, complete indexes, and clear errors."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import gemmi
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import gumbel_r

from protemb_sdk import Chain, Embedder, EmbeddingError, OutputError, search
from protemb_sdk._cli.search import Sort
from protemb_sdk._embed.collect import collecting
from protemb_sdk._search import index as module
from protemb_sdk._search.chance import LOCATION, LOG_SCALE, p_value
from protemb_sdk._store.fill import embed_into_store
from protemb_sdk.search import Index, build_index, open_index

from .conftest import turned

FILES = ("1orc.pdb", "1a8o.cif", "2beg.pdb.gz", "1lcd.cif.gz", "3jqh.cif")

# --- the index ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(structures: Path, embedder: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = [structures / name for name in FILES]
    path = tmp_path_factory.mktemp("search") / "store"
    embed_into_store(embedder, files, path)
    return path


@pytest.fixture(scope="module")
def index(store: Path) -> Index:
    build_index(store, store.parent / "index")
    return open_index(store.parent / "index")


def test_a_chain_finds_itself_and_a_fragment_finds_its_chain(
    index: Index, embedder: Embedder, chains: list[Chain]
) -> None:
    rng = np.random.default_rng(0)
    for chain in chains:
        first = index.search(embedder.embed(chain), 3)[0]
        assert first.id == chain.id and first.length == len(chain) and first.sequence == chain.sequence
        scores = [first.tm_score, first.tm_query, first.tm_target, first.similarity]
        assert scores == pytest.approx([1, 1, 1, 1], abs=5e-3) and first.rmsd < 0.01
        assert first.identity == 1 and (first.pairs == np.arange(len(chain))[:, None]).all()
        piece = slice(8, 58)
        moved = turned(chain.ca_coords[piece], 3)
        moved += rng.normal(scale=0.2, size=moved.shape)
        found = index.search(embedder.embed((moved, chain.sequence[piece])), 3)[0]
        assert found.id == chain.id and found.tm_query > 0.9 > found.tm_target
        assert (found.pairs[:, 1] - found.pairs[:, 0] == piece.start).mean() > 0.9


@given(st.floats(0, 1), st.integers(1, 3000), st.integers(1, 3000))
def test_p_values_follow_a_gumbel_distribution(score: float, query: int, target: int) -> None:
    short, long = sorted((query, target))
    features = np.array([1, np.log(short / 100), np.log(long / short)])
    expected = gumbel_r.sf(score, features @ LOCATION, np.exp(features @ LOG_SCALE))
    assert p_value(score, query, target) == pytest.approx(expected, rel=1e-9, abs=1e-300)
    assert p_value(score, target, query) == p_value(score, query, target)
    assert p_value(min(score + 0.1, 1.0), query, target) <= p_value(score, query, target)


def test_hits_are_complete_and_sorted_by_score(index: Index, embedder: Embedder, chains: list[Chain]) -> None:
    query = embedder.embed(chains[0])
    hits = index.search(query, k=1000)
    assert len(hits) == len(index) and len({(hit.source, hit.chain_id) for hit in hits}) == len(index)
    assert tuple(search.SORTS) == get_args(Sort)
    for name, key in search.SORTS.items():
        scores = [key(hit) for hit in index.search(query, k=1000, sort=name)]
        assert scores == sorted(scores, reverse=True) and len(scores) == len(index)
    scores = [hit.tm_score for hit in hits]
    assert scores == sorted(scores, reverse=True)
    for hit in hits:
        assert hit.tm_query <= len(hit.pairs) / len(query) and hit.tm_target <= len(hit.pairs) / hit.length
        assert hit.tm_score == pytest.approx((hit.tm_query + hit.tm_target) / 2)
    assert [hit.id for hit in index.search(query, k=4)] == [hit.id for hit in hits[:4]]
    cosines = index.descriptors @ index.descriptor(query)
    np.testing.assert_allclose(sorted(hit.similarity for hit in hits), np.sort(cosines), atol=2e-3)
    expected = [len(index) * p_value(hit.tm_score, len(query), hit.length) for hit in hits]
    assert [hit.e_value for hit in hits] == pytest.approx(expected)
    # With few candidates, the hits are those of largest cosine similarity.
    best = {index.ids[number] for number in np.argsort(-cosines)[:2]}
    assert {hit.id for hit in index.search(query, k=2, candidates=2)} == best


def test_candidates_are_chosen_by_a_coarse_superposition(
    index: Index, embedder: Embedder, chains: list[Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the best are superposed with all residues; the first hit is that of a complete comparison."""
    query = embedder.embed(chains[0])
    monkeypatch.setattr(search, "SUPERPOSED", 4)
    asked: list[int] = []
    complete = index.superpose

    def counted(query: Any, numbers: Any) -> list[search.Superposition]:
        asked.append(len(numbers))
        return complete(query, numbers)

    for sort in ("tm", "tm-query", "tm-target"):
        expected = [hit.id for hit in index.search(query, k=len(index), sort=sort)]
        monkeypatch.setattr(index, "superpose", counted)
        assert [hit.id for hit in index.search(query, k=1, sort=sort)] == expected[:1]
        monkeypatch.setattr(index, "superpose", complete)
    cosines = index.descriptors @ index.descriptor(query)
    monkeypatch.setattr(index, "superpose", counted)
    hits = index.search(query, k=3, sort="similarity")
    assert [hit.id for hit in hits] == [index.ids[n] for n in np.argsort(-cosines)[:3]]
    assert asked == [4, 4, 4, 3]


def test_approximate_search_finds_the_hits_of_exact_search(
    index: Index, embedder: Embedder, chains: list[Chain], monkeypatch: pytest.MonkeyPatch
) -> None:
    query = embedder.embed(chains[0])
    wanted = [hit.id for hit in index.search(query)]
    monkeypatch.setattr(search, "ALL", 0)
    assert [hit.id for hit in index.search(query)] == wanted


def test_half_precision_changes_the_scores_little(
    index: Index, structures: Path, embedder: Embedder, chains: list[Chain], tmp_path: Path
) -> None:
    files = [structures / name for name in FILES]
    embed_into_store(embedder, files, tmp_path / "store", dtype="float16")
    build_index(tmp_path / "store", tmp_path / "index")
    query = embedder.embed(chains[0])
    ours, theirs = (i.search(query, 1000) for i in (open_index(tmp_path / "index"), index))
    scores = {(hit.source, hit.chain_id): (hit.tm_score, hit.similarity) for hit in theirs}
    np.testing.assert_allclose(
        [(hit.tm_score, hit.similarity) for hit in ours],
        [scores[hit.source, hit.chain_id] for hit in ours],
        atol=0.02,
    )


def test_a_store_of_protein_vectors_only_is_searched_by_cosine(
    structures: Path, embedder: Embedder, chains: list[Chain], tmp_path: Path
) -> None:
    files = [structures / "1orc.pdb", structures / "1a8o.cif", structures / "3jqh.cif"]
    embed_into_store(embedder, files, tmp_path / "store", levels=["protein"])
    build_index(tmp_path / "store", tmp_path / "index")
    index = open_index(tmp_path / "index")
    query = embedder.embed(chains[1])
    first, *others = index.search(query)
    assert first.id == query.id and first.similarity == pytest.approx(1, abs=2e-3)
    assert np.isnan([first.tm_score, first.tm_query, first.rmsd, first.identity]).all()
    assert len(first.pairs) == 0
    assert [hit.similarity for hit in others] == sorted([hit.similarity for hit in others], reverse=True)
    assert [hit.id for hit in index.search(query, sort="similarity")] == [first.id, *(h.id for h in others)]
    with pytest.raises(EmbeddingError, match="only protein vectors"):
        index.search(query, sort="tm")
    with pytest.raises(EmbeddingError, match="contains no residue embeddings"):
        index.align(query, np.array([0]))


def older(path: Path, out: Path) -> Path:
    """Write a collection in the layout of version 0.1: lists of lists, and no column of lengths."""
    table = pq.read_table(path).drop_columns(["length"])
    vectors = pa.list_(pa.list_(pa.float32()))
    for name, kind in {"protein": pa.list_(pa.float32()), "residue": vectors, "ca_coords": vectors}.items():
        place = table.column_names.index(name)
        table = table.set_column(place, name, pa.array(table[name].to_pylist(), type=kind))
    pq.write_table(
        table.replace_schema_metadata({"protemb": pq.read_metadata(path).metadata[b"protemb"]}), out
    )
    return out


@pytest.mark.parametrize("layout", ["now", "0.1"])
def test_a_parquet_file_is_indexed_like_a_store(
    index: Index, embedder: Embedder, chains: list[Chain], structures: Path, tmp_path: Path, layout: str
) -> None:
    path = tmp_path / "all.parquet"
    with collecting(path, pair=False) as collection:
        for embedding in embedder.embed_many([structures / name for name in FILES]):
            collection.add(embedding)
        collection.finish([], embedder.provenance)
    build_index(path if layout == "now" else older(path, tmp_path / "older.parquet"), tmp_path / "index")
    found = open_index(tmp_path / "index")
    query = embedder.embed(chains[1])
    hits, others = found.search(query), index.search(query)
    assert [(hit.id, hit.length) for hit in hits] == [(hit.id, hit.length) for hit in others]
    assert [hit.tm_score for hit in hits] == pytest.approx([hit.tm_score for hit in others], abs=1e-3)


def test_a_parquet_file_of_another_program_is_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"id": ["x"]}), tmp_path / "x.parquet")
    (tmp_path / "y.parquet").write_bytes(b"PAR1")
    for name in ("x.parquet", "y.parquet"):
        with pytest.raises(OutputError) as refused:
            build_index(tmp_path / name, tmp_path / "index")
        assert refused.value.where == str(tmp_path / name) and not (tmp_path / "index").exists()


# --- errors ---------------------------------------------------------------------------------------


def test_queries_of_another_model_are_refused(index: Index, chains: list[Chain]) -> None:
    query = Embedder("small", device="cpu").embed(chains[0])
    with pytest.raises(EmbeddingError, match=r"model_sha256 .* the index's model, 'base'"):
        index.search(query)


def test_invalid_search_options_are_refused(index: Index, embedder: Embedder, chains: list[Chain]) -> None:
    query = embedder.embed(chains[1])
    for k, candidates in ((0, 5), (5, 0)):
        with pytest.raises(EmbeddingError, match="at least 1"):
            index.search(query, k, candidates)
    with pytest.raises(EmbeddingError, match="choose one of tm, tm-query, tm-target, similarity"):
        index.search(query, sort="cosine")


def test_an_existing_index_is_not_overwritten(store: Path, index: Index) -> None:
    before = {file.name: file.read_bytes() for file in index.path.iterdir()}
    with pytest.raises(OutputError, match="already exists"):
        build_index(store, index.path)
    assert {file.name: file.read_bytes() for file in index.path.iterdir()} == before


def test_invalid_stores_are_refused_and_leave_no_files(
    store: Path, embedder: Embedder, tmp_path: Path
) -> None:
    out = tmp_path / "index"
    with pytest.raises(OutputError, match="is not a store"):
        build_index(tmp_path / "nowhere", out)
    empty = tmp_path / "empty"
    (tmp_path / "notes.txt").write_text("no structure")
    embed_into_store(embedder, [tmp_path / "notes.txt"], empty)
    with pytest.raises(OutputError, match="holds no chain"):
        build_index(empty, out)
    damaged = tmp_path / "damaged"
    shutil.copytree(store, damaged)
    part = next(damaged.glob("part-*"))
    part.write_bytes(part.read_bytes()[:-100])
    with pytest.raises(OutputError, match="not a complete part of a store"):
        build_index(damaged, out)
    with pytest.raises(OutputError, match="does not exist"):
        build_index(store, tmp_path / "nowhere" / "index")
    with pytest.raises(OutputError, match="lies within the store"):
        build_index(store, store / "index")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["damaged", "empty", "notes.txt"]


FULL = """
import resource, signal, sys
from protemb_sdk import OutputError
from protemb_sdk.search import build_index
import pyarrow.parquet, usearch.index
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]),) * 2)  # as a disk that is full: writes fail
try:
    build_index(sys.argv[1], sys.argv[2])
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("size", [500, 3_000, 50_000])
def test_a_full_disk_leaves_no_files(store: Path, tmp_path: Path, size: int) -> None:
    pytest.importorskip("resource", reason="limits are POSIX's")
    command = [sys.executable, "-c", FULL, str(store), str(tmp_path / "index"), str(size)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "index: cannot be written (" in run.stdout and len(run.stdout.splitlines()) == 1, run.stderr
    assert not list(tmp_path.iterdir())


@pytest.fixture
def copied(index: Index, tmp_path: Path) -> Path:
    shutil.copytree(index.path, tmp_path / "index")
    return tmp_path / "index"


@pytest.mark.parametrize(
    "name", [module.WHITENINGS, module.VECTORS, module.CHAINS, module.RESIDUES, module.COORDS]
)
@pytest.mark.parametrize("damage", ["gone", "cut", "empty"])
def test_damaged_indexes_are_refused(copied: Path, name: str, damage: str) -> None:
    file = copied / name
    content = file.read_bytes()
    file.unlink()
    if damage != "gone":
        file.write_bytes(content[: len(content) // 2] if damage == "cut" else b"")
    with pytest.raises(OutputError, match="a damaged index"):
        open_index(copied)


def test_other_folders_and_formats_are_refused(copied: Path, store: Path) -> None:
    with pytest.raises(OutputError, match="is not an index"):
        open_index(store)
    header = copied / module.HEADER
    header.write_text(header.read_text().replace(module.FORMAT_PLAIN, "protemb-index-0"))
    with pytest.raises(OutputError, match="an index of format 'protemb-index-0'"):
        open_index(copied)
    header.write_text("{")
    with pytest.raises(OutputError, match="a damaged index"):
        open_index(copied)


def test_files_of_different_indexes_are_refused(copied: Path) -> None:
    assert repr(open_index(copied)) == f"Index({copied}: {len(open_index(copied))} chains, model base)"
    header = copied / module.HEADER
    about = json.loads(header.read_text())
    header.write_text(json.dumps(about | {"chains": about["chains"] + 1}))
    with pytest.raises(OutputError, match=r"a damaged index \(its files are of different indexes\)"):
        open_index(copied)


def test_missing_usearch_names_the_extra_to_install(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build_index(store, tmp_path / "index")
    monkeypatch.setitem(sys.modules, "usearch.index", None)
    for run in (lambda: build_index(store, tmp_path / "other"), lambda: open_index(tmp_path / "index")):
        with pytest.raises(OutputError, match=r"pip install '\.\[search\]'"):
            run()
    with pytest.raises(OutputError, match="no such index"):  # which the extra would not help
        open_index(tmp_path / "none")


# --- the command line -----------------------------------------------------------------------------


def test_index_and_search_from_the_command_line(
    protemb: Callable[..., Any], store: Path, structures: Path, tmp_path: Path
) -> None:
    index, table = tmp_path / "index", tmp_path / "hits.csv"
    made = protemb("index", store, "-o", index)
    assert made.status == 0 and made.out.startswith(f"{len(open_index(index))} chains -> {index}")
    found = protemb("search", structures / "1lcd.cif.gz", "--index", index, "-k", 3, "-o", table)
    assert found.status == 0 and "1lcd_A" in found.out and "TM-score" in found.out
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == ["1", "2", "3"]
    assert (rows[0]["id"], rows[0]["tm_score"], rows[0]["query_first"]) == ("1lcd_A", "1.0000", "1")
    assert rows[0]["hit_last"] == rows[0]["length"] == rows[0]["aligned"]
    found = protemb("search", structures / "3jqh.cif", "--index", index, "--chain", "A", "-k", 1)
    assert found.status == 0 and found.out.splitlines()[0].startswith("3jqh_A, ")
    sorted_by = protemb(
        "search", structures / "1lcd.cif.gz", "--index", index, "--sort", "tm-target", "-o", table
    )
    with table.open(newline="") as file:
        scores = [float(row["tm_target"]) for row in csv.DictReader(file)]
    assert sorted_by.status == 0 and scores == sorted(scores, reverse=True)


def test_short_chains_and_missing_scores_are_noted(
    protemb: Callable[..., Any], index: Index, structures: Path, embedder: Embedder, tmp_path: Path
) -> None:
    found = protemb("search", structures / "2beg.pdb.gz", "--index", index.path, "--chain", "A", "-k", 2)
    note = "note: in 2 of 2 hits the query or the hit has fewer than 40 residues"
    assert found.status == 0 and note in " ".join(found.err.split())
    embed_into_store(embedder, [structures / "1orc.pdb"], tmp_path / "store", levels=["protein"])
    build_index(tmp_path / "store", tmp_path / "index")
    found = protemb("search", structures / "1orc.pdb", "--index", tmp_path / "index")
    assert found.status == 0 and "the index has only protein vectors" in found.err


def test_one_bad_chain_of_a_query_is_skipped(
    protemb: Callable[..., Any], index: Index, structures: Path, tmp_path: Path
) -> None:
    query = gemmi.read_structure(str(structures / "1orc.pdb"))
    long = gemmi.Chain("B")
    for number in range(10_001):  # one more than residue_limit
        residue = query[0]["A"][number % 60].clone()
        residue.seqid, residue.entity_id = gemmi.SeqId(str(number + 1)), ""
        long.add_residue(residue)
    query[0].add_chain(long)
    query.setup_entities()
    query.make_mmcif_document().write_file(str(tmp_path / "query.cif"))
    found = protemb("search", tmp_path / "query.cif", "--index", index.path, "-k", 1)
    assert found.status == 0 and found.out.splitlines()[0].startswith("query_A, ")
    assert "chain B" in found.err and "residue_limit" in found.err


def test_invalid_queries_and_indexes_give_one_error(
    protemb: Callable[..., Any], index: Index, structures: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.cif").write_text("nothing")
    (tmp_path / "all.tar").write_bytes(bytes(10240))
    dna = gemmi.read_structure(str(structures / "1lcd.pdb.gz"))
    for each in dna:
        each.remove_chain("A")
    dna.write_pdb(str(tmp_path / "dna.pdb"))
    shutil.copytree(index.path, tmp_path / "foreign")
    header = tmp_path / "foreign" / module.HEADER
    about = json.loads(header.read_text())
    about["provenance"] |= {"model": "theirs", "model_sha256": "0" * 64}
    header.write_text(json.dumps(about))
    for arguments, sentence in (
        ([tmp_path / "none.cif", "--index", index.path], "no such file"),
        ([tmp_path / "bad.cif", "--index", index.path], "bad.cif"),
        ([tmp_path / "all.tar", "--index", index.path], "is an archive; search takes one structure file"),
        ([tmp_path, "--index", index.path], "is a folder; search takes one structure file"),
        ([structures / "1orc.pdb", "--index", tmp_path], "is not an index"),
        ([tmp_path / "dna.pdb", "--index", index.path], "holds no protein chain to embed"),
        ([structures / "1orc.pdb", "--index", header.parent], "made with 'theirs', which is no model"),
        ([structures / "1orc.pdb", "--index", index.path, "-o", tmp_path / "no" / "x.csv"], "does not exist"),
        ([structures / "1orc.pdb", "--index", index.path, "--model", "small"], "the index's model, 'base'"),
    ):
        found = protemb("search", *arguments)
        assert found.status == 1 and not found.out and len(found.errors) == 1, found.err
        assert sentence in found.errors[0]
