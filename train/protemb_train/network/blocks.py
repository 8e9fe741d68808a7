"""Blocks of the score network, and their convolutions and affine maps.

`paper` has the published pre-activation bottlenecks with conditional batch normalisation. `base` standardises
weights instead of activations (Brock et al. 2021, arXiv:2101.08692), so that there are no batch statistics
that differ between crops and whole chains; every gain and bias follows a convolution and is folded into it.

Shapes: B batch, L length, R computed rows of the map, C channels, K conditions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Affine(nn.Module):
    """Per-channel gain and bias selected by the noise level, after batch normalisation if `normalise`."""

    def __init__(self, channels: int, conditions: int, *, normalise: bool, gain: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False) if normalise else nn.Identity()
        self.gain = nn.Parameter(torch.full((conditions, channels), gain))
        self.bias = nn.Parameter(torch.zeros(conditions, channels))

    def forward(self, x_BCRL: Tensor, condition_BK: Tensor) -> Tensor:
        gain, bias = condition_BK @ self.gain, condition_BK @ self.bias
        normalised: Tensor = self.norm(x_BCRL)
        return normalised * gain[:, :, None, None] + bias[:, :, None, None]


class StandardisedConv(nn.Conv2d):
    """A convolution without bias whose weights have mean 0 and variance 1 / fan-in per output."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int = 1, dilation: int = 1) -> None:
        super().__init__(
            channels_in, channels_out, kernel, padding=dilation * (kernel // 2), dilation=dilation, bias=False
        )

    def standardised(self) -> Tensor:
        """Return the standardised weight."""
        mean = self.weight.mean(dim=(1, 2, 3), keepdim=True)
        variance = (self.weight - mean).square().mean(dim=(1, 2, 3), keepdim=True)
        fan_in = self.weight[0].numel()
        return (self.weight - mean) / ((variance + 1e-6) * fan_in).sqrt()

    def forward(self, input: Tensor) -> Tensor:
        return self._apply_weight(input, self.standardised(), None)

    def with_affine(self, input: Tensor, affine: Affine, condition_1K: Tensor) -> Tensor:
        """Return `affine(self(input), condition)` for a batch of one, in one pass over the map."""
        gain_C, bias_C = (condition_1K @ affine.gain)[0], (condition_1K @ affine.bias)[0]
        return self._apply_weight(input, self.standardised() * gain_C[:, None, None, None], bias_C)

    def _apply_weight(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        if self.kernel_size == (1, 1):  # as a matrix product 1.5 times faster on the CPU
            return F.linear(input.permute(0, 2, 3, 1), weight.flatten(1), bias).permute(0, 3, 1, 2)
        return F.conv2d(input, weight, bias, self.stride, self.padding, self.dilation)


class PaperBlock(nn.Module):
    """x + conv3(ELU(norm3(conv2(ELU(norm2(conv1(ELU(norm1(x)))))))))."""

    def __init__(self, channels: int, bottleneck: int, dilation: int, conditions: int) -> None:
        super().__init__()
        self.norm1 = Affine(channels, conditions, normalise=True)
        self.conv1 = nn.Conv2d(channels, bottleneck, 1)
        self.norm2 = Affine(bottleneck, conditions, normalise=True)
        self.conv2 = nn.Conv2d(bottleneck, bottleneck, 3, padding=dilation, dilation=dilation)
        self.norm3 = Affine(bottleneck, conditions, normalise=True)
        self.conv3 = nn.Conv2d(bottleneck, channels, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        y = self.conv1(F.elu(self.norm1(x, condition)))
        y = self.conv2(F.elu(self.norm2(y, condition)))
        branch: Tensor = self.conv3(F.elu(self.norm3(y, condition)))
        return x + branch


class BaseBlock(nn.Module):
    """ReLU(x + affine3(conv3(ReLU(affine2(conv2(ReLU(affine1(conv1(x))))))))).

    After folding (`protemb_export.fold`) it has only Conv, Relu and Add.
    """

    def __init__(self, channels: int, bottleneck: int, dilation: int, conditions: int) -> None:
        super().__init__()
        self.conv1 = StandardisedConv(channels, bottleneck)
        self.affine1 = Affine(bottleneck, conditions, normalise=False)
        self.conv2 = StandardisedConv(bottleneck, bottleneck, 3, dilation)
        self.affine2 = Affine(bottleneck, conditions, normalise=False)
        self.conv3 = StandardisedConv(bottleneck, channels)
        # A small initial value keeps the sum of many branches near its input, as normalisation would.
        self.affine3 = Affine(channels, conditions, normalise=False, gain=0.3)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        if x.shape[0] == 1:  # one noise level: 10% faster than separate gains and biases
            y = F.relu(self.conv1.with_affine(x, self.affine1, condition))
            y = F.relu(self.conv2.with_affine(y, self.affine2, condition))
            return F.relu(x + self.conv3.with_affine(y, self.affine3, condition))
        y = F.relu(self.affine1(self.conv1(x), condition))
        y = F.relu(self.affine2(self.conv2(y), condition))
        return F.relu(x + self.affine3(self.conv3(y), condition))
