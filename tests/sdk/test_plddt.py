"""Predicted models: where pLDDT is read from, what is never taken for it, and residues left out by it."""

from __future__ import annotations

import pickle
from pathlib import Path

import gemmi
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from protemb_sdk import Embedder, QualityScorer, StructureError, read_chain, read_chains
from protemb_sdk._cli.quality import profiles
from protemb_sdk._predict.b_factors import write_b_factors
from protemb_sdk._store.verify import verify_store

from .conftest import Run, table_of

ALPHAFOLD = "ALPHAFOLD MONOMER V2.0 PREDICTION FOR CRO REPRESSOR (P03040)"
LENGTH = 64
# Two decimals, as files have them.
VALUES = np.round(np.linspace(30, 98, LENGTH), 2)


def model_of(structures: Path, values: np.ndarray, title: str, method: str = "") -> gemmi.Structure:
    """Return 1orc as a model with B-factors by residue."""
    structure = gemmi.Structure()  # without the header of the crystal structure
    structure.add_model(gemmi.read_structure(str(structures / "1orc.pdb"))[0])
    structure.remove_ligands_and_waters()
    structure.info["_struct.title"] = title
    if method:
        structure.info["_exptl.method"] = method
    structure.setup_entities()
    for entity in structure.entities:
        entity.full_sequence = [residue.name for residue in structure[0]["A"]]
    structure.assign_label_seq_id()
    for residue, value in zip(structure[0]["A"], values, strict=True):
        for atom in residue:
            atom.b_iso = value
    return structure


def pdb(structures: Path, values: np.ndarray = VALUES, title: str = ALPHAFOLD, method: str = "") -> bytes:
    text: str = model_of(structures, values, title, method).make_pdb_string()
    assert title[:30] in text
    return text.encode()


def model_cif(
    structures: Path, kind: str, values: np.ndarray | None, b_factors: np.ndarray, mode: str = "local"
) -> gemmi.cif.Document:
    """Return an mmCIF with a metric by residue; with the table of its values if they are given."""
    document = model_of(structures, b_factors, "").make_mmcif_document()
    block = document.sole_block()
    metric = block.init_loop("_ma_qa_metric.", ["id", "mode", "name", "type"])
    metric.add_row(["1", "global", "score", "other"])
    metric.add_row(["2", mode, "score", gemmi.cif.quote(kind)])
    if values is not None:
        names = ["label_asym_id", "label_comp_id", "label_seq_id", "metric_id", "metric_value", "model_id"]
        table = block.init_loop("_ma_qa_metric_local.", [*names, "ordinal_id"])
        residues = block.find("_atom_site.", ["label_asym_id", "label_comp_id", "label_seq_id"])
        for number, row in enumerate(dict.fromkeys(map(tuple, residues))):
            table.add_row([*row, "2", f"{values[number]:.2f}", "1", str(number + 1)])
    return document


def plddt_of(source: object) -> np.ndarray | None:
    return read_chain(source).plddt


# --- where it is read from -----------------------------------------------------------------------------


def test_plddt_is_read_from_titles_and_from_metrics(structures: Path) -> None:
    other = np.full(LENGTH, 10.0)
    document = model_cif(structures, "pLDDT", VALUES, other)
    for source in (
        pdb(structures),
        model_of(structures, VALUES, ALPHAFOLD),
        document.as_string().encode(),
        document.as_json(mmjson=True).encode(),
        model_cif(structures, "pLDDT in [0,1]", VALUES / 100, other).as_string().encode(),
        model_cif(structures, "pLDDT", None, VALUES).as_string().encode(),  # as AlphaFold 2.3 writes it
        pdb(structures, VALUES / 100, "ESMFOLD V1 PREDICTION FOR INPUT"),
    ):
        found = plddt_of(source)
        assert found is not None and found.dtype == np.float32
        np.testing.assert_allclose(found, VALUES, atol=0.51)  # two decimals of a value below 1


def test_other_b_factors_are_never_taken_for_plddt(structures: Path) -> None:
    low, none = np.full(LENGTH, 0.5), np.zeros(LENGTH)
    for source in (
        pdb(structures, title="MODEL OF CRO"),
        pdb(structures, title="CRO, FROM AN ALPHAFOLD PREDICTION FOR A RELATIVE"),
        pdb(structures, method="X-RAY DIFFRACTION"),
        pdb(structures, title="SWISS-MODEL OF CRO", method="THEORETICAL MODEL"),
        pdb(structures, VALUES + 20),  # B-factors above 100
        pdb(structures, none),  # removed by a program
        model_cif(structures, "normalized score", low, VALUES).as_string().encode(),
        model_cif(structures, "other", None, VALUES).as_string().encode(),
        model_cif(structures, "pLDDT", None, VALUES, "global").as_string().encode(),
        model_cif(structures, "pLDDT", None, VALUES + 20).as_string().encode(),
        model_of(structures, VALUES, "MODEL OF CRO").make_mmcif_document().as_string().encode(),
    ):
        assert plddt_of(source) is None


