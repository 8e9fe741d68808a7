"""The settings of a network and of its training, checked for type and range."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from protemb_sdk import ProtembError


class ConfigError(ProtembError, ValueError):
    """A field of a configuration has an invalid value."""


class Range(NamedTuple):
    """Allowed values of a number, in words and as a test."""

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
    """Return the allowed values of a field of a type, in words and as a test."""
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
    """A dataclass whose fields are checked for type and range.

    Raises
    ------
    ConfigError
        If a field is invalid.
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
        Dilation of each block's 3x3 convolution, one entry per block.
    noise_levels : int
        K of eq. 5.
    sigma_max, sigma_min : float
        Largest and smallest noise level in angstrom; the K levels are geometric between them.
    reach : {"length", "distance"}
        Scaling of the output; see `protemb_train.network.loss.distance_gradient`.
    exchanges : tuple of int
        Numbers of blocks after which pair map and single representation are exchanged, increasing; None for
        a network without a single representation. Only for the family "base".
    single_channels : int
        Width H of the single representation.
    messages : tuple of int
        Numbers of message-passing layers before and after residue types are added; None for a network
        without messages. Only with exchanges.
    radial_bins : int
        Soft distance bins among the pair features of the family "base".
    neighbours : int
        Nearest residues that send messages to a residue.
    """

    family: Literal["paper", "base"]
    channels: Count
    bottleneck: Count
    dilations: tuple[Count, ...]
    noise_levels: Count
    sigma_max: Positive = 10.0  # as in the paper: the fold is lost
    sigma_min: Positive = 0.01  # as in the paper: below the coordinate error of crystal structures
    reach: Literal["length", "distance"] = "length"
    exchanges: tuple[Count, ...] | None = None
    single_channels: Count = 128
    messages: tuple[Count, ...] | None = None
    radial_bins: Count = 32
    neighbours: Count = 24

    def __post_init__(self) -> None:
        super().__post_init__()
        after = self.exchanges or ()
        rising = list(after) == sorted(set(after)) and all(n < len(self.dilations) for n in after)
        if after and (self.family == "paper" or not rising):
            raise ConfigError(
                f"exchanges is {list(after)}; it must be increasing and less than the number of blocks, "
                f"{len(self.dilations)}, in a network of the family base"
            )
        if self.messages is not None and (len(self.messages) != 2 or not after):
            raise ConfigError(
                f"messages is {list(self.messages)}; it must be two numbers of layers, "
                "in a network with exchanges"
            )
        if self.radial_bins < 2:
            raise ConfigError(f"radial_bins is {self.radial_bins}; it must be at least 2")
        if self.sigma_max < self.sigma_min:
            raise ConfigError(f"sigma_max is {self.sigma_max:g}; it must not be below sigma_min")

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for checkpoints and metadata, without those that a network does not use."""
        unused = {"exchanges", "single_channels"} if self.exchanges is None else set()
        unused |= {"messages", "neighbours"} if self.messages is None else set()
        unused |= {"radial_bins"} if self.family == "paper" else set()
        values = {k: v for k, v in asdict(self).items() if k not in unused}
        return {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """Inverse of `as_dict`."""
        plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**plain)


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(Checked):
    """Training settings; `batch` and `crops` determine the cost of a step.

    Parameters
    ----------
    batch : int
        Chains per step at the smallest crop.
    crops : tuple of int
        Crop sizes in residues; one is drawn per step.
    two_windows, sphere : float
        Share of crops of two windows of half the size, and of the residues nearest to one; the others are
        contiguous.
    draw : {"chain", "cluster"}
        Whether chains are drawn uniformly, or clusters and then one of their chains.
    validate_on : {"crops", "chains"}
        Data for the choice of the best checkpoint: crops like those of training, or whole chains.
    learning_rate : float
        Learning rate of Adam after the warm-up.
    warmup_steps : int
        Number of steps of linear increase.
    schedule : {"constant", "cosine", "decay"}
        Learning rate after the warm-up: constant; a cosine that ends at 1/20; or constant until the last
        fifth of the run, and then linear to 1/30. A run of the last kind can be extended before that
        fifth.
    small_rate : float
        Learning rate of perceptrons and heads, relative to `learning_rate`.
    messages_rate : float
        Learning rate of layers that were trained without the map (messages, residue types and profile),
        relative to that of the other perceptrons.
    ema : float or None
        Decay of the moving average of the weights; None for no average.
    clip : float or None
        Largest norm of the gradient; None for no clipping.
    mask_types : float
        Share of residues shown as X.
    swap_types : float
        Share of residues shown as another type; the same number is shown unchanged and predicted too, so
        that the network must decide whether a type is correct.
    type_loss : float
        Weight of the cross entropy (in units of its initial value, ln 20) of predicted residue types.
    per_residue_loss : bool
        Whether eq. 5 is divided by 3L, so that predicting zero has a loss of 1, instead of by 2.
    pair_map : bool
        Whether the pair map is computed; without it only the messages of the single representation are
        trained, on `pieces`, `chains` and `damaged`.
    pieces : int
        Number of pieces of cut chains per step; see `protemb_train.pretrain.auxiliary`.
    piece_loss, site_loss : float
        Weights of eq. 5 on them, and of the cross entropy (in units of ln 2) of the residues in contact with
        the removed part.
    chains : int
        Number of whole chains per step, which pass only the first blocks, to predict residue types.
    profile_loss : float
        Weight of the cross entropy (in units of ln 20) of all residue types, predicted from structure alone,
        on pieces and whole chains.
    hidden_chains : float
        Share of pieces with all residue types masked; in the others `mask_types` and `swap_types` are used.
    geometry_loss : float
        Weight of the cross entropy (in units of the logarithm of the number of classes) of the local geometry
        around each residue; see `protemb_train.pretrain.local_geometry`.
    damaged : int
        Number of damaged structures per step.
    damage_loss : float
        Weight of the squared error of the lDDT of their residues, in units of its variance.
    longest : int
        Largest number of residues of a piece, whole chain or damaged structure.
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
    messages_rate: Weight = 1.0
    pair_map: bool = True
    pieces: Steps = 0
    piece_loss: Weight = 0.0
    site_loss: Weight = 0.0
    chains: Steps = 0
    profile_loss: Weight = 0.0
    hidden_chains: Share = 0.0
    geometry_loss: Weight = 0.0
    damaged: Steps = 0
    damage_loss: Weight = 0.0
    longest: Crop = 200

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.two_windows + self.sphere > 1:
            raise ConfigError("two_windows and sphere are shares of all crops; their sum must be at most 1")
        if not self.pair_map and self.piece_loss:
            raise ConfigError("piece_loss is eq. 5 on pieces and requires the pair map; set it to 0")
        if not self.pair_map and not (self.pieces or self.chains):
            raise ConfigError("without pair_map there are no training data; set pieces or chains")
        if self.mask_types + 2 * self.swap_types > 1:
            raise ConfigError("mask_types plus twice swap_types must be at most 1: they are shares")
        if self.two_windows and any(size % 2 for size in self.crops):
            raise ConfigError("crops contains an odd number; with two_windows each must be even")
