"""The settings of the paper's networks and ours, with the reasons for their values."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from protemb_sdk import ProtembError
from protemb_train.network.config import ConfigError, NetworkConfig, PretrainConfig

Config = TypeVar("Config", NetworkConfig, PretrainConfig)

PAPER = NetworkConfig(
    family="paper",
    channels=64,  # section 4: k = 64
    bottleneck=16,  # authors' code
    dilations=(1, 3, 5, 9) * 8,  # section 4: 32 blocks; the cycle is the authors' code's
    noise_levels=32,  # section 4
)

BASE_1 = NetworkConfig(
    family="base",
    channels=64,  # the published embedding size
    bottleneck=32,  # efficient vectorisation: faster per operation than twice the blocks of 16
    dilations=(1, 2, 4, 8) * 2,  # radius 30 instead of 145 in the paper: small halo, a third of the cost
    noise_levels=32,  # as in the paper; base is conditioned on sigma itself, so other levels work too
    reach="distance",  # the scale of a bond is the same in a crop and in a whole chain
)

PAPER_TRAINING = PretrainConfig(
    batch=32,
    crops=(32,),
    two_windows=0.0,
    sphere=0.0,
    draw="chain",
    validate_on="crops",
    learning_rate=1e-4,
    warmup_steps=0,
    schedule="constant",
    ema=None,
    clip=None,
    mask_types=0.0,
    swap_types=0.0,
    type_loss=0.0,
    per_residue_loss=False,
)  # all values from section 4

BASE_1_TRAINING = PretrainConfig(
    batch=8,  # with the crops, as many residue pairs per step as the paper's 32 crops of 32
    crops=(64,),  # as wide as the receptive field: the central entry is as in a whole chain
    two_windows=0.4,  # includes pairs that are far apart in sequence
    sphere=0.0,
    draw="cluster",  # equal weight of large families (antibodies) and single chains
    validate_on="chains",
    learning_rate=4e-3,  # forty times the paper's, stable without batch statistics and with bounded targets
    warmup_steps=200,
    schedule="cosine",
    ema=0.999,  # averages about the last 1,000 steps
    clip=1.0,
    mask_types=0.15,  # residues shown as X, which occurs at inference too
    swap_types=0.0,
    type_loss=0.1,
    per_residue_loss=True,  # equal weight of crops of different sizes
)

BASE = replace(
    BASE_1,
    exchanges=(4,),  # (3, 6) learned no faster in 250 steps and is slower (train/results/design.md)
    single_channels=128,
    messages=(4, 2),
)

BASE_TRAINING = replace(
    BASE_1_TRAINING,
    batch=6,  # crops; a quarter of the residue pairs of a step
    learning_rate=3e-3,
    small_rate=0.33,  # perceptrons and heads; 1.0 learned as fast after 200 steps
    schedule="decay",  # a run can be extended before its last fifth
    swap_types=0.05,
    type_loss=0.3,
    pieces=2,
    piece_loss=0.3,
    site_loss=1.0,
    chains=2,
    profile_loss=1.0,
    hidden_chains=0.2,  # embeddings are also computed without a sequence
    longest=200,
)

MESSAGES_TRAINING = replace(
    BASE_TRAINING,
    pair_map=False,
    learning_rate=2e-3,
    small_rate=1.0,
    pieces=6,
    piece_loss=0.0,
    chains=6,
    longest=250,
)
"""Training of the messages alone, before the whole network: about 0.1 s per chain."""

PRESETS: dict[str, tuple[NetworkConfig, PretrainConfig]] = {
    "paper": (PAPER, PAPER_TRAINING),
    "base": (BASE, BASE_TRAINING),
    "base-messages": (BASE, MESSAGES_TRAINING),  # initial weights of a run of base
    "base-1": (BASE_1, BASE_1_TRAINING),
}


def authors_release(noise_levels: int) -> NetworkConfig:
    """Return the published network with the number of noise levels of a released checkpoint."""
    return replace(PAPER, noise_levels=noise_levels)


def read_config(path: Path) -> tuple[str, NetworkConfig, PretrainConfig]:
    """Read a TOML file with a preset and changes to it.

    Parameters
    ----------
    path : Path
        `preset = "base"`, and tables `[network]` and `[training]` with fields of `NetworkConfig` and
        `PretrainConfig`; `none` as a string switches an optional field off.

    Returns
    -------
    tuple of str, NetworkConfig, PretrainConfig
        Name of the preset, with "+" if something is changed.

    Raises
    ------
    ProtembError
        If the file is missing, is not TOML, has an unknown preset or field, or a field has an invalid
        value.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProtembError(f"cannot be read as a configuration ({error})", path) from error
    name = values.pop("preset", "base")
    if not isinstance(name, str) or name not in PRESETS:
        raise ProtembError(f"there is no preset {name!r}; available are {', '.join(PRESETS)}", path)
    network = _changed(path, PRESETS[name][0], values.pop("network", {}))
    training = _changed(path, PRESETS[name][1], values.pop("training", {}))
    if values:
        raise ProtembError(f"unknown entry {min(values)!r}; use preset, [network] and [training]", path)
    same = (network, training) == PRESETS[name]
    return name if same else f"{name}+", network, training


def _changed(path: Path, config: Config, values: Any) -> Config:
    if not isinstance(values, dict):
        raise ProtembError("network and training are tables; write [network] or [training]", path)
    fields = {field.name for field in dataclasses.fields(config)}
    unknown = set(values) - fields
    if unknown:
        raise ProtembError(f"unknown field {min(unknown)!r}; available are {', '.join(sorted(fields))}", path)
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    plain |= {k: None for k, v in values.items() if v == "none"}
    try:
        return replace(config, **plain)
    except ConfigError as error:
        raise error.at(path) from None
