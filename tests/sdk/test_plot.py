"""Pictures: colours follow the principal components, files are images, errors say what to do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import (
    Chain,
    Embedder,
    EmbeddingError,
    OutputError,
    QualityScorer,
    SitePredictor,
    cli,
    read_chain,
)
from protemb_sdk._cli.plot import _targets
from protemb_sdk._embed.picture import _ticks
from protemb_sdk._structure.fold import fold_of
from protemb_sdk.plot import picture, principal_colours, save_picture

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")
from matplotlib.patches import Rectangle, StepPatch


def test_first_colour_follows_the_direction_of_largest_variance() -> None:
    rng = np.random.default_rng(0)
    wide = rng.normal(size=500) * 10
    features = np.stack([rng.normal(size=500), wide, rng.normal(size=500), rng.normal(size=500)], axis=1)
    colours = principal_colours(features.astype(np.float32))
    assert colours.shape == (500, 3)
    assert colours.min() == 0.0
    assert colours.max() == 1.0
    assert abs(np.corrcoef(colours[:, 0], wide)[0, 1]) > 0.97


def test_constant_features_have_one_colour() -> None:
    assert np.ptp(principal_colours(np.ones((10, 4), dtype=np.float32)), axis=0).max() == 0
    for wrong in (np.ones(4), np.ones((0, 4)), np.ones((2, 2, 2))):
        with pytest.raises(EmbeddingError, match=r"colours need embeddings of shape \(N, C\), not"):
            principal_colours(wrong.astype(np.float32))


def test_picture_of_a_real_chain(structures: Path, tmp_path: Path) -> None:
    embedding = Embedder(device="cpu").embed(structures / "1a8o.cif", pair=True)
    path = save_picture(embedding, tmp_path / "picture.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    assert path.stat().st_size > 20_000
    assert list(tmp_path.iterdir()) == [path]


def test_picture_needs_the_pair_level(structures: Path, tmp_path: Path) -> None:
    embedding = Embedder(device="cpu").embed(structures / "1a8o.cif")
    with pytest.raises(EmbeddingError, match="pair=True"):
        save_picture(embedding, tmp_path / "picture.png")
    assert not list(tmp_path.iterdir())


def test_picture_into_a_missing_folder_is_an_error(structures: Path, tmp_path: Path) -> None:
    embedding = Embedder(device="cpu").embed(structures / "1a8o.cif", pair=True)
    with pytest.raises(OutputError, match="does not exist"):
        save_picture(embedding, tmp_path / "nowhere" / "picture.png")


def test_profiles_are_drawn_with_author_numbers(structures: Path) -> None:
    embedder = Embedder(device="cpu")
    embedding = embedder.embed(structures / "1orc.pdb", pair=True)
    sites = SitePredictor(device="cpu").predict(embedding.chain)
    quality = QualityScorer(device="cpu").score(embedding.chain)
    alone, figure = embedding.plot(), picture(embedding, sites, quality)
    assert len(figure.axes) == len(alone.axes) + 2
    figure.draw_without_rendering()
    labels = {label.get_text() for label in figure.axes[0].get_xticklabels()} - {""}
    names = {f"{n}{c}" for n, c in zip(embedding.auth_seq, embedding.insertion_code, strict=True)}
    assert labels and labels <= names
    for axes in figure.axes[3:5]:  # all bars have one width, also the first and the last
        for bars in axes.patches:
            assert isinstance(bars, StepPatch)
            np.testing.assert_array_equal(bars.get_data()[1], np.arange(len(embedding) + 1) - 0.5)
    of_residues, of_chain = figure.axes[4].get_title(loc="left").split("; ")
    assert of_residues == "expected lDDT of each residue"
    assert of_chain == f"of the whole chain {quality.lddt:.2f}"  # which is not the mean of the bars
    with pytest.raises(EmbeddingError, match="the profile is of another chain"):
        picture(embedder.embed(structures / "1a8o.cif", pair=True), sites)


def test_ticks_are_round_numbers_and_name_each_chain_of_a_complex(structures: Path) -> None:
    embedding = Embedder(device="cpu").embed(structures / "1a8o.cif", pair=True)
    axes, bar = embedding.plot().axes[0], embedding.plot().axes[-1]
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert shown == ["160", "170", "180", "190", "200", "210", "220"]
    places = axes.get_xticks().astype(int)
    np.testing.assert_array_equal(embedding.auth_seq[places], np.arange(160, 221, 10))
    coords = embedding.chain.ca_coords
    most = np.linalg.norm(coords[:, None] - coords, axis=-1).max()
    assert most <= bar.get_ylim()[1] < most + 5  # no white that the map does not have
    together = Embedder(device="cpu", chains="all").embed(structures / "4zhl.cif.gz", pair=True)
    shown = [label.get_text() for label in together.plot().axes[0].get_xticklabels()]
    assert shown == ["U 16", "U 50", "U 100", "U 150", "U 200", "P 1"]
    dimer = read_chain(structures / "1a8o.cif", assembly="1", chains="all")
    distances, pair, strip, _ = Embedder(device="cpu").embed(dimer, pair=True).plot().axes
    assert {axes.get_xlabel() for axes in (distances, pair, strip)} == {"residue number"}
    assert distances.get_ylabel() == "residue number"
    assert [len(axes.get_xticks()) for axes in (distances, strip)] == [7, 13]


@pytest.mark.parametrize("length", [1, 2, 9, 70, 431, 3000])
def test_ticks_have_room(length: int) -> None:
    coords = np.random.default_rng(0).normal(size=(length, 3)) * 50
    chain = Chain.from_arrays(coords, "A" * length, name="x")
    many = replace(chain, chain_of_residue=(np.arange(length) // 2).astype(str))
    for one in (chain, many):
        places = _ticks(one)
        assert len(_ticks(one, 16)) >= len(places)
        assert places and len(places) <= 15
        assert np.diff(places).min(initial=length) >= max(1, length / 14)
        assert one.is_complex or length < 10 or len(places) >= 4


def test_residues_of_a_strip_are_named_and_their_fold_is_shown(structures: Path) -> None:
    embedding = Embedder(device="cpu").embed(structures / "1orc.pdb", pair=True)
    strip = embedding.plot().axes[2]
    assert "".join(text.get_text() for text in strip.texts) == embedding.sequence
    broken = np.append(np.diff(embedding.residue_index) > 1, False)
    fold = fold_of(embedding.chain.ca_coords, broken)
    marked = sorted(round(bar.get_x() + 0.5) for bar in strip.patches if isinstance(bar, Rectangle))
    assert marked == [i for i, kind in enumerate(fold) if kind != "-"]
    legend = strip.get_legend()
    assert legend is not None and [text.get_text() for text in legend.get_texts()] == ["helix", "strand"]


def test_the_command_draws_ten_chains(
    structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {"1a8o.cif": "A", "1lcd.cif.gz": "A", "1orc.pdb": "A", "3jqh.cif": "A", "4zhl.cif.gz": "U"}
    chains = [*files.items(), *(("2beg.pdb.gz", chain) for chain in "ABCDE")]
    for number, (name, chain) in enumerate(chains):
        out = tmp_path / f"{number}.png"
        arguments = ["plot", str(structures / name), "--chain", chain, "-o", str(out), "--device", "cpu"]
        monkeypatch.setattr(sys, "argv", ["protemb", *arguments])
        with pytest.raises(SystemExit) as done:
            cli.main()
        assert not done.value.code and capsys.readouterr().out.strip() == str(out)
        assert out.read_bytes().startswith(b"\x89PNG")
    arguments = ["plot", str(structures / "1orc.pdb"), "-o", str(tmp_path / "x.txt")]
    monkeypatch.setattr(sys, "argv", ["protemb", *arguments])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 1 and "use the extension of an image format" in capsys.readouterr().err
    assert not (tmp_path / "x.txt").exists()


def test_pictures_of_chains_have_names_that_differ_on_every_disk(structures: Path) -> None:
    chain = read_chain(structures / "1orc.pdb")
    chains = [replace(chain, chain_id=name) for name in ("A", "a", "../b", "", "A")]
    names = [path.name for path in _targets(Path("of/x.png"), chains)]
    assert names == ["x_A.png", "x_a_2.png", "x____b.png", "x_.png", "x_A_3.png"]
