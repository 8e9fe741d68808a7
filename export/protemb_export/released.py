"""The checkpoint and embedding released by the authors of the paper, and their comparison with our network.

Written from the description of the file's format; contains none of their code.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from protemb_export.errors import ExportError
from protemb_sdk import Embedding, ModelError
from protemb_train.base.arrays import read_arrays
from protemb_train.network.checkpoint import fill, read_tensors
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import authors_release

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
    """Return the `paper` network with the weights of a released checkpoint, in eval mode.

    Raises
    ------
    ModelError
        If the file is missing, has another format, or its weights are not finite.
    """
    state: dict[str, Tensor] = {_renamed(name): value for name, value in read_tensors(path).items()}
    for name in ("stem.conv.weight", "norm_out.gain"):
        if not isinstance(state.get(name), Tensor):
            raise ModelError("not a checkpoint of the paper's authors (no conv_in or no norm_out)", path)
    return fill(ScoreNetwork(authors_release(noise_levels=len(state["norm_out.gain"]))), state, path)


def read_published(path: Path) -> dict[str, NDArray[np.float32]]:
    """Read an embedding that the authors published: `pair` (C, L, L), `residue` (C, L), `protein` (C,).

    Raises
    ------
    ArrayFileError
        If the file is missing or has other contents.
    """
    return read_arrays(path, ("pair", "residue", "protein"), "a published embedding")


def differences(
    found: Embedding, published: Mapping[str, NDArray[np.float32]], path: Path
) -> dict[str, float]:
    """Return the largest absolute difference per level between our embedding and a published one.

    Raises
    ------
    ExportError
        If the two are not embeddings of one structure.
    """
    assert found.pair is not None  # embedded with pair=True
    ours = {"pair": np.moveaxis(found.pair, 2, 0), "residue": found.residue.T, "protein": found.protein}
    for level, array in ours.items():
        if array.shape != published[level].shape:
            raise ExportError(
                f"its {level} embedding has shape {published[level].shape}, but the structure's has "
                f"{array.shape}; pass the structure that it was made from",
                path,
            )
    return {level: float(np.abs(array - published[level]).max()) for level, array in ours.items()}
