"""Every hyper-parameter on one screen: the paper's network and ours, each value with its reason."""

from __future__ import annotations

import dataclasses
import math
import tomllib
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from protemb_sdk import ProtembError


class ConfigError(ProtembError, ValueError):
    """A field of a configuration is not what it may be."""


class Range(NamedTuple):
    """What a number may be, in words and as a test."""

    words: str
    holds: Callable[[float], bool]


Count = Annotated[int, Range("1 or more", lambda n: n >= 1)]
Steps = Annotated[int, Range("0 or more", lambda n: n >= 0)]
Crop = Annotated[int, Range("4 or more", lambda n: n >= 4)]
Positive = Annotated[float, Range("above 0", lambda x: x > 0)]
Weight = Annotated[float, Range("0 or more", lambda x: x >= 0)]
Share = Annotated[float, Range("0 to 1", lambda x: 0 <= x <= 1)]
Decay = Annotated[float, Range("0 or more and below 1", lambda x: 0 <= x < 1)]

_PLAIN: dict[Any, tuple[str, Callable[[Any], bool]]] = {
    NoneType: ('"none"', lambda v: v is None),
    bool: ("true or false", lambda v: isinstance(v, bool)),
    int: ("a whole number", lambda v: isinstance(v, int) and not isinstance(v, bool)),
    float: (
        "a number",
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v),
    ),
}


