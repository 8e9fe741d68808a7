"""Pictures: colours follow the principal components, files are images, errors say what to do."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import Embedder, EmbeddingError, OutputError, QualityScorer, SitePredictor, cli, read_chain
from protemb_sdk._cli.plot import _targets
from protemb_sdk.plot import picture, principal_colours, save_picture

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")


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
    with pytest.raises(EmbeddingError, match="the profile is of another chain"):
        picture(embedder.embed(structures / "1a8o.cif", pair=True), sites)


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
