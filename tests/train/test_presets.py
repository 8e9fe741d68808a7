"""Configurations: invalid values are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from protemb_sdk._base.errors import ModelError, ProtembError
from protemb_train.network.checkpoint import load_network, read_tensors, write_tensors
from protemb_train.network.config import ConfigError
from protemb_train.network.presets import BASE, BASE_TRAINING, PRESETS, read_config

RESULTS = Path(__file__).parents[2] / "train" / "results"


@pytest.mark.parametrize(
    ("table", "line", "words"),
    [
        ("network", 'family = "Paper"', 'family is .Paper.; it must be "paper" or "base"'),
        ("network", 'reach = "lenght"', 'reach is .lenght.; it must be "length" or "distance"'),
        ("network", 'channels = "16"', "channels is .16.; it must be a whole number, 1 or more"),
        ("network", "channels = 16.0", "it must be a whole number, 1 or more"),
        (
            "network",
            "dilations = [1, 0]",
            "dilations is .1, 0.; it must be a list of one or more, each a whole",
        ),
        ("network", "sigma_min = 0", "sigma_min is 0; it must be a number, above 0"),
        ("network", "sigma_min = 20.0", "sigma_max is 10; it must not be below sigma_min"),
        ("network", "radial_bins = 1", "radial_bins is 1; it must be at least 2"),
        ("network", "sigma_max = inf", "it must be a number, above 0"),
        ("training", 'schedule = "linear"', 'it must be "constant" or "cosine"'),
        ("training", 'validate_on = "chain"', 'it must be "crops" or "chains"'),
        ("training", 'draw = "clusters"', 'it must be "chain" or "cluster"'),
        ("training", "draw = [1]", 'it must be "chain" or "cluster"'),
        ("training", "mask_types = 15", "mask_types is 15; it must be a number, 0 to 1"),
        ("training", "mask_types = nan", "it must be a number, 0 to 1"),
        ("training", "batch = 0", "batch is 0; it must be a whole number, 1 or more"),
        ("training", "clip = true", 'clip is True; it must be a number, above 0 or "none"'),
        ("training", "crops = 16", "crops is 16; it must be a list of one or more"),
        ("training", "crops = []", "it must be a list of one or more, each a whole number, 4 or more"),
        ("training", "crops = [33]", "with two_windows each must be even"),
        ("training", 'learning_rate = "1e-3"', "learning_rate is .1e-3.; it must be a number, above 0"),
        ("training", 'learning_rate = "none"', "learning_rate is None; it must be a number, above 0"),
        ("training", "ema = 1.0", "it must be a number, 0 or more and below 1"),
        ("training", "per_residue_loss = 1", "it must be true or false"),
        ("training", "sphere = 0.7", "two_windows and sphere are shares of all crops"),
        ("training", "swap_types = 0.6", "mask_types plus twice swap_types"),
    ],
)
def test_an_invalid_field_is_refused(tmp_path: Path, table: str, line: str, words: str) -> None:
    file = tmp_path / "c.toml"
    file.write_text(f"[{table}]\n{line}\n")
    with pytest.raises(ConfigError, match=rf"c\.toml: .*{words}") as refused:
        read_config(file)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("text", ['preset = ["base"]', "network = 5", 'training = "base"'])
def test_entries_that_are_not_tables_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(ProtembError, match=r"c\.toml: (there is no preset|network and training are tables)"):
        read_config(tmp_path / "c.toml")


def test_integers_are_accepted_as_floats_and_recorded_configs_are_valid(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[training]\nclip = 1\nema = "none"\n')
    _, network, training = read_config(tmp_path / "c.toml")
    assert (network, training) == (BASE, replace(BASE_TRAINING, ema=None))
    presets = {file.name: read_config(file)[0] for file in RESULTS.glob("*.toml")}
    assert presets == {
        "base.toml": "base+",
        "base-long.toml": "base-1+",
        "geometry.toml": "base-messages+",
        "small.toml": "base+",
        "small-map.toml": "base-1+",
        "small-1.toml": "base-1+",
        "wide.toml": "base-messages+",
    }
    for network, training in PRESETS.values():
        assert (replace(network), replace(training)) == (network, training)


def test_a_checkpoint_with_an_invalid_network_is_refused(tmp_path: Path) -> None:
    loaded = read_tensors(RESULTS / "small.ckpt")
    loaded["hyper_parameters"]["network"]["family"] = "Paper"
    write_tensors(loaded, tmp_path / "odd.ckpt")
    with pytest.raises(ModelError, match=r"odd\.ckpt: not a checkpoint .*family is 'Paper'"):
        load_network(tmp_path / "odd.ckpt")
