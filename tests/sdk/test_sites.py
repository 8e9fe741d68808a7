"""Predicted sites: values, inputs, tables and B-factors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest

from protemb_sdk import (
    Chain,
    ChainError,
    Embedder,
    EmbeddingError,
    OutputError,
    SitePrediction,
    SitePredictor,
    StructureError,
    read_chain,
    read_chains,
)
from protemb_sdk._model.heads import list_heads
from protemb_sdk._predict.b_factors import write_b_factors
from protemb_sdk._predict.predictor import expected_threshold

from .conftest import COLUMNS, table_of

Walk = Callable[..., tuple[np.ndarray, str]]
Make = Callable[..., Path]


@pytest.fixture(scope="module")
def predictor(head: Path, embedder: Embedder) -> SitePredictor:
    return SitePredictor(head, embedder=embedder)


# --- predictions ------------------------------------------------------------------------------------


def test_a_prediction_equals_the_output_of_the_head(
    predictor: SitePredictor, embedder: Embedder, structures: Path
) -> None:
    path = structures / "1a8o.cif"
    sites = predictor.predict(path)
    readouts = embedder.embed(path, readouts=predictor.info.readouts).readouts
    logit = np.mean([readouts[name] for name in predictor.info.readouts], axis=(0, 2), dtype=np.float64)
    np.testing.assert_allclose(sites.probability, 1 / (1 + np.exp(-logit)), rtol=0, atol=1e-6)
    assert sites.probability.dtype == np.float32 and sites.probability.shape == (70,) == (len(sites),)
    np.testing.assert_array_equal(sites.is_site, sites.probability >= 0.5)
    assert sites.threshold == 0.5 and sites.chain.id == sites.id == "1a8o_A"
    assert repr(sites) == f"SitePrediction(1a8o_A: {sites.is_site.sum()} sites of 70 residues, threshold 0.5)"
    assert sites.provenance["model"] == "base" and sites.provenance["head"] == "tiny"
    assert sites.provenance["head_sha256"] == predictor.info.sha256 and sites.provenance["threshold"] == 0.5


def test_chains_that_are_short_or_have_gaps_or_unknown_residues(
    predictor: SitePredictor, random_walk: Walk
) -> None:
    for length in (1, 3):
        assert len(predictor.predict(random_walk(length))) == length
    coords, _ = random_walk(30)
    sites = predictor.predict((coords, "X" * 30, np.arange(30) * 3))
    assert np.isfinite(sites.probability).all()


@pytest.mark.parametrize(
    ("probability", "count"), [([0.1, 0.8, 0.9, 0.3], 2), ([0.1, 0.2, 0.1], 0), ([0.9, 1.0], 2)]
)
def test_as_many_residues_are_called_as_expected(probability: list[float], count: int) -> None:
    values = np.array(probability, dtype=np.float32)
    assert (values >= np.float32(expected_threshold(values))).sum() == count


def test_a_head_without_a_threshold_calls_the_expected_number(
    make_head: Make, embedder: Embedder, chain_1a8o: Chain, tmp_path: Path
) -> None:
    predictor = SitePredictor(make_head(tmp_path / "h.onnx", threshold=None), embedder=embedder)
    sites = predictor.predict(chain_1a8o)
    assert predictor.threshold is None and sites.provenance["threshold"] is None
    assert sites.is_site.sum() == round(float(sites.probability.sum()))


def test_calling_almost_all_residues_or_none_is_noted(predictor: SitePredictor, chain_1a8o: Chain) -> None:
    sites = predictor.predict(chain_1a8o)
    probability = np.linspace(0, 1, 70, dtype=np.float32)
    half = replace(sites, threshold=0.5, probability=probability)
    assert half.notes == chain_1a8o.notes
    most = replace(half, threshold=0.0).notes[-1]
    assert most == "most residues are called sites (70 of 70); compare probabilities instead"
    assert (
        replace(half, threshold=float("inf")).notes[-1].startswith("few residues are called sites (0 of 70)")
    )


def test_a_probability_at_the_threshold_is_a_site(predictor: SitePredictor, chain_1a8o: Chain) -> None:
    sites = predictor.predict(chain_1a8o)
    at = replace(sites, threshold=0.3, probability=np.full(70, 0.3, dtype=np.float32))
    assert at.is_site.all()


def test_predict_many_keeps_the_order_with_and_without_workers(
    predictor: SitePredictor, structures: Path, tmp_path: Path
) -> None:
    inputs = [structures / "2beg.pdb.gz", tmp_path / "gone.pdb", structures / "1lcd.cif.gz"]
    here, there = (predictor.predict_many(inputs, workers=n, on_error="skip") for n in (1, 2))
    alone, together = list(here), list(there)
    assert [s.id for s in alone] == [s.id for s in together] == [f"2beg_{c}" for c in "ABCDE"] + ["1lcd_A"]
    assert here.skipped == there.skipped and [s.chain_id for s in here.skipped] == ["", "B", "C"]
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_allclose(a.probability, b.probability, rtol=0, atol=1e-5)
    with pytest.raises(StructureError, match=r"gone\.pdb: no such file"):
        list(predictor.predict_many(inputs))
    with predictor.predict_many(inputs) as run:
        next(run)
    assert list(run) == []


def test_a_head_without_valid_probabilities_is_an_error(
    make_head: Make, embedder: Embedder, tmp_path: Path, chain_1a8o: Chain
) -> None:
    for scale in (99.0, float("nan")):
        wrong = SitePredictor(make_head(tmp_path / "x.onnx", scale=scale), embedder=embedder)
        with pytest.raises(
            EmbeddingError, match="1a8o_A: the head 'tiny' gave no probability between 0 and 1 for each of 70"
        ):
            wrong.predict(chain_1a8o)
        with pytest.raises(EmbeddingError, match="gave no probability"):
            list(wrong.predict_many([chain_1a8o]))
        run = wrong.predict_many([chain_1a8o, chain_1a8o], on_error="skip")
        assert (
            list(run) == []
            and [(s.source, s.chain_id) for s in run.skipped] == [(chain_1a8o.source, "A")] * 2
        )


def test_a_chain_must_be_named_if_there_are_several(predictor: SitePredictor, structures: Path) -> None:
    with pytest.raises(ChainError, match="holds 5 protein chains"):
        predictor.predict(structures / "2beg.pdb.gz")
    assert predictor.predict(structures / "2beg.pdb.gz", "C").id == "2beg_C"


def test_the_bundled_head_reproduces_its_recorded_predictions(structures: Path) -> None:
    predictor = SitePredictor(device="cpu", threads=1)
    assert predictor.info.name == "sites" and predictor.threshold is None
    golden = np.array(predictor.card["golden"]["probability"])
    found = predictor.predict(structures / "1a8o.cif")
    np.testing.assert_allclose(found.probability[: len(golden)], golden, rtol=1e-3)
    assert found.probability.dtype == np.float32 and found.probability.shape == (70,)
    quality = predictor.card["quality"]
    assert set(quality) > {"Test_60", "Test_315"} and quality["Test_60"]["auprc"] > 0.4
    bands = [scores for name, scores in quality.items() if name.startswith("all, ")]
    assert len(bands) == 4
    for scores in bands:  # calibrated, and called as often as there are sites, at every length
        assert abs(scores["mean_probability"] - scores["prevalence"]) <= 0.02
        assert abs(scores["called"] - scores["prevalence"]) <= 0.05
    assert "sites" in [head.name for head in list_heads()]


def test_the_bundled_head_is_invariant_to_rotation_and_translation(structures: Path) -> None:
    predictor = SitePredictor(device="cpu", threads=1)
    chain = read_chain(structures / "1orc.pdb")
    turn = np.array([[0.0, -1.0, 0.0], [0.6, 0.0, -0.8], [0.8, 0.0, 0.6]])
    turned = replace(chain, ca_coords=chain.ca_coords @ turn.T + 1000.0)
    expected = predictor.predict(chain).probability
    np.testing.assert_allclose(predictor.predict(turned).probability, expected, atol=2e-3)
    # A mirror image is another fold, with other predictions.
    mirrored = replace(chain, ca_coords=chain.ca_coords * [1, 1, -1])
    assert np.abs(predictor.predict(mirrored).probability - expected).max() > 0.02


# --- tables -----------------------------------------------------------------------------------------


def test_a_table_contains_every_residue(predictor: SitePredictor, structures: Path, tmp_path: Path) -> None:
    sites = predictor.predict(structures / "4zhl.cif.gz", "U")
    path = sites.save_csv(str(tmp_path / "x.csv"))
    rows = table_of(path)
    assert list(rows[0]) == COLUMNS and len(rows) == len(sites)
    chain = sites.chain
    assert [int(r["auth_seq"]) for r in rows] == chain.auth_seq.tolist()
    assert [r["insertion_code"] for r in rows] == chain.insertion_code.tolist()
    assert [int(r["label_seq"]) for r in rows] == chain.label_seq.tolist()
    assert [r["residue_name"] for r in rows] == chain.residue_name.tolist()
    np.testing.assert_allclose([float(r["probability"]) for r in rows], sites.probability, atol=1e-6)
    assert [r["site"] == "1" for r in rows] == sites.is_site.tolist()
    assert table_of(predictor.predict((chain.ca_coords, chain.sequence)).save_csv(path))[0]["label_seq"] == ""
    with pytest.raises(OutputError, match="does not exist; make it first"):
        sites.save_csv(tmp_path / "no" / "x.csv")
    assert list(tmp_path.iterdir()) == [path]


# --- B-factors --------------------------------------------------------------------------------------


def made_up(path: Path, model: int = 1) -> list[SitePrediction]:
    """Return predictions with a different probability for every residue of every chain."""
    found = []
    for chain in read_chains(path, model_number=model).chains:
        values = np.random.default_rng(len(chain)).uniform(0.01, 1, len(chain)).astype(np.float32)
        found.append(
            SitePrediction(
                chain=chain,
                probability=values,
                threshold=0.5,
                provenance={"options": {"model": model}},
            )
        )
    return found


FILES = [
    "1a8o.cif", "1a8o.pdb", "3jqh.cif", "4zhl.cif.gz", "2beg.pdb.gz", "1orc.pdb", "4hhh_frag.pdb",
    "pdb1gdr.ent", "3wup.json.gz", "1lcd.cif.gz", "1lcd.pdb.gz",
]  # fmt: skip


@pytest.mark.parametrize("ending", [".pdb", ".cif", ".cif.gz", ".ent.gz"])
@pytest.mark.parametrize("name", FILES)
def test_b_factors_contain_the_probabilities(
    structures: Path, tmp_path: Path, name: str, ending: str
) -> None:
    predictions = made_up(structures / name)
    out = write_b_factors(structures / name, tmp_path / f"x{ending}", predictions)
    assert list(tmp_path.iterdir()) == [out]
    assert (out.read_bytes()[:2] == b"\x1f\x8b") == ending.endswith(".gz")
    written, read = gemmi.read_structure(str(out)), read_chains(out).chains
    assert [len(c) for c in read] == [len(p) for p in predictions]  # it is still the same structure
    for again, prediction in zip(read, predictions, strict=True):
        np.testing.assert_allclose(again.ca_coords, prediction.chain.ca_coords, atol=1e-3)
    expected = {
        (p.chain.chain_id, int(number), str(code)): round(100 * float(value), 2)
        for p in predictions
        for number, code, value in zip(p.chain.auth_seq, p.chain.insertion_code, p.probability, strict=True)
    }
    met = set()
    for number, model in enumerate(written):
        for chain in model:
            for residue in chain:
                key = (chain.name, residue.seqid.num, residue.seqid.icode.strip())
                own = number == 0 and any(atom.name == "CA" for atom in residue)
                wanted = expected.get(key, 0) if own else 0
                assert all(abs(atom.b_iso - wanted) < 0.006 for atom in residue), (key, residue.name)
                assert not any(atom.aniso.nonzero() for atom in residue)
                met |= {key} if wanted else set()
    assert met == set(expected)


def test_b_factors_of_another_model_and_of_one_chain(structures: Path, tmp_path: Path) -> None:
    source = structures / "1lcd.pdb.gz"
    (prediction,) = made_up(source, model=2)
    structure = gemmi.read_structure(str(write_b_factors(source, tmp_path / "x.pdb", [prediction])))
    largest = [max(a.b_iso for c in model for r in c for a in r) for model in structure]
    assert largest[0] == largest[2] == 0 and largest[1] > 90
    source = structures / "2beg.pdb.gz"
    only = made_up(source)[2]
    structure = gemmi.read_structure(str(write_b_factors(source, tmp_path / "x.pdb", [only, only])))
    assert [c.name for c in structure[0] if any(a.b_iso for r in c for a in r)] == ["C"]


@pytest.mark.parametrize(
    ("name", "model"), [("1a8o.cif", 1), ("4zhl.cif.gz", 1), ("2beg.pdb.gz", 1), ("1lcd.cif.gz", 2)]
)
def test_an_mmcif_declares_its_values_for_viewers(
    structures: Path, tmp_path: Path, name: str, model: int
) -> None:
    predictions = made_up(structures / name, model)
    block = gemmi.cif.read(
        str(write_b_factors(structures / name, tmp_path / "x.cif", predictions))
    ).sole_block()
    (metric,) = block.find("_ma_qa_metric.", ["id", "mode", "name", "type", "type_other_details"])
    assert list(map(gemmi.cif.as_string, metric))[:4] == ["1", "local", "protemb site probability", "other"]
    assert "0 to 1" in metric[4]
    tags = ["label_asym_id", "label_seq_id", "label_comp_id", "model_id", "metric_id", "metric_value"]
    rows = list(map(tuple, block.find("_ma_qa_metric_local.", tags)))
    atoms = block.find(
        "_atom_site.", [*tags[:3], "pdbx_PDB_model_num", "auth_asym_id", "auth_seq_id", "pdbx_PDB_ins_code"]
    )
    author = {tuple(atom)[:4]: tuple(atom)[4:] for atom in atoms}
    found = {author[row[:4]]: float(row[5]) for row in rows if row[4] == "1"}
    expected = {
        (p.chain.chain_id, str(number), str(code) or "?"): float(value)
        for p in predictions
        for number, code, value in zip(p.chain.auth_seq, p.chain.insertion_code, p.probability, strict=True)
    }
    assert len(rows) == len(found) and found == pytest.approx(expected, rel=1e-3)
    assert {row[3] for row in rows} == {str(model)}
    ordinal = list(block.find_values("_ma_qa_metric_local.ordinal_id"))
    assert ordinal == [str(n + 1) for n in range(len(rows))]


def test_one_author_number_in_two_label_chains(structures: Path, tmp_path: Path) -> None:
    """A ligand with a C-alpha atom and the number of a protein residue has a B-factor of 0."""
    structure = gemmi.read_structure(str(structures / "1a8o.cif"))
    structure.setup_entities()
    chain = structure[0]["A"]
    copy = chain[0].clone()
    copy.subchain, copy.entity_id, copy.het_flag, copy.entity_type = (
        "L",
        "9",
        "H",
        gemmi.EntityType.NonPolymer,
    )
    copy.name, copy.label_seq = "NLE", None
    for atom in copy:
        atom.pos.x += 50
    chain.add_residue(copy)
    path = tmp_path / "in.cif"
    structure.make_mmcif_document().write_file(str(path))
    (prediction,) = made_up(path)
    assert len(prediction) == 70
    out = gemmi.read_structure(str(write_b_factors(path, tmp_path / "x.cif", [prediction])))
    found = {r.subchain: r[0].b_iso for r in out[0]["A"] if r.seqid.num == chain[0].seqid.num}
    assert found["L"] == 0 and found["A"] > 0


def test_b_factors_of_another_structure_or_format_are_refused(structures: Path, tmp_path: Path) -> None:
    predictions = made_up(structures / "1a8o.cif")
    with pytest.raises(StructureError, match=r"1orc\.pdb: holds no residue 151 of chain 'A', which was pred"):
        write_b_factors(structures / "1orc.pdb", tmp_path / "x.pdb", predictions)
    with pytest.raises(OutputError, match=r"end the name in \.pdb or \.cif"):
        write_b_factors(structures / "1a8o.cif", tmp_path / "x.txt", predictions)
    with pytest.raises(StructureError, match="has no model 2"):
        write_b_factors(structures / "1a8o.cif", tmp_path / "x.pdb", made_up(structures / "1lcd.pdb.gz", 2))
    structure = gemmi.read_structure(str(structures / "1a8o.cif"))
    structure[0][0].name = "LONG"
    structure.make_mmcif_document().write_file(str(tmp_path / "long.cif"))
    long = made_up(tmp_path / "long.cif")
    with pytest.raises(OutputError, match=r"the chain name 'LONG' does not fit into PDB format; write \.cif"):
        write_b_factors(tmp_path / "long.cif", tmp_path / "x.pdb", long)
    assert write_b_factors(tmp_path / "long.cif", tmp_path / "x.cif", long).is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["long.cif", "x.cif"]
