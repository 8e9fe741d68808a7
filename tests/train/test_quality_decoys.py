"""Models generated from natives: geometry, size of errors, labels and files; layouts of CASP data."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import ProtembError, read_chain
from protemb_sdk._structure.chain import ALPHABET
from protemb_train.corpus.alignment import aligned
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.downstream.quality import perturb
from protemb_train.downstream.quality.casp import compared, read_casp, read_target
from protemb_train.downstream.quality.decoys import (
    GLOBAL,
    KINDS,
    DecoyError,
    labelled,
    read_decoys,
    write_decoys,
)
from protemb_train.downstream.quality.generate import WAYS, Maker, Plan, decoys_of, generate
from protemb_train.downstream.quality.labels import lddt, superposed_scores

from .conftest import CorpusMaker


@pytest.fixture
def corpus(make_corpus: CorpusMaker, traces: list[Trace]) -> Corpus:
    """Two real chains and pieces of a long one; the first has a relative."""
    letters = ["".join(ALPHABET[t] for t in trace.residue_type) for trace in traces]
    long = int(np.argmax([len(s) for s in letters]))
    chains = [(letters[k], traces[k].ca_coords, k) for k in (0, 1)]
    relative = "".join("A" if i % 4 == 0 else c for i, c in enumerate(letters[0]))
    noise = np.random.default_rng(0).normal(size=traces[0].ca_coords.shape)
    chains.append((relative, traces[0].ca_coords + 1.2 * noise, 0))
    chains += [(letters[long][a:b], traces[long].ca_coords[a:b], 9 + a) for a, b in ((20, 95), (110, 182))]
    return make_corpus(chains)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_perturbation_gives_a_connected_chain(kind: str, corpus: Corpus) -> None:
    maker = Maker(corpus)
    rng = np.random.default_rng(3)
    for position in range(len(corpus)):
        native = corpus[position].ca_coords.astype(float)
        model = maker.one(position, kind, rng)
        assert model.shape == native.shape and np.isfinite(model).all()
        if kind == "natives":
            np.testing.assert_array_equal(model, native)
        if kind in ("natives", "noisy"):
            continue
        bonds = np.linalg.norm(np.diff(model, axis=0), axis=1)
        assert np.quantile(np.abs(bonds - perturb.BOND), 0.95) < 0.4
        near = np.linalg.norm(model[:, None] - model, axis=2)[np.triu_indices(len(model), 3)]
        assert (near < 3.5).mean() < 0.01  # a native has no such pairs
        assert superposed_scores(model, native).gdt_ts < 1


def test_kinds_equal_those_of_the_generator() -> None:
    assert list(WAYS) == list(KINDS)


def test_kinds_are_chosen_by_name(corpus: Corpus) -> None:
    made = list(decoys_of(Maker(corpus), 0, Plan(1, 6, kinds=("noisy", "coils"))))
    assert {d.source for d in made} == {"noisy", "coils"}
    assert max(d.gdt_ts for d in made if d.source == "coils") < 0.35
    with pytest.raises(DecoyError, match="there is no kind of models 'good'; available are homologs"):
        list(generate(corpus.path, Plan(1, 1, kinds=("good",))))


def test_perturbations_have_the_given_size(traces: list[Trace]) -> None:
    native = traces[1].ca_coords.astype(float)
    bent = [
        superposed_scores(perturb.hinged(native, d, np.random.default_rng(1)), native).gdt_ts
        for d in (2, 30, 150)
    ]
    assert bent[0] > bent[1] > bent[2]
    # A register shift moves residue i to the position of residue i + shift; other residues do not move.
    moved = perturb.register_shifted(native, 3, np.random.default_rng(2))
    same = np.flatnonzero((moved == native).all(axis=1))
    shifted = [i for i in range(len(native) - 3) if np.allclose(moved[i], native[i + 3])]
    assert len(shifted) >= 8 and len(same) >= len(native) // 3
    np.testing.assert_array_equal(
        perturb.threaded(np.array([2, -1, 0]), native), [native[2], [np.nan] * 3, native[0]]
    )


@settings(max_examples=25, deadline=None)
@given(st.integers(5, 60), st.integers(0, 10_000), st.floats(0, 0.8))
def test_regularised_connects_any_chain_with_one_known_position(length: int, seed: int, lost: float) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(length, 3)).cumsum(axis=0) * 2.5
    x[rng.random(length) < lost] = np.nan
    if not np.isfinite(x[:, 0]).any():
        x[0] = 0.0
    y = perturb.regularised(x)
    assert np.isfinite(y).all() and y.shape == x.shape
    before = np.linalg.norm(np.diff(x, axis=0), axis=1)
    after = np.abs(np.linalg.norm(np.diff(y, axis=0), axis=1) - perturb.BOND)
    known = np.isfinite(before)
    assert np.median(after) <= max(np.median(np.abs(before[known] - perturb.BOND)) if known.any() else 9, 0.3)


def test_a_chain_without_known_positions_is_refused() -> None:
    with pytest.raises(ValueError, match="no residue has a position"):
        perturb.regularised(np.full((5, 3), np.nan))


def test_alignment_finds_a_deletion() -> None:
    sequence = "MKTAYIAKQRQISFVKSHFSRQ"
    positions = aligned(sequence, sequence[:8] + sequence[11:])
    assert positions[:8].tolist() == list(range(8)) and positions[11:].tolist() == list(range(8, 19))
    assert (positions[8:11] == -1).all()


def test_generation_depends_only_on_seed_and_native(corpus: Corpus, tmp_path: Path) -> None:
    plan = Plan(natives=9, decoys=3, split="train", seed=1)
    maker = Maker(corpus)
    one, again = (list(decoys_of(maker, 0, plan)) for _ in range(2))
    assert len(one) == 3 and {d.source for d in one} <= set(KINDS) and all(d.made for d in one)
    for a, b in zip(one, again, strict=True):
        np.testing.assert_array_equal(a.ca_coords, b.ca_coords)
        assert a.gdt_ts == superposed_scores(b.ca_coords, corpus[0].ca_coords.astype(float)).gdt_ts or (
            abs(a.gdt_ts - b.gdt_ts) < 1e-6
        )
    for split in ("train", "val", "test"):
        try:
            found = [d for of in generate(corpus.path, Plan(9, 2, split), 1) for d in of]
        except DecoyError as error:
            assert "no chain of 50 to 220 residues" in str(error)
            continue
        assert {d.split for d in found} == {split}


def test_decoys_can_be_written_and_read(corpus: Corpus, tmp_path: Path) -> None:
    made = list(decoys_of(Maker(corpus), 1, Plan(1, 4)))
    path = tmp_path / "made.npz"
    write_decoys(made, path)
    for a, b in zip(made, read_decoys(path), strict=True):
        assert (a.id, a.target, a.source, a.split, a.sequence) == (
            b.id,
            b.target,
            b.source,
            b.split,
            b.sequence,
        )
        np.testing.assert_allclose(a.ca_coords - a.ca_coords.mean(axis=0), b.ca_coords, atol=0.0101)
        np.testing.assert_allclose(a.quality, b.quality, atol=1e-6)
        np.testing.assert_allclose(a.residue_quality, b.residue_quality, atol=0.0026)
        assert np.isnan(b.residue_quality[:, 1]).all() and np.isnan(b.quality[GLOBAL.index("cad")])
    with pytest.raises(DecoyError, match="contains no test models"):
        read_decoys(path, test=True)
    with pytest.raises(DecoyError, match="contains no training models of"):
        read_decoys(path, sources=["casp13"])


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut"])
def test_a_corrupt_file_of_models_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "decoys.npz"
    path.write_bytes(content)
    with pytest.raises(ProtembError, match=r"decoys\.npz: not a set of models"):
        read_decoys(path)
    with pytest.raises(ProtembError, match="the file does not exist"):
        read_decoys(tmp_path / "none.npz")


def test_a_native_has_perfect_scores_at_any_position(traces: list[Trace]) -> None:
    native = traces[0].ca_coords.astype(float)
    for there in (native, native + 1e6):
        own = labelled("n", "t", "s", "train", "A" * len(native), there, native)
        np.testing.assert_allclose(own.quality[:4], 1, atol=1e-6)
        np.testing.assert_allclose(own.residue_quality[:, 0], 1)


# --- CASP -------------------------------------------------------------------------------------------


def casp_folder(structures: Path, folder: Path) -> Path:
    """A CASP folder of 1A8O with four models: complete, truncated, of another protein, and unreadable."""
    (folder / "native").mkdir(parents=True)
    (folder / "decoys" / "T0001").mkdir(parents=True)
    native = (structures / "1a8o.pdb").read_text()
    (folder / "native" / "T0001.pdb").write_text(native)
    (folder / "native" / "T0002.pdb").write_text(native)
    models = folder / "decoys" / "T0001"
    (models / "whole_TS1.pdb").write_text(native)
    atoms = native.splitlines(keepends=True)
    cut = [a for a in atoms if not (a[:4] in ("ATOM", "HETA") and int(a[22:26]) > 200)]
    (models / "cut_TS1.pdb").write_text("".join(cut))
    (models / "other_TS1.pdb").write_text((structures / "1orc.pdb").read_text())
    (models / "broken_TS1.pdb").write_text("PFRMAT TS\nnothing\n")
    return folder


def test_a_casp_folder_and_its_tarball_give_equal_models(structures: Path, tmp_path: Path) -> None:
    folder = casp_folder(structures, tmp_path / "CASP99")
    found, left_out = read_casp(folder)
    by_name = {d.id: d for d in found}
    assert set(by_name) == {"whole_TS1", "cut_TS1"}
    assert by_name["whole_TS1"].gdt_ts == 1 and by_name["whole_TS1"].target == "CASP99/T0001"
    native = read_chain(structures / "1a8o.pdb")
    kept = len(by_name["cut_TS1"]) / len(native)
    assert 0.5 < kept < 1
    assert by_name["cut_TS1"].gdt_ts == pytest.approx(kept, abs=1e-6)  # missing residues count as wrong
    assert by_name["cut_TS1"].quality[GLOBAL.index("lddt")] == pytest.approx(kept, abs=1e-6)
    reasons = " ".join(left_out)
    assert "other_TS1" in reasons and "another protein" in reasons and "broken_TS1" in reasons
    assert "T0002: has no models" in reasons

    archive = tmp_path / "T0001.3D.srv.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for file in sorted((folder / "decoys" / "T0001").iterdir()):
            member = tarfile.TarInfo(f"T0001/{file.stem}")
            member.size = file.stat().st_size
            tar.addfile(member, io.BytesIO(file.read_bytes()))
    again, out = read_target(archive, folder / "native" / "T0001.pdb", "t", "s")
    assert sorted(d.id for d in again) == sorted(by_name) and len(out) == 2
    for d in again:
        np.testing.assert_array_equal(d.ca_coords, by_name[d.id].ca_coords)


def test_a_folder_without_natives_or_models_is_refused(tmp_path: Path, structures: Path) -> None:
    with pytest.raises(DecoyError, match=r"contains no native/TARGET\.pdb"):
        read_casp(tmp_path)
    (tmp_path / "native").mkdir()
    (tmp_path / "native" / "T1.pdb").write_text((structures / "1a8o.pdb").read_text())
    with pytest.raises(DecoyError, match=r"no model could be compared .*T1: has no models"):
        read_casp(tmp_path)
    (tmp_path / "T1.tar.gz").write_bytes(b"no tarball")
    with pytest.raises(DecoyError, match="not a tarball"):
        read_target(tmp_path / "T1.tar.gz", structures / "1a8o.pdb", "t", "s")


def test_renumbered_and_missing_residues_are_aligned(structures: Path) -> None:
    from dataclasses import replace

    native = read_chain(structures / "1a8o.pdb")
    renumbered = replace(native, auth_seq=native.auth_seq + 1000)
    assert compared(renumbered, native, "t", "s").gdt_ts == 1
    keep = np.r_[0:20, 30:70]
    cut = replace(
        native,
        sequence="".join(native.sequence[i] for i in keep),
        **{
            name: getattr(native, name)[keep]
            for name in (
                "ca_coords", "residue_index", "auth_seq", "insertion_code", "label_seq", "residue_name"
            )
        },
    )  # fmt: skip
    found = compared(native, cut, "t", "s")  # the native lacks residues
    assert np.isnan(found.residue_quality[20:30, 0]).all() and found.gdt_ts == 1
    np.testing.assert_allclose(found.residue_quality[keep, 0], 1)
    assert lddt(native.ca_coords[keep], cut.ca_coords).min() == 1


def test_a_single_residue_and_another_sequence_are_refused(structures: Path) -> None:
    from dataclasses import replace

    native = read_chain(structures / "1a8o.pdb")
    one = replace(
        native,
        sequence=native.sequence[:1],
        **{
            name: getattr(native, name)[:1]
            for name in (
                "ca_coords", "residue_index", "auth_seq", "insertion_code", "label_seq", "residue_name"
            )
        },
    )  # fmt: skip
    with pytest.raises(DecoyError, match="shares 1 residues"):
        compared(one, native, "t", "s")
    with pytest.raises(DecoyError, match="another protein"):
        compared(read_chain(structures / "1orc.pdb"), native, "t", "s")
