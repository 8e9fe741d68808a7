"""Complexes: chains embedded together, as the network knows gaps, in files, stores, search and the report."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import gemmi
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from protemb_sdk import (
    Chain,
    ChainError,
    Embedder,
    Embedding,
    EmbeddingError,
    SitePredictor,
    StructureError,
    embed_into_store,
    join_chains,
    read_chain,
    read_chains,
)
from protemb_sdk._store.verify import verify_store
from protemb_sdk._structure.complexes import CHAIN_STEP
from protemb_sdk.search import build_index, open_index

from .conftest import Run, turned, walk

FIBRIL = "2beg.pdb.gz"  # five chains of 26 residues


@pytest.fixture(scope="module")
def dimer(structures: Path) -> Chain:
    """Both copies of 1A8O's assembly, which a twofold axis relates."""
    return read_chain(structures / "1a8o.cif", chains="all", assembly="1")


@pytest.fixture(scope="module")
def embedded(embedder: Embedder, dimer: Chain) -> Embedding:
    return embedder.embed(dimer, pair=True)


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distance of each row from that of another, as a share of its length."""
    return np.asarray(np.linalg.norm(one - other, axis=-1) / np.linalg.norm(one, axis=-1))


def assert_same(one: Embedding, other: Embedding) -> None:
    for level in ("protein", "residue", "pair"):
        a, b = getattr(one, level), getattr(other, level)
        assert np.abs(a - b).max() <= 1e-5 * np.abs(a).max(), level


# --- chains ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=6), min_size=1, max_size=4))
def test_joined_chains_keep_their_residues_gaps_and_names(steps: list[list[int]]) -> None:
    chains = []
    for number, own in enumerate(steps):
        coords, sequence = walk(len(own) + 1, number)
        index = np.concatenate([[0], np.cumsum(own)])
        chains.append(Chain.from_arrays(coords, sequence, index + 5, name="x", chain_id="ABCD"[number]))
    joined = join_chains(chains)
    assert len(joined) == sum(map(len, chains)) and joined.is_complex == (len(chains) > 1)
    assert joined.id == "x_" + "+".join(chain.chain_id for chain in chains)
    for chain in chains:
        rows = joined.chain_of_residue == chain.chain_id
        assert "".join(np.array(list(joined.sequence))[rows]) == chain.sequence
        assert (joined.ca_coords[rows] == chain.ca_coords).all()
        assert (joined.auth_seq[rows] == chain.auth_seq).all()
        assert (np.diff(joined.residue_index[rows]) == np.diff(chain.residue_index)).all()
        assert (joined.missing_after[rows] == chain.missing_after).all()
    borders = joined.is_last_of_chain[:-1]
    assert borders.sum() == len(chains) - 1 and (np.diff(joined.residue_index)[borders] == CHAIN_STEP).all()


def test_chains_are_chosen_in_order_and_by_either_name(structures: Path) -> None:
    read = read_chains(structures / "4zhl.cif.gz", chains=["P", "U"])
    (chain,) = read.chains
    assert (chain.chain_id, chain.label_chain, len(chain)) == ("P+U", "B+A", 257)
    assert chain.residue_labels[0].startswith("P ") and chain.residue_labels[10] == "U 16"
    assert read_chain(structures / "4zhl.cif.gz", chains=("B", "A")).id == "4zhl_P+U"
    assert read_chain(structures / FIBRIL, chains="all").chain_id == "A+B+C+D+E"
    assert read_chain(structures / "1a8o.cif", chains="all").id == "1a8o_A"
    assert len(read_chains(structures / FIBRIL).chains) == 5


def test_notes_and_plddt_of_joined_chains_name_the_chain(dimer: Chain) -> None:
    one, other = (read_chain((walk(5, n)[0], "GGGGG")) for n in (0, 1))
    one = replace(one, chain_id="A", notes=("of both", "of one"), plddt=np.full(5, 90.0))
    joined = join_chains([one, replace(other, chain_id="B", notes=("of both",))])
    assert joined.notes == ("of both", "chain A: of one")
    assert joined.plddt is not None and np.isnan(joined.plddt).tolist() == [False] * 5 + [True] * 5
    assert dimer.plddt is None and dimer.source.endswith("1a8o.cif")


@pytest.mark.parametrize(
    ("chains", "message"),
    [
        (["A", "A"], "chain 'A' comes twice"),
        (["A", "Z"], "2beg: there is no chain 'Z'; protein chains: A, B, C, D, E"),
        ("A", "chains='A': pass 'all' or a list of chain names"),
        ([], "pass 'all' or a list"),
        ([1], "pass 'all' or a list"),
    ],
)
def test_wrong_chains_are_refused(structures: Path, embedder: Embedder, chains: Any, message: str) -> None:
    with pytest.raises(ChainError, match=re.escape(message)):
        embedder.embed(structures / FIBRIL, chains=chains)


def test_complexes_that_cannot_be_are_refused(structures: Path, chain_1a8o: Chain, dimer: Chain) -> None:
    with pytest.raises(ChainError, match="chain B was skipped: is nucleic acid"):
        read_chains(structures / "1lcd.pdb.gz", chains=["A", "B"])
    with pytest.raises(ChainError, match="chain 'A' comes twice"):
        join_chains([chain_1a8o, chain_1a8o])
    with pytest.raises(ChainError, match="at least one"):
        join_chains([])
    with pytest.raises(ChainError, match="pass one of them"):
        read_chain(structures / FIBRIL, "A", chains=["B"])
    with pytest.raises(StructureError, match="must be contiguous"):
        replace(dimer, chain_of_residue=np.array(["A", "B"] * 70))
    with pytest.raises(StructureError, match="residue_limit"):
        Embedder(device="cpu", residue_limit=100).embed(dimer)
    with pytest.raises(EmbeddingError, match=r"1a8o_A\+A-2: the model 'paper-c30' encodes positions"):
        Embedder("paper-c30", device="cpu").embed(dimer)


# --- assemblies -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1a8o.cif", "1a8o.pdb"])
def test_an_assembly_is_that_of_gemmi(structures: Path, name: str) -> None:
    chain = read_chain(structures / name, chains="all", assembly="1")
    assert chain.id == "1a8o_A+A-2" and set(chain.auth_seq[:70]) == set(chain.auth_seq[70:])
    model = gemmi.read_structure(str(structures / name))
    model.setup_entities()
    model.transform_to_assembly("1", gemmi.HowToNameCopiedChain.AddNumber)
    atoms = [atom for one in model[0] for residue in one for atom in residue if atom.name == "CA"]
    alphas = [atom.pos.tolist() for atom in atoms]
    np.testing.assert_allclose(chain.ca_coords, alphas, atol=1e-3)
    for content in ((structures / name).read_bytes(), gemmi.read_structure(str(structures / name))):
        (again,) = read_chains(content, chains="all", assembly="1").chains
        assert (again.ca_coords == chain.ca_coords).all()


def test_an_assembly_that_is_not_there_is_refused(structures: Path) -> None:
    with pytest.raises(ChainError, match="there is no assembly '7'; assemblies: 1"):
        read_chains(structures / "1a8o.cif", assembly="7")
    with pytest.raises(ChainError, match="assembly=1: pass the name"):
        read_chains(structures / "1a8o.cif", assembly=1)  # type: ignore[arg-type]
    with (structures / "1a8o.cif").open("rb") as file, pytest.raises(StructureError, match="needs a file"):
        read_chains(file, assembly="1")


# --- the network ----------------------------------------------------------------------------------


def test_a_complex_of_one_chain_is_the_chain(structures: Path, embedder: Embedder) -> None:
    path = structures / "1a8o.cif"
    one, alone = embedder.embed(path, chains=["A"], pair=True), embedder.embed(path, pair=True)
    assert one.id == alone.id and one.pair is not None and alone.pair is not None
    for level in ("pair", "residue", "protein"):
        np.testing.assert_array_equal(getattr(one, level), getattr(alone, level))


def test_no_larger_step_between_chains_gives_another_embedding(
    embedder: Embedder, dimer: Chain, embedded: Embedding
) -> None:
    wider = replace(dimer, residue_index=dimer.residue_index + (dimer.chain_of_residue != "A") * 2**24)
    assert_same(embedder.embed(wider, pair=True), embedded)
    near = replace(dimer, residue_index=np.arange(len(dimer)))
    assert difference(embedder.embed(near).residue, embedded.residue).max() > 0.01


def test_strips_batches_and_turns_give_the_same_complex(
    embedder: Embedder, dimer: Chain, embedded: Embedding
) -> None:
    assert embedded.pair is not None and embedded.pair.shape == (140, 140, 64)
    assert_same(Embedder(device="cpu", memory_limit=1).embed(dimer, pair=True), embedded)
    moved = replace(dimer, ca_coords=turned(dimer.ca_coords, 3))
    for one in embedder.embed_batch([dimer, moved], pair=True):
        for level in ("protein", "residue", "pair"):
            a, b = getattr(one, level), getattr(embedded, level)
            assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max(), level


def test_the_partner_changes_residues_next_to_it(
    embedder: Embedder, dimer: Chain, embedded: Embedding
) -> None:
    alone = embedder.embed(replace(dimer, **one_of(dimer, "A")))
    coords = dimer.ca_coords
    nearest = np.linalg.norm(coords[:70, None] - coords[None, 70:], axis=-1).min(axis=1)
    changed = difference(alone.residue, embedded.residue[:70])
    assert changed[nearest < 10].mean() > 2 * changed[nearest > 20].mean()


def test_copies_of_a_symmetric_dimer_and_other_orders_are_nearly_alike(
    embedder: Embedder, dimer: Chain, embedded: Embedding
) -> None:
    """Convolutions cross the border between two chains, so that their order has an effect."""
    between = difference(embedded.residue[:70], embedded.residue[70:])
    assert np.median(between) < 0.01 and 0.05 < between.max() < 0.15 and between.argmax() in (0, 69)
    parts = [replace(dimer, **one_of(dimer, name)) for name in ("A-2", "A")]
    swapped = embedder.embed(join_chains(parts))
    order = np.r_[70:140, 0:70]
    assert np.median(difference(embedded.residue, swapped.residue[order])) < 0.05


def one_of(chain: Chain, name: str) -> dict[str, Any]:
    """Return the fields of one chain of a complex."""
    rows = chain.chain_of_residue == name
    arrays = ("ca_coords", "auth_seq", "insertion_code", "label_seq", "residue_name", "chain_of_residue")
    index = chain.residue_index[rows]
    return {
        "chain_id": name,
        "sequence": "".join(np.array(list(chain.sequence))[rows]),
        "residue_index": index - index[0],
        **{field: getattr(chain, field)[rows] for field in arrays},
    }


def test_heads_for_single_chains_refuse_a_complex(head: Path, embedder: Embedder, dimer: Chain) -> None:
    predictor = SitePredictor(head, embedder=embedder)
    message = r"1a8o_A\+A-2: the head 'tiny' was trained on single chains; predict for each on its own"
    with pytest.raises(EmbeddingError, match=message):
        predictor.predict(dimer)
    assert len(predictor.predict(replace(dimer, **one_of(dimer, "A")))) == 70


# --- files, stores, search, report ----------------------------------------------------------------


@pytest.mark.parametrize("command", ["sites", "quality", "predict"])
@pytest.mark.parametrize("option", ["--complex", "--assembly=1"])
def test_commands_of_predictors_tell_why_they_take_no_complex(
    protemb: Run, structures: Path, tmp_path: Path, command: str, option: str
) -> None:
    done = protemb(command, structures / "1a8o.cif", option, "-o", tmp_path / "x.csv")
    assert done.status == 1 and not list(tmp_path.iterdir())
    name = option.partition("=")[0]
    assert f"error: there is no {name}, because predictors are trained on single chains" in done.err


def test_many_complexes_are_embedded_by_workers_as_alone(structures: Path, embedder: Embedder) -> None:
    files = [structures / FIBRIL, structures / "1a8o.cif", structures / "1lcd.pdb.gz"]
    every: list[dict[str, Any]] = [{"workers": 2}, {"batch": 2}]
    for options in every:
        run = embedder.embed_many(
            [*files, gemmi.read_structure(str(files[0]))], chains="all", on_error="skip", **options
        )
        found = list(run)
        assert [one.chain_id for one in found] == ["A+B+C+D+E", "A", "A", "A+B+C+D+E"]
        alone = embedder.embed(files[0], chains="all")
        assert found[0].provenance["options"]["chains"] == "all" and len(run.skipped) == 2
        assert np.abs(found[0].residue - alone.residue).max() <= 1e-5 * np.abs(alone.residue).max()
    run = embedder.embed_many(files, chains=["A", "B"], on_error="skip")
    assert [one.chain_id for one in run] == ["A+B"] and "there is no chain 'B'" in run.skipped[0].reason
    assert "chains" not in embedder.embed(files[1]).provenance["options"]


def test_a_saved_complex_is_read_again(embedded: Embedding, tmp_path: Path) -> None:
    again = Embedding.load(embedded.save(tmp_path / "x.npz"))
    assert again.id == "1a8o_A+A-2" and again.chain.is_complex
    assert (again.chain_of_residue == embedded.chain_of_residue).all()
    assert (again.residue_index == embedded.residue_index).all() and not again.gap_after.any()
    table = again.to_dataframe()
    assert table["chain"].tolist() == ["A"] * 70 + ["A-2"] * 70


def test_files_of_older_versions_are_read(embedder: Embedder, chain_1a8o: Chain, tmp_path: Path) -> None:
    path = embedder.embed(chain_1a8o).save(tmp_path / "x.npz")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files if name != "chain_of_residue"}
    np.savez(tmp_path / "old.npz", **arrays)
    assert Embedding.load(tmp_path / "old.npz").chain_of_residue.tolist() == ["A"] * 70


def test_commands_write_complexes(protemb: Run, structures: Path, tmp_path: Path) -> None:
    path, out = structures / FIBRIL, tmp_path / "x.npz"
    done = protemb("embed", path, "-o", out, "--complex", "--pair")
    assert done.status == 0 and "2beg_A+B+C+D+E" in done.out and "1 embedding of 1 file" in done.out
    with np.load(out) as file:
        assert file["chain"].tolist() == ["A+B+C+D+E"] and file["pair"].shape == (130**2, 64)
        assert file["chain_of_residue"].tolist() == [name for name in "ABCDE" for _ in range(26)]
    out = tmp_path / "x.parquet"
    assert protemb("embed", path, "-o", out, "--complex", "--chain", "E", "--chain", "A").status == 0
    (row,) = pq.read_table(out).to_pylist()
    assert row["id"] == "2beg_E+A" and row["chain_of_residue"] == ["E"] * 26 + ["A"] * 26
    assert row["auth_seq"] == [*range(17, 43)] * 2
    out = tmp_path / "x.csv"
    assert protemb("profile", structures / "1a8o.cif", "-o", out, "--assembly", "1").status == 0
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [row["chain"] for row in rows] == ["A"] * 70 + ["A-2"] * 70
    assert {row["id"] for row in rows} == {"1a8o_A+A-2"}
    done = protemb("embed", path, "-o", tmp_path / "y.npz", "--chain", "A", "--chain", "B")
    assert done.status == 1 and "add --complex" in done.errors[0] and not (tmp_path / "y.npz").exists()
    done = protemb("embed", path, "-o", tmp_path / "y.npz", "--chain", "A", "--chain", "Z", "--complex")
    assert done.status == 1 and "there is no chain 'Z'" in done.err and not (tmp_path / "y.npz").exists()


def test_a_store_of_complexes_is_continued_verified_and_searched(
    protemb: Run, structures: Path, tmp_path: Path
) -> None:
    store, files = tmp_path / "store", [structures / name for name in (FIBRIL, "4zhl.cif.gz", "1orc.pdb")]
    assert protemb("embed", files[0], "-o", store, "--complex").status == 0
    assert "already in it: 1 input" in protemb("embed", *files, "-o", store, "--complex").out
    done = protemb("embed", *files, "-o", store)
    assert done.status == 1 and "use another folder" in done.errors[0]
    assert not verify_store(store).wrong and verify_store(store).rows == 3
    build_index(store, tmp_path / "index")
    assert sorted(open_index(tmp_path / "index").ids) == ["1orc_A", "2beg_A+B+C+D+E", "4zhl_U+P"]
    table = tmp_path / "hits.csv"
    done = protemb("search", files[1], "--index", tmp_path / "index", "--complex", "-o", table)
    assert done.status == 0 and "4zhl_U+P, 257 residues" in done.out
    with table.open() as file:
        first = next(csv.DictReader(file))
    assert (first["id"], first["chain"], first["tm_score"]) == ("4zhl_U+P", "U+P", "1.0000")


def test_complexes_of_a_program_go_into_a_store(embedder: Embedder, dimer: Chain, tmp_path: Path) -> None:
    assert embed_into_store(embedder, [dimer], tmp_path / "store").chains == 1
    (part,) = (tmp_path / "store").glob("*.parquet")
    assert pq.read_table(part)["id"].to_pylist() == ["1a8o_A+A-2"]


def test_the_report_and_the_picture_show_a_complex(
    protemb: Run, structures: Path, tmp_path: Path, embedded: Embedding
) -> None:
    page = tmp_path / "report.html"
    assert (
        protemb("report", structures / FIBRIL, structures / "1orc.pdb", "-o", page, "--complex").status == 0
    )
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    first = json.loads(found[1])["chains"][0]
    assert (first["id"], first["missing"], first["gap"]) == ("2beg_A+B+C+D+E", 0, [25, 51, 77, 103])
    assert first["numbers"][25:27] == ["A 42", "B 17"]
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    assert len(embedded.plot().axes[0].lines) == 2
    assert protemb("plot", structures / "4zhl.cif.gz", "--complex", "-o", tmp_path / "x.png").status == 0