def test_crystals_have_none(small_structure: Path) -> None:
    assert all(chain.plddt is None for chain in read_chains(small_structure).chains)


def test_values_of_models_of_alphafold_db(shared_data: Path) -> None:
    folder = shared_data / "structures" / "mixed"
    path = folder / "biojava_AF-V9WDR2-F1-model_v4.cif.gz"
    block = gemmi.cif.read(str(path)).sole_block()
    values = dict(block.find("_ma_qa_metric_local.", ["label_seq_id", "metric_value"]))
    chain = read_chain(path)
    assert chain.plddt is not None
    expected = [float(values[str(number)]) for number in chain.label_seq]
    np.testing.assert_array_equal(chain.plddt, np.array(expected, dtype=np.float32))
    found = plddt_of(folder / "biojava_AF-A0A0R4IYF1-F1-model_v2.pdb")
    assert found is not None and found[0] == np.float32(39.14)


# --- residues below a limit ----------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(low=st.sets(st.integers(0, LENGTH - 1), max_size=LENGTH - 3))
def test_a_low_residue_is_read_as_one_without_c_alpha(structures: Path, low: set[int]) -> None:
    values = np.where(np.isin(np.arange(LENGTH), list(low)), 40.0, 90.0)
    text = pdb(structures, values)
    lines = text.splitlines(keepends=True)
    is_low = [
        line.startswith(b"ATOM") and line[12:16] == b" CA " and line[60:66] == b" 40.00" for line in lines
    ]
    removed = b"".join(line for line, gone in zip(lines, is_low, strict=True) if not gone)
    assert sum(is_low) == len(low)
    chain, expected = read_chain(text, min_plddt=70), read_chain(removed)
    assert chain.sequence == expected.sequence
    for name in ("ca_coords", "residue_index", "auth_seq", "label_seq", "residue_name", "plddt"):
        np.testing.assert_array_equal(getattr(chain, name), getattr(expected, name), err_msg=name)
    # The limit itself is not below it.
    np.testing.assert_array_equal(read_chain(text, min_plddt=40).ca_coords, read_chain(text).ca_coords)


def test_what_is_left_out_is_noted(structures: Path) -> None:
    values = np.full(LENGTH, 90.0)
    values[20] = 69.99
    (note,) = read_chain(pdb(structures, values), min_plddt=70).notes
    assert note == "1 residue with pLDDT below 70 is left out"
    values[30:41] = 12
    chain = read_chain(pdb(structures, values), min_plddt=70)
    assert chain.notes == ("12 residues with pLDDT below 70 are left out",)
    assert len(chain) == LENGTH - 12 and chain.residue_index[-1] == LENGTH - 1


def test_what_is_no_predicted_model_is_an_error_or_used_whole(structures: Path) -> None:
    with pytest.raises(StructureError, match="does not say that it is a predicted model with pLDDT, so"):
        read_chain(pdb(structures, title="MODEL"), min_plddt=70)
    for name in ("1a8o.pdb", "1a8o.cif", "3wup.json.gz", "3jqh.bcif.gz"):
        (chain,), (whole,) = (read_chains(structures / name, min_plddt=limit).chains for limit in (70, None))
        assert len(chain) == len(whole)
        assert chain.notes[-1] == "an experimental structure, used whole: it has no pLDDT", name
    experiment = gemmi.read_structure(str(structures / "1a8o.cif"))
    assert "experimental" in read_chain(experiment, min_plddt=70).notes[-1]
    arrays = (whole.ca_coords, whole.sequence)
    assert len(read_chain(arrays, min_plddt=70)) == len(read_chain(whole, min_plddt=70)) == len(whole)


def test_a_chain_that_is_low_altogether_is_skipped(structures: Path) -> None:
    with pytest.raises(StructureError, match=r"chain A: has no residue with pLDDT of 99 or more\)"):
        read_chain(pdb(structures), min_plddt=99)
    values = np.full(LENGTH, 50.0)
    values[:2] = 90
    (skipped,) = read_chains(pdb(structures, values), min_plddt=70).skipped
    assert skipped.reason == "has 2 residues with pLDDT of 70 or more, fewer than min_residues=3"


@pytest.mark.parametrize("limit", [-1, 100.5, float("nan"), "70", True])
def test_a_limit_is_a_number_from_0_to_100(structures: Path, limit: object) -> None:
    with pytest.raises(StructureError, match=r"min_plddt=.*: pass a number from 0 to 100"):
        Embedder(device="cpu", min_plddt=limit)  # type: ignore[arg-type]
    with pytest.raises(StructureError, match=r"min_plddt=.*: pass a number from 0 to 100"):
        read_chain(structures / "1a8o.cif", min_plddt=limit)


