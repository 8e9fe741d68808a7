"""Quality scores of models: values, unusual inputs, ranking, tables, profiles and B-factors."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import gemmi
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from protemb_sdk import (
    Chain,
    Embedder,
    EmbeddingError,
    ModelError,
    OutputError,
    QualityScore,
    QualityScorer,
    SitePredictor,
    StructureError,
    read_chain,
)
from protemb_sdk._cli.quality import missing, profiles, score_files, spark

from .conftest import table_of

Walk = Callable[..., tuple[np.ndarray, str]]


@pytest.fixture(scope="module")
def scorer() -> QualityScorer:
    return QualityScorer(embedder=Embedder("base", "cpu", threads=1))


def kept(chain: Chain, rows: np.ndarray) -> Chain:
    names = ("ca_coords", "residue_index", "auth_seq", "insertion_code", "label_seq", "residue_name")
    arrays = {name: getattr(chain, name)[rows] for name in names}
    return replace(chain, sequence="".join(chain.sequence[i] for i in rows), **arrays)


def noisy(chain: Chain, angstrom: float, seed: int = 0) -> Chain:
    noise = np.random.default_rng(seed).normal(size=chain.ca_coords.shape)
    return replace(chain, ca_coords=chain.ca_coords + angstrom * noise, name=f"noise-{angstrom:g}")


def test_scores_decrease_with_added_noise(scorer: QualityScorer, structures: Path) -> None:
    for file in ("1orc.pdb", "4zhl.cif.gz", "3wup.json.gz"):
        native = read_chain(structures / file, "U" if file.startswith("4") else None)
        scores = [scorer.score(native), *(scorer.score(noisy(native, s)) for s in (1.5, 6.0))]
        assert scores[0].gdt_ts > scores[1].gdt_ts > scores[2].gdt_ts
        assert scores[0].lddt > scores[1].lddt > scores[2].lddt
        assert scores[0].gdt_ts > 0.5 and scores[2].gdt_ts < 0.35
        one = scores[0]
        assert (
            one.residue_lddt.shape == (len(native),) == (len(one),) and one.residue_lddt.dtype == np.float32
        )
        assert ((one.residue_lddt >= 0) & (one.residue_lddt <= 1)).all()
        assert abs(float(one.residue_lddt.mean()) - one.lddt) < 0.15
        assert repr(one) == (
            f"QualityScore({one.id}: GDT_TS {one.gdt_ts:.2f}, lDDT {one.lddt:.2f}, {len(one)} residues)"
        )
        assert one.provenance["head"] == "quality" and one.provenance["model"] == scorer.embedder.model.name


def test_scores_are_invariant_to_rotation_and_translation(scorer: QualityScorer, structures: Path) -> None:
    native = read_chain(structures / "1orc.pdb")
    here = scorer.score(native)
    turn = Rotation.from_euler("xyz", [0.5, 1.0, 2.0])
    for moved in (turn.apply(native.ca_coords), native.ca_coords + 1e6):
        there = scorer.score(replace(native, ca_coords=moved))
        np.testing.assert_allclose(there.residue_lddt, here.residue_lddt, atol=1e-3)
        assert there.gdt_ts == pytest.approx(here.gdt_ts, abs=1e-3)


def test_a_wrong_sequence_lowers_the_score(scorer: QualityScorer, structures: Path) -> None:
    """A threading error: the sequence is shifted by 20 residues."""
    native = read_chain(structures / "4zhl.cif.gz", "U")
    shifted = replace(native, sequence=native.sequence[20:] + native.sequence[:20])
    assert scorer.score(native).gdt_ts > scorer.score(shifted).gdt_ts


@pytest.mark.parametrize("count", [1, 2, 9])
def test_fewer_than_10_residues_cannot_be_scored(scorer: QualityScorer, structures: Path, count: int) -> None:
    native = read_chain(structures / "1orc.pdb")
    with pytest.raises(EmbeddingError, match=r"no fold to judge; pass a model of at least 10"):
        scorer.score(kept(native, np.arange(count)))
    assert 0 < scorer.score(kept(native, np.arange(10))).gdt_ts < 1


def test_chains_with_missing_or_unknown_residues_are_scored(
    scorer: QualityScorer, structures: Path, random_walk: Walk
) -> None:
    native = read_chain(structures / "1orc.pdb")
    gap = scorer.score(kept(native, np.r_[0:25, 33 : len(native)]))
    assert missing(gap) == 8 and len(gap) == len(native) - 8
    assert scorer.score(replace(native, sequence="X" * len(native))).gdt_ts < scorer.score(native).gdt_ts
    for length in (80, 100, 200):
        assert scorer.score(random_walk(length)).gdt_ts < 0.35
    # Shorter random walks have higher scores: 0.54 at 40 residues (guide to model quality).
    for length in (40, 60):
        assert scorer.score(random_walk(length)).gdt_ts < min(0.55, scorer.score(native).gdt_ts - 0.35)
    collapsed = (np.full((30, 3), 7.0), "A" * 30)  # at the origin they would count as missing
    assert 0 <= scorer.score(collapsed).gdt_ts <= 1


def test_score_many_equals_single_scores(scorer: QualityScorer, structures: Path) -> None:
    files = [structures / "1a8o.cif", structures / "1orc.pdb"]
    with scorer.score_many([*files, structures / "README.md"], on_error="skip") as run:
        found = list(run)
    for one, file in zip(found, files, strict=True):
        assert one.gdt_ts == pytest.approx(scorer.score(file).gdt_ts, abs=1e-6)
    assert [s.source.endswith("README.md") for s in run.skipped] == [True]


def test_heads_of_the_other_kind_are_refused(embedder: Embedder) -> None:
    with pytest.raises(ModelError, match="is a head for 'sites'; a head for 'quality' is needed here"):
        QualityScorer("sites", embedder=embedder)
    with pytest.raises(ModelError, match="is a head for 'quality'; a head for 'sites' is needed here"):
        SitePredictor("quality", embedder=embedder)


# --- the command ------------------------------------------------------------------------------------


@pytest.fixture
def folder(structures: Path, tmp_path: Path) -> Path:
    """Return three models of one target: the crystal structure, and two with little and much noise."""
    folder = tmp_path / "models"
    folder.mkdir()
    for name, noise in (("good", 0.0), ("fair", 2.0), ("bad", 8.0)):
        structure = gemmi.read_structure(str(structures / "1orc.pdb"))
        rng = np.random.default_rng(1)
        for chain in structure[0]:
            for residue in chain:
                step = gemmi.Position(*(noise * rng.normal(size=3)))
                for atom in residue:
                    atom.pos += step
        structure.write_pdb(str(folder / f"{name}.pdb"))
    return folder


DEFAULTS = {
    "residues": None,
    "plot": None,
    "structures": None,
    "head": "quality",
    "device": "cpu",
    "threads": 1,
    "workers": 1,
    "quiet": False,
}


def test_a_folder_is_ranked_and_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    outs = {name: tmp_path / f"out.{name}" for name in ("csv", "png")}
    copies = tmp_path / "copies"
    residues = tmp_path / "residues.csv"
    score_files(
        [folder],
        out=outs["csv"],
        **DEFAULTS | {"residues": residues, "plot": outs["png"], "structures": copies},  # type: ignore[arg-type]
    )
    printed = capsys.readouterr().out
    rows = table_of(outs["csv"])
    assert [Path(r["source"]).stem for r in rows] == ["good", "fair", "bad"]
    assert [r["rank"] for r in rows] == ["1", "2", "3"]
    lines = [line for line in printed.splitlines() if any(bar in line for bar in "▁▂▃▄▅▆▇█")]
    assert [line.split()[1] for line in lines] == ["good_A", "fair_A", "bad_A"]
    assert outs["png"].read_bytes()[:4] == b"\x89PNG"
    every = table_of(residues)
    assert len(every) == sum(int(r["residues"]) for r in rows)
    # The copies carry lDDT in percent on every atom of a residue.
    good = [r for r in every if Path(r["source"]).stem == "good"]
    structure = gemmi.read_structure(str(copies / "good.pdb"))
    by_number = {(r.seqid.num, r.seqid.icode.strip()): {a.b_iso for a in r} for r in structure[0]["A"]}
    for row in good:
        (value,) = by_number[int(row["auth_seq"]), row["insertion_code"]]
        assert value == pytest.approx(100 * float(row["lddt"]), abs=0.011)
    assert sorted(p.name for p in copies.iterdir()) == ["bad.pdb", "fair.pdb", "good.pdb"]


def test_other_sequences_and_missing_residues_are_reported(
    folder: Path, structures: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    structure = gemmi.read_structure(str(folder / "fair.pdb"))
    del structure[0]["A"][20:25]
    structure.write_pdb(str(folder / "gap.pdb"))
    (folder / "other.pdb").write_bytes((structures / "1a8o.pdb").read_bytes())
    (folder / "empty.pdb").write_text("")
    score_files([folder], out=tmp_path / "o.csv", **DEFAULTS | {"quiet": True})  # type: ignore[arg-type]
    terminal = capsys.readouterr()
    messages = " ".join(terminal.err.split())
    assert terminal.out == ""
    assert "1 of 5 chains differ from the most frequent sequence (such as other_A)" in messages
    assert "1 of 5 chains lack residues inside, up to 5" in messages
    assert "empty.pdb" in messages


def test_invalid_inputs_and_outputs_are_refused(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="needs its own file"):
        score_files([folder], out=tmp_path / "a", **DEFAULTS | {"residues": tmp_path / "a"})  # type: ignore[arg-type]
    with pytest.raises(OutputError, match="would overwrite the input"):
        score_files([folder], out=None, **DEFAULTS | {"structures": folder})  # type: ignore[arg-type]
    nested = folder / "again"
    nested.mkdir()
    (nested / "good.pdb").write_bytes((folder / "good.pdb").read_bytes())
    with pytest.raises(OutputError, match="several inputs have this name"):
        score_files(
            [folder / "good.pdb", nested],
            out=None,
            **DEFAULTS | {"structures": tmp_path / "c"},  # type: ignore[arg-type]
        )
    (tmp_path / "no.pdb").write_text("nothing")
    with pytest.raises(StructureError):
        score_files([tmp_path / "no.pdb"], out=tmp_path / "n.csv", **DEFAULTS)  # type: ignore[arg-type]
    assert not (tmp_path / "n.csv").exists()
    with pytest.raises(OutputError, match="the folder cannot be made"):
        score_files([folder / "good.pdb"], out=None, **DEFAULTS | {"structures": tmp_path / "no.pdb" / "x"})  # type: ignore[arg-type]
    (tmp_path / "no2.pdb").write_text("nothing")
    with pytest.raises(StructureError, match="none of the 2 inputs could be scored"):
        score_files([tmp_path / "no.pdb", tmp_path / "no2.pdb"], out=tmp_path / "n.csv", **DEFAULTS)  # type: ignore[arg-type]
    assert not (tmp_path / "n.csv").exists()


def test_a_long_ranking_is_truncated_in_the_terminal(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("protemb_sdk._cli.quality.SHOWN", 1)
    score_files([folder / "good.pdb", folder / "bad.pdb"], out=None, **DEFAULTS)  # type: ignore[arg-type]
    terminal = capsys.readouterr().out
    assert (
        "good_A" in terminal
        and "bad_A" not in terminal
        and "and 1 more; --out writes all of them" in terminal
    )


def test_profiles_show_the_residue_scores(scorer: QualityScorer, structures: Path) -> None:
    pytest.importorskip("matplotlib")
    score = scorer.score(structures / "1orc.pdb")
    assert len(spark(score)) == 30
    low = replace(score, residue_lddt=np.linspace(0, 1, len(score), dtype=np.float32))
    assert spark(low)[0] == "▁" and spark(low)[-1] == "█"
    assert (
        len(spark(replace(low, residue_lddt=low.residue_lddt[:3], chain=kept(low.chain, np.arange(3))))) == 3
    )
    (axes,) = profiles([score, low]).axes
    assert len(axes.lines) == 2 and isinstance(low, QualityScore)
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), score.residue_lddt)


def test_missing_matplotlib_is_reported_before_scoring(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.delitem(sys.modules, "protemb_sdk._base.figure", raising=False)
    with pytest.raises(OutputError, match=r"pip install '\.\[plot\]'"):
        score_files([folder], out=tmp_path / "x.csv", **DEFAULTS | {"plot": tmp_path / "x.png"})  # type: ignore[arg-type]
    assert not list(tmp_path.glob("x.*"))
