"""The checkpoint that the paper's authors released, read into our network (format facts only, none of their code)."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from protemb_sdk._errors import ModelError
from protemb_train.checkpoint import read_tensors
from protemb_train.network import ScoreNetwork
from protemb_train.presets import authors_release

_PARTS = {
    "norm.running_mean": "norm.running_mean",
    "norm.running_var": "norm.running_var",
    "norm.num_batches_tracked": "norm.num_batches_tracked",
    "embed_gamma.weight": "gain",
    "embed_beta.weight": "bias",
}


def _renamed(name: str) -> str:
    name = name.replace("blocks_hid.", "blocks.").replace("conv_in.", "stem.conv.")
    for theirs, ours in _PARTS.items():
        if name.endswith("." + theirs):
            return name.removesuffix(theirs) + ours
    return name


def load_released(path: str | Path) -> ScoreNetwork:
    """Return the `paper` network holding the weights of a released checkpoint, in eval mode.

    Raises
    ------
    ModelError
        If the file is not such a checkpoint.
    """
    state: dict[str, Tensor] = {_renamed(name): value for name, value in read_tensors(path).items()}
    if "stem.conv.weight" not in state or "norm_out.gain" not in state:
        raise ModelError(f"{path}: not a checkpoint of the paper's authors (no conv_in, no norm_out)")
    network = ScoreNetwork(authors_release(noise_levels=len(state["norm_out.gain"])))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise ModelError(f"{path}: the weights do not fit the paper's network ({error})") from error
    with torch.no_grad():
        finite = all(bool(torch.isfinite(p).all()) for p in network.parameters())
    if not finite:
        raise ModelError(f"{path}: the weights are not finite")
    return network.eval()
