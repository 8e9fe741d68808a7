"""The embedding network at one fixed noise level, with gains, biases and normalisations folded."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from protemb_train.network.blocks import Affine, BaseBlock, PaperBlock, StandardisedConv
from protemb_train.network.features import centred
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.stems import BaseStem, PaperStem


@torch.no_grad()
def scale_and_shift(affine: Affine, condition_1K: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and shift, each of shape (C,), that equal an `Affine` at a fixed condition."""
    scale, shift = (condition_1K @ affine.gain)[0], (condition_1K @ affine.bias)[0]
    if isinstance(affine.norm, nn.BatchNorm2d):
        mean, variance = affine.norm.running_mean, affine.norm.running_var
        assert mean is not None and variance is not None  # batch norms of ScoreNetwork track their statistics
        scale = scale / (variance + affine.norm.eps).sqrt()
        shift = shift - mean * scale
    return scale, shift


@torch.no_grad()
def fold_conv(conv: nn.Conv2d, affine: Affine | None = None, condition_1K: Tensor | None = None) -> nn.Conv2d:
    """Return one convolution equal to `conv` followed by `affine` at a fixed condition."""
    weight = conv.standardised() if isinstance(conv, StandardisedConv) else conv.weight
    bias = torch.zeros(conv.out_channels) if conv.bias is None else conv.bias
    if affine is not None and condition_1K is not None:
        scale, shift = scale_and_shift(affine, condition_1K)
        weight, bias = weight * scale[:, None, None, None], bias * scale + shift
    kernel, dilation = int(conv.kernel_size[0]), int(conv.dilation[0])
    folded = nn.Conv2d(
        conv.in_channels, conv.out_channels, kernel, padding=dilation * (kernel // 2), dilation=dilation
    )
    folded.weight.data.copy_(weight)
    folded.bias.data.copy_(bias)  # type: ignore[union-attr]
    return folded


class Scale(nn.Module):
    """x * scale + shift per channel: a normalisation that follows an addition and cannot be folded."""

    scale: Tensor
    shift: Tensor

    def __init__(self, affine: Affine, condition_1K: Tensor) -> None:
        super().__init__()
        scale, shift = scale_and_shift(affine, condition_1K)
        self.register_buffer("scale", scale[:, None, None].clone())
        self.register_buffer("shift", shift[:, None, None].clone())

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


class FoldedPaperBlock(nn.Module):
    """`PaperBlock` with norm2 and norm3 folded into the convolutions before them."""

    def __init__(self, block: PaperBlock, condition_1K: Tensor) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            Scale(block.norm1, condition_1K),
            nn.ELU(),
            fold_conv(block.conv1, block.norm2, condition_1K),
            nn.ELU(),
            fold_conv(block.conv2, block.norm3, condition_1K),
            nn.ELU(),
            fold_conv(block.conv3),
        )

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.branch(x)
        return x + branch


class FoldedBaseBlock(nn.Module):
    """`BaseBlock` as Conv, Relu and Add only, which ONNX Runtime fuses."""

    def __init__(self, block: BaseBlock, condition_1K: Tensor) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            fold_conv(block.conv1, block.affine1, condition_1K),
            nn.ReLU(),
            fold_conv(block.conv2, block.affine2, condition_1K),
            nn.ReLU(),
            fold_conv(block.conv3, block.affine3, condition_1K),
        )

    def forward(self, x: Tensor, mask_B1RL: Tensor | None = None) -> Tensor:
        """Return the map after the block; the dilated convolution reads zeros where the mask is 0."""
        if mask_B1RL is None:
            return torch.relu(self.branch(x) + x)
        first, rest = self.branch[:2], self.branch[2:]
        return torch.relu(rest(first(x) * mask_B1RL) + x)


def conv_without_effect(channels: int) -> nn.Conv2d:
    """Return a convolution that returns its input; see `FoldedBaseStem`."""
    conv = nn.Conv2d(channels, channels, 1, groups=channels, bias=False)
    nn.init.ones_(conv.weight)
    return conv


class FoldedBaseStem(nn.Module):
    """`BaseStem` at one noise level, followed by an identity convolution.

    Between convolutions ONNX Runtime stores maps in a blocked channel layout. The sum of a map, a row and a
    column is not in that layout; without the convolution, no residual sum would be.
    """

    sigma: Tensor

    def __init__(self, stem: BaseStem, condition_1K: Tensor, sigma: float) -> None:
        super().__init__()
        # Copies: freezing the folded network must not freeze the network in training.
        self.features, self.row, self.column = copy.deepcopy((stem.features, stem.row, stem.column))
        self.conv = fold_conv(stem.conv, stem.affine, condition_1K)
        self.same = conv_without_effect(self.conv.out_channels)
        self.register_buffer("sigma", torch.full((1,), sigma))

    def forward(self, coords: Tensor, types: Tensor, index: Tensor, rows: Tensor) -> Tensor:
        pair, residue = self.features(coords, types, index, self.sigma, rows)
        row = self.row(residue.index_select(1, rows)).transpose(1, 2)[:, :, :, None]
        column = self.column(residue).transpose(1, 2)[:, :, None, :]
        return torch.relu(self.same(self.conv(pair) + row + column))


class FoldedPaperStem(nn.Module):
    """`PaperStem`, which does not depend on the noise level."""

    def __init__(self, stem: PaperStem) -> None:
        super().__init__()
        self.features, self.conv = copy.deepcopy((stem.features, stem.conv))

    def forward(self, coords: Tensor, types: Tensor, index: Tensor, rows: Tensor) -> Tensor:
        x: Tensor = self.conv(self.features(coords, types, index, rows))
        return x


def folded_block(block: nn.Module, condition_1K: Tensor) -> nn.Module:
    """Return a block of either family at a fixed condition."""
    if isinstance(block, PaperBlock):
        return FoldedPaperBlock(block, condition_1K)
    assert isinstance(block, BaseBlock)  # the only other kind
    return FoldedBaseBlock(block, condition_1K)


class EmbeddingNetwork(nn.Module):
    """The pair embedding of a `ScoreNetwork` at one noise level.

    Parameters
    ----------
    network : ScoreNetwork
        In eval mode, on the CPU; it is copied and not modified.
    sigma : float
        Noise level in angstrom.
    half : bool, default False
        Whether the blocks compute in float16, and the map is float16; features stay in float32.
    """

    def __init__(self, network: ScoreNetwork, sigma: float, *, half: bool = False) -> None:
        super().__init__()
        self.dtype = torch.float16 if half else torch.float32
        condition = network.condition(torch.tensor([sigma])).detach()
        self.stem: nn.Module
        if isinstance(network.stem, BaseStem):
            self.stem = FoldedBaseStem(network.stem, condition, sigma)
        else:
            self.stem = FoldedPaperStem(network.stem)
        self.blocks = nn.Sequential(*(folded_block(block, condition) for block in network.blocks))
        out = network.norm_out
        self.out = nn.Identity() if out is None else nn.Sequential(Scale(out, condition), nn.ELU())
        self.blocks.to(self.dtype)
        self.out.to(self.dtype)
        self.requires_grad_(False).eval()

    def forward(self, ca_coords: Tensor, residue_type: Tensor, residue_index: Tensor, rows: Tensor) -> Tensor:
        """Return the pair embedding of the given rows, shape (B, C, R, L), from `ScoreNetwork`'s inputs."""
        x = self.stem(centred(ca_coords), residue_type, residue_index, rows)
        pair: Tensor = self.out(self.blocks(x.to(self.dtype)))
        return pair