# --- embeddings, stores and commands -------------------------------------------------------------------


@pytest.fixture
def predicted(structures: Path, tmp_path: Path) -> Path:
    path = tmp_path / "predicted.pdb"
    path.write_bytes(pdb(structures))
    return path


def test_the_limit_is_kept_with_results(predicted: Path, tmp_path: Path) -> None:
    embedder = Embedder(device="cpu", threads=1, min_plddt=70)
    again = pickle.loads(pickle.dumps(embedder))
    expected = int((VALUES >= 70).sum())
    assert len(embedder.embed(predicted)) == len(again.embed(predicted)) == expected
    options = {"model": 1, "altloc": "highest", "min_residues": 3, "min_plddt": 70}
    assert embedder.provenance["options"] == again.provenance["options"] == options


def test_a_store_is_of_one_limit(protemb: Run, predicted: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    store = tmp_path / "store"
    done = protemb("embed", predicted, "-o", store, "--min-plddt", "70", "--threads", "1")
    assert done.status == 0, done.errors
    verified = verify_store(store, threads=1)
    assert (verified.rows, verified.wrong, verified.missing) == (1, [], [])
    done = protemb("embed", predicted, "-o", store, "--threads", "1")
    assert done.status == 1 and "a store with options" in done.errors[0] and "min_plddt" in done.errors[0]


def test_quality_shows_plddt_beside_the_score(
    protemb: Run, predicted: Path, structures: Path, tmp_path: Path
) -> None:
    ranking, residues = tmp_path / "ranking.csv", tmp_path / "residues.csv"
    inputs = (predicted, structures / "1orc.pdb")
    done = protemb("quality", *inputs, "-o", ranking, "--residues", residues, "--threads", "1")
    assert done.status == 0 and "pLDDT" in done.out and "64.00" in done.out
    rows = {Path(row["source"]).stem: row["plddt"] for row in table_of(ranking)}
    assert rows == {"predicted": "64.00", "1orc": ""}
    by_residue = [row["plddt"] for row in table_of(residues) if "predicted" in row["source"]]
    assert by_residue == [f"{value:.2f}" for value in VALUES]
    assert {row["plddt"] for row in table_of(residues) if "1orc" in row["source"]} == {""}
    done = protemb("quality", *inputs, "-o", ranking, "--min-plddt", "70", "--threads", "1")
    low = int((VALUES < 70).sum())
    said = " ".join(done.err.split())
    assert f"predicted_A: {low} residues with pLDDT below 70 are left out" in said
    assert "1orc_A: an experimental structure" in said
    assert "sequence" not in said  # residues are missing, but it is one protein
    assert sorted(row["residues"] for row in table_of(ranking)) == sorted([str(LENGTH - low), str(LENGTH)])


def test_a_copy_with_scores_as_b_factors_has_no_plddt(predicted: Path, tmp_path: Path) -> None:
    score = QualityScorer(device="cpu", threads=1).score(predicted)
    assert score.plddt == pytest.approx(64) and score.residue_plddt is not None
    for name in ("copy.pdb", "copy.cif"):
        assert plddt_of(write_b_factors(predicted, tmp_path / name, [score])) is None
    block = gemmi.cif.read(str(tmp_path / "copy.cif")).sole_block()
    kind, name = (gemmi.cif.as_string(block.find_value(f"_ma_qa_metric.{tag}")) for tag in ("type", "name"))
    assert kind == "pLDDT" and "pLDDT" in name  # Mol* colours by a name that holds it
    values = np.array(block.find_values("_ma_qa_metric_local.metric_value"), dtype=float)
    np.testing.assert_allclose(values, 100 * score.residue_lddt, rtol=1e-3)
    assert plddt_of(gemmi.read_structure(str(tmp_path / "copy.pdb"))) is None


def test_profiles_are_drawn_over_author_numbers(structures: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    values = np.full(LENGTH, 90.0)
    values[[9, 10, 11, 13, 14]] = 20  # residue 12, counted from 0, is alone
    score = QualityScorer(device="cpu", threads=1, min_plddt=70).score(pdb(structures, values))
    (axes,) = profiles([score]).axes
    (line,) = axes.lines
    x, y = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
    there = np.isfinite(y)
    inserted = np.cumsum(score.chain.insertion_code != "")
    np.testing.assert_array_equal(x[there], score.chain.auth_seq + inserted)
    np.testing.assert_array_equal(np.diff(x[there])[-10:], 1)  # also of 56, 56A, 56B ...
    ticks = dict(zip((t.get_text() for t in axes.get_xticklabels()), axes.get_xticks(), strict=True))
    assert ticks["50"] == 50 and ticks["60"] == 65
    np.testing.assert_array_equal(y[there], score.residue_lddt)
    assert np.flatnonzero(~there).tolist() == [9, 11]
    assert line.get_markevery() == [10] and axes.get_xlabel() == "author residue number"
