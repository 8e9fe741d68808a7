"""Pictures: colours follow the principal components, files are images, errors say what to do."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import Embedder, EmbeddingError, OutputError
from protemb_sdk.plot import principal_colours, save_picture

pytest.importorskip("matplotlib", reason="the extra `plot` is not installed")


def test_first_colour_follows_the_widest_direction() -> None:
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


def test_picture_into_no_folder(structures: Path, tmp_path: Path) -> None:
    embedding = Embedder(device="cpu").embed(structures / "1a8o.cif", pair=True)
    with pytest.raises(OutputError, match="does not exist"):
        save_picture(embedding, tmp_path / "nowhere" / "picture.png")
