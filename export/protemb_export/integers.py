"""Operators of ONNX Runtime on 8-bit integers, as PyTorch modules that can be exported.

A map of integers is uint8 with channels last, (B, R, L, C), and has one `Grid`. Weights of convolutions are
int8 with one scale per output channel. A ReLU is free: its grid starts at zero, where integers saturate.
Outside an export the operators return zeros.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn
from torch.onnx.ops import symbolic

STEPS = 255


class Grid(nn.Module):
    """Scale and zero point of uint8 values from `low` to `high`; zero is one of them."""

    scale: Tensor
    zero: Tensor

    def __init__(self, low: float, high: float) -> None:
        super().__init__()
        low, high = min(low, 0.0), max(high, 1e-6)
        scale = np.float32((high - low) / STEPS)
        self.register_buffer("scale", torch.tensor(float(scale)))
        self.register_buffer("zero", torch.tensor(round(-low / float(scale)), dtype=torch.uint8))

    @property
    def constants(self) -> tuple[Tensor, Tensor]:
        """Scale and zero point."""
        return self.scale, self.zero

    def quantised(self, x: Tensor) -> Tensor:
        """Return a float32 tensor as uint8."""
        return symbolic("QuantizeLinear", (x, *self.constants), dtype=torch.uint8, shape=x.shape)


class IntegerConv(nn.Module):
    """A convolution of a map of integers, and its ReLU if `target` starts at zero."""

    weight: Tensor
    weight_scale: Tensor
    weight_zero: Tensor
    bias: Tensor

    def __init__(self, conv: nn.Conv2d, source: Grid, target: Grid) -> None:
        super().__init__()
        self.source, self.target = source, target
        weight = conv.weight.detach()
        scale = (weight.flatten(1).abs().amax(dim=1) / 127).clamp(min=1e-12)
        self.register_buffer("weight", (weight / scale[:, None, None, None]).round().to(torch.int8))
        self.register_buffer("weight_scale", scale)
        self.register_buffer("weight_zero", torch.zeros(len(scale), dtype=torch.int8))
        bias = torch.zeros(len(scale)) if conv.bias is None else conv.bias.detach()
        self.register_buffer("bias", (bias / (scale * source.scale)).round().to(torch.int32))
        (kernel, _), (dilation, _) = conv.kernel_size, conv.dilation
        self.kernel, self.dilation = int(kernel), int(dilation)

    def forward(self, x_BRLC: Tensor) -> Tensor:
        padding = self.dilation * (self.kernel // 2)
        return symbolic(
            "com.microsoft::QLinearConv",
            (
                *(x_BRLC, *self.source.constants, self.weight, self.weight_scale, self.weight_zero),
                *(*self.target.constants, self.bias),
            ),
            {
                "channels_last": 1,
                "kernel_shape": [self.kernel] * 2,
                "dilations": [self.dilation] * 2,
                "pads": [padding] * 4,
                "strides": [1, 1],
                "group": 1,
            },
            dtype=torch.uint8,
            shape=[*x_BRLC.shape[:3], len(self.weight)],
            version=1,
        )


def added(one: Tensor, grid: Grid, other: Tensor, other_grid: Grid, target: Grid) -> Tensor:
    """Return the sum of two tensors of integers, which may be broadcast."""
    return symbolic(
        "com.microsoft::QLinearAdd",
        (one, *grid.constants, other, *other_grid.constants, *target.constants),
        dtype=torch.uint8,
        shape=torch.broadcast_tensors(one, other)[0].shape,  # type: ignore[no-untyped-call]
        version=1,
    )


def product(weights: Tensor, x: Tensor, grid: Grid) -> Tensor:
    """Return the matrix product of uint8 weights from 0 on with integers of a grid, in float32.

    Parameters
    ----------
    weights : Tensor, uint8, shape (..., M, K)
        Whole numbers.
    x : Tensor, uint8, shape (..., K, N)
        Integers of `grid`.

    Returns
    -------
    Tensor, float32, shape (..., M, N)
    """
    nothing = torch.zeros((), dtype=torch.uint8)
    whole = symbolic(
        "MatMulInteger",
        (weights, x, nothing, grid.zero),
        dtype=torch.int32,
        shape=[*weights.shape[:-1], x.shape[-1]],
    )
    return whole.to(torch.float32) * grid.scale