def _allowed(hint: Any) -> tuple[str, Callable[[Any], bool]]:
    """Return what a field of a type may be, in words and as a test."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        words, plain = _allowed(arguments[0])
        return f"{words}, {arguments[1].words}", lambda v: plain(v) and arguments[1].holds(v)
    if origin is Literal:
        return " or ".join(f'"{name}"' for name in arguments), lambda v: v in arguments
    if origin is tuple:
        words, each = _allowed(arguments[0])
        return (
            f"a list of one or more, each {words}",
            lambda v: isinstance(v, tuple) and bool(v) and all(map(each, v)),
        )
    if origin in (Union, UnionType):
        parts = [_allowed(part) for part in arguments]
        return " or ".join(words for words, _ in parts), lambda v: any(holds(v) for _, holds in parts)
    return _PLAIN[hint]


class Checked:
    """A dataclass whose fields are of their types and within their ranges.

    Raises
    ------
    ConfigError
        If one is not.
    """

    def __post_init__(self) -> None:
        for name, hint in get_type_hints(type(self), include_extras=True).items():
            words, holds = _allowed(hint)
            if not holds(value := getattr(self, name)):
                raise ConfigError(f"{name} is {value!r}; it must be {words}")


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(Checked):
    """Shape of a `ScoreNetwork`.

    Parameters
    ----------
    family : {"paper", "base"}
        Features, block and conditioning; see `protemb_train.network.network`.
    channels : int
        Width of the residual stream, which is the width C of every embedding.
    bottleneck : int
        Width inside a block, where the 3x3 convolution runs.
    dilations : tuple of int
        Dilation of each block's 3x3 convolution, one entry a block.
    noise_levels : int
        K of eq. 5.
    sigma_max, sigma_min : float
        Largest and smallest noise level in angstrom; the K levels are geometric between them.
    reach : {"length", "distance"}
        How the output is scaled; see `protemb_train.network.loss.distance_gradient`.
    exchanges : tuple of int
        Numbers of blocks after which pair map and single representation are exchanged, rising; None for a
        network without a single representation. Only for the family "base".
    single_channels : int
        Width H of the single representation.
    messages : tuple of int
        Layers of messages between residues that are near in space, before and after residue types are
        known; None for a network without messages. Only with exchanges.
    """

    family: Literal["paper", "base"]
    channels: Count
    bottleneck: Count
    dilations: tuple[Count, ...]
    noise_levels: Count
    sigma_max: Positive = 10.0  # the paper's: the fold is gone, conformation space is explored
    sigma_min: Positive = 0.01  # the paper's: below the coordinate error of a crystal structure
    reach: Literal["length", "distance"] = "length"
    exchanges: tuple[Count, ...] | None = None
    single_channels: Count = 128
    messages: tuple[Count, ...] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        after = self.exchanges or ()
        rising = list(after) == sorted(set(after)) and all(n < len(self.dilations) for n in after)
        if after and (self.family == "paper" or not rising):
            raise ConfigError(
                f"exchanges is {list(after)}; it must rise and end below the number of blocks, "
                f"{len(self.dilations)}, in a network of the family base"
            )
        if self.messages is not None and (len(self.messages) != 2 or not after):
            raise ConfigError(
                f"messages is {list(self.messages)}; it must be two numbers of layers, "
                "in a network with exchanges"
            )
        if self.sigma_max < self.sigma_min:
            raise ConfigError(f"sigma_max is {self.sigma_max:g}; it must not be below sigma_min")

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and metadata; without those that a network does not use."""
        unused = {"exchanges", "single_channels"} if self.exchanges is None else set()
        unused |= {"messages"} if self.messages is None else set()
        values = {k: v for k, v in asdict(self).items() if k not in unused}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """Inverse of `as_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Checked):
    """How a network is trained; `batch` and `crops` decide what a step costs.

    Parameters
    ----------
    batch : int
        Chains a step at the smallest crop.
    crops : tuple of int
        Crop sizes in residues; one is drawn per step.
    two_windows, sphere : float
        Share of crops made of two windows of half the size, and of the residues nearest to one; the
        others are contiguous.
    draw : {"chain", "cluster"}
        What is drawn with equal chance: a chain, or a cluster and then one of its chains.
    validate_on : {"crops", "chains"}
        What the best checkpoint is chosen on: crops like those of training, or whole chains.
    learning_rate : float
        Of Adam, after the warm-up.
    warmup_steps : int
        Steps of linear rise.
    schedule : {"constant", "cosine", "decay"}
        Course of the learning rate after it: constant; a cosine that ends at a twentieth; or constant until
        the last fifth of the run, and then linear to a thirtieth. A run of the last kind can be extended as
        long as it is before that fifth.
    small_rate : float
        Learning rate of perceptrons and heads, as a share of `learning_rate`.
    ema : float or None
        Decay of the moving average of the weights; None keeps none.
    clip : float or None
        Largest norm of the gradient; None clips nothing.
    mask_types : float
        Share of residues shown as X.
    swap_types : float
        Share of residues shown as another type; as many are asked for as they are, so that what is shown is
        right in half of the cases, and the network must say whether it fits.
    type_loss : float
        Weight of the cross entropy (in units of its start, ln 20) of naming the residues asked for.
    per_residue_loss : bool
        Eq. 5 divided by 3L, so that predicting zero costs 1, instead of by 2.
    pair_map : bool
        Whether the pair map is computed; without it only the messages of the single representation are
        trained, on `pieces`, `chains` and `damaged`.
    pieces : int
        Pieces of chains that were cut in two, in each step; see `protemb_train.auxiliary`.
    piece_loss, site_loss : float
        Weights of eq. 5 on them, and of the cross entropy (in units of ln 2) of the residues that touched the
        removed part.
    chains : int
        Whole chains in each step that only the first blocks see, to predict residue types.
    profile_loss : float
        Weight of the cross entropy (in units of ln 20) of all residue types, predicted from structure alone,
        on pieces and whole chains.
    hidden_chains : float
        Share of pieces with all residue types hidden; in the others `mask_types` and `swap_types` hold.
    damaged : int
        Damaged structures in each step.
    damage_loss : float
        Weight of the squared error of the lDDT of their residues, in units of its variance.
    longest : int
        Longest piece, whole chain or damaged structure in residues.
    """

    batch: Count
    crops: tuple[Crop, ...]
    two_windows: Share
    sphere: Share
    draw: Literal["chain", "cluster"]
    validate_on: Literal["crops", "chains"]
    learning_rate: Positive
    warmup_steps: Steps
    schedule: Literal["constant", "cosine", "decay"]
    ema: Decay | None
    clip: Positive | None
    mask_types: Share
    swap_types: Share
    type_loss: Weight
    per_residue_loss: bool
    small_rate: Positive = 1.0
    pair_map: bool = True
    pieces: Steps = 0
    piece_loss: Weight = 0.0
    site_loss: Weight = 0.0
    chains: Steps = 0
    profile_loss: Weight = 0.0
    hidden_chains: Share = 0.0
    damaged: Steps = 0
    damage_loss: Weight = 0.0
    longest: Crop = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.two_windows + self.sphere > 1:
            raise ConfigError(
                "two_windows and sphere are shares of all crops; together they must be 1 at most"
            )
        if not self.pair_map and self.piece_loss:
            raise ConfigError("piece_loss is eq. 5 on pieces and needs the pair map; set it to 0")
        if not self.pair_map and not (self.pieces or self.chains):
            raise ConfigError("without pair_map there is nothing to learn from; set pieces or chains")
        if self.mask_types + 2 * self.swap_types > 1:
            raise ConfigError("mask_types and twice swap_types are shares; together they must be 1 at most")
        if self.two_windows and any(size % 2 for size in self.crops):
            raise ConfigError("crops hold an odd number; with two_windows each must be even")


Config = TypeVar("Config", NetworkConfig, PretrainConfig)

PAPER = NetworkConfig(
    family="paper",
    channels=64,  # section 4: k = 64
    bottleneck=16,  # authors' code
    dilations=(1, 3, 5, 9) * 8,  # section 4: 32 blocks; the cycle is the authors' code's
    noise_levels=32,  # section 4
)

BASE = NetworkConfig(
    family="base",
    channels=64,  # the published embedding size: a drop-in for programs built on it
    bottleneck=32,  # fills the vector units: cheaper per operation than twice the blocks of 16
    dilations=(1, 2, 4, 8) * 2,  # radius 30 where the paper has 145: little halo, a third of the cost
    noise_levels=32,  # as the paper; base is conditioned on sigma itself, so others are legal too
    reach="distance",  # a bond means the same in a crop and in a whole chain
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
)  # all of it section 4

BASE_TRAINING = PretrainConfig(
    batch=8,  # with the crops, as many residue pairs a step as the paper's 32 crops of 32
    crops=(64,),  # as wide as the receptive field: an entry in the middle sees what it sees in a whole chain
    two_windows=0.4,  # shows pairs that are far apart in sequence
    sphere=0.0,
    draw="cluster",  # a thousand antibodies weigh as much as one orphan
    validate_on="chains",
    learning_rate=4e-3,  # no batch statistics and bounded targets: forty times the paper's is stable
    warmup_steps=200,
    schedule="cosine",
    ema=0.999,  # averages the last 1,000 steps or so
    clip=1.0,
    mask_types=0.15,  # residues shown as X; X must not be unheard of at inference either
    swap_types=0.0,
    type_loss=0.1,
    per_residue_loss=True,  # crops of many sizes weigh alike
)

BASE_2 = replace(
    BASE,
    exchanges=(4,),  # (3, 6) learned no faster in 250 steps and costs more (train/results/design.md)
    single_channels=128,
    messages=(4, 2),
)

BASE_2_TRAINING = replace(
    BASE_TRAINING,
    batch=6,  # crops; a quarter of the residue pairs of a step
    learning_rate=3e-3,
    small_rate=0.33,  # perceptrons and heads; 1.0 learned as fast after 200 steps
    schedule="decay",  # a run can be extended as long as it is before its last fifth
    swap_types=0.05,
    type_loss=0.3,
    pieces=2,
    piece_loss=0.3,
    site_loss=1.0,
    chains=2,
    profile_loss=1.0,
    hidden_chains=0.2,  # chains without a sequence are input too
    longest=200,
)

MESSAGES_TRAINING = replace(
    BASE_2_TRAINING,
    pair_map=False,
    learning_rate=2e-3,
    small_rate=1.0,
    pieces=6,
    piece_loss=0.0,
    chains=6,
    longest=250,
)
"""Of the messages alone, before the whole network: about a tenth of a second for each chain."""

PRESETS: dict[str, tuple[NetworkConfig, PretrainConfig]] = {
    "paper": (PAPER, PAPER_TRAINING),
    "base": (BASE, BASE_TRAINING),
    "base-2": (BASE_2, BASE_2_TRAINING),  # takes the name base when its network is trained
    "base-2-messages": (BASE_2, MESSAGES_TRAINING),  # what a run of base-2 starts from
}


def authors_release(noise_levels: int) -> NetworkConfig:
    """Return the published network with the number of noise levels of a released checkpoint."""
    return replace(PAPER, noise_levels=noise_levels)


def read_config(path: Path) -> tuple[str, NetworkConfig, PretrainConfig]:
    """Read a TOML file that names a preset and what differs from it.

    Parameters
    ----------
    path : Path
        `preset = "base"`, and tables `[network]` and `[training]` with fields of `NetworkConfig` and
        `PretrainConfig`; `none` as a string switches an optional field off.

    Returns
    -------
    tuple of str, NetworkConfig, PretrainConfig
        The preset's name, with "+" where something differs.

    Raises
    ------
    ProtembError
        If the file is missing, is not TOML, names a preset or a field that there is not, or a field is not
        what it may be.
    """
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ProtembError(f"cannot be read as a configuration ({error})", path) from error
    name = values.pop("preset", "base")
    if not isinstance(name, str) or name not in PRESETS:
        raise ProtembError(f"no preset named {name!r}; there are {', '.join(PRESETS)}", path)
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
        raise ProtembError(f"unknown field {min(unknown)!r}; there are {', '.join(sorted(fields))}", path)
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
    plain |= {k: None for k, v in values.items() if v == "none"}
    try:
        return replace(config, **plain)
    except ConfigError as error:
        raise error.at(path) from None
