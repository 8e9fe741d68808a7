"""Every hyper-parameter on one screen: the paper's network and ours, each value with its reason."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Shape of a `ScoreNetwork`.

    Parameters
    ----------
    family : {"paper", "base"}
        Features, block and conditioning; see `protemb_train.network`.
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
    """

    family: Literal["paper", "base"]
    channels: int
    bottleneck: int
    dilations: tuple[int, ...]
    noise_levels: int
    sigma_max: float = 10.0  # the paper's: the fold is gone, conformation space is explored
    sigma_min: float = 0.01  # the paper's: below the coordinate error of a crystal structure

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for checkpoints and metadata."""
        return asdict(self) | {"dilations": list(self.dilations)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """Inverse of `as_dict`."""
        return cls(**values | {"dilations": tuple(values["dilations"])})


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How a network is trained; `batch` and `crops` decide what a step costs.

    Parameters
    ----------
    batch : int
        Chains a step at the smallest crop.
    crops : tuple of int
        Crop sizes in residues; one is drawn per step.
    two_window : float
        Share of crops made of two windows of half the size.
    learning_rate : float
        Of Adam, after the warm-up.
    warmup_steps : int
        Steps of linear rise.
    schedule : {"constant", "cosine"}
        Course of the learning rate after it; the cosine ends at a twentieth.
    ema : float or None
        Decay of the moving average of the weights; None keeps none.
    clip : float or None
        Largest norm of the gradient; None clips nothing.
    mask_types : float
        Share of residues shown as X.
    per_residue_loss : bool
        Eq. 5 divided by 3L, so that predicting zero costs 1, instead of by 2.
    """

    batch: int
    crops: tuple[int, ...]
    two_window: float
    learning_rate: float
    warmup_steps: int
    schedule: Literal["constant", "cosine"]
    ema: float | None
    clip: float | None
    mask_types: float
    per_residue_loss: bool


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
    bottleneck=16,  # 4.4 kMAC per pair and block; 32 costs three times as much
    dilations=(1, 2, 4, 8) * 4,  # radius 60 where the paper has 145: half the halo, half the cost
    noise_levels=32,  # as the paper; base is conditioned on sigma itself, so others are legal too
)

PAPER_TRAINING = PretrainConfig(
    batch=32,
    crops=(32,),
    two_window=0.0,
    learning_rate=1e-4,
    warmup_steps=0,
    schedule="constant",
    ema=None,
    clip=None,
    mask_types=0.0,
    per_residue_loss=False,
)  # all of it section 4

BASE_TRAINING = PretrainConfig(
    batch=32,  # chains at the smallest crop; larger crops take fewer, so that a step costs the same
    crops=(48, 64, 96, 128),  # whole chains are embedded: a network that saw only 32 fails on them
    two_window=0.4,  # share of crops made of two windows: shows pairs that are far apart in sequence
    learning_rate=2e-3,  # no batch statistics and bounded targets: twenty times the paper's is stable
    warmup_steps=100,
    schedule="cosine",
    ema=0.998,  # averages the last 500 steps or so
    clip=1.0,
    mask_types=0.1,  # residues shown as X, so that X is not unheard of at inference
    per_residue_loss=True,  # crops of many sizes weigh alike
)

PRESETS: dict[str, tuple[NetworkConfig, PretrainConfig]] = {
    "paper": (PAPER, PAPER_TRAINING),
    "base": (BASE, BASE_TRAINING),
}


def authors_release(noise_levels: int) -> NetworkConfig:
    """Return the published network with the number of noise levels of a released checkpoint."""
    return replace(PAPER, noise_levels=noise_levels)
