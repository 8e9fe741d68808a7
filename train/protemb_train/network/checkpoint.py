"""Reading trained networks back: config and weights out of a training checkpoint, no pickle."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from protemb_sdk import ModelError
from protemb_sdk._base.output import written_whole
from protemb_train.network.config import NetworkConfig
from protemb_train.network.features import UNKNOWN, BaseFeatures
from protemb_train.network.network import ScoreNetwork


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values (`torch.save`), refusing anything executable.

    Raises
    ------
    ModelError
        If the file is missing or holds anything else.
    """
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError("no such checkpoint", path) from None
    except Exception as error:  # foreign bytes make torch's readers raise nearly anything
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].split(". ")[0]
        raise ModelError(f"not a readable checkpoint of weights ({reason})", path) from error
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise ModelError(f"holds a {type(loaded).__name__}, not a checkpoint", path)
    return loaded


def write_tensors(values: Mapping[str, Any], out: Path) -> None:
    """Write what `read_tensors` reads, whole or not at all, and on the disk before it takes the name.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    buffer = io.BytesIO()  # to a file, torch says of a full disk no more than where it stopped
    torch.save(dict(values), buffer)
    with written_whole(out) as part, part.open("wb") as file:
        file.write(buffer.getbuffer())
        file.flush()
        os.fsync(file.fileno())


def fill(network: ScoreNetwork, state: Mapping[str, Tensor], path: str | Path) -> ScoreNetwork:
    """Put the weights of a file into a network of its shape and return it, in eval mode.

    Raises
    ------
    ModelError
        If they do not fit, or are not finite.
    """
    try:
        network.load_state_dict(state)
    except (AttributeError, RuntimeError, TypeError) as error:
        fault = str(error).splitlines()[-1].strip()
        raise ModelError(
            f"the weights do not fit the {network.config.family} network ({fault})", path
        ) from error
    broken = [name for name, value in network.state_dict().items() if not torch.isfinite(value).all()]
    if broken:
        raise ModelError(f"weights are not finite, {broken[0]} for one; the run diverged", path)
    return network.eval()


MEETS_MAP = ("single.reads.", "single.writes.", "single.read_out.")
"""Weights between the states and the pair map."""


def take_weights(network: ScoreNetwork, start: ScoreNetwork) -> list[str]:
    """Copy the weights that two networks share by name and shape; return the names of the others.

    The states were trained together: all their weights are taken, or none. Where they meet a map of another
    width, the weights that read and write it start at random.

    Raises
    ------
    ModelError
        If they share none.
    """
    own, given = network.state_dict(), start.state_dict()
    shared = {name: w for name, w in given.items() if name in own and w.shape == own[name].shape}
    states = {name for name in own if name.startswith("single.") and not name.startswith(MEETS_MAP)}
    if not states <= shared.keys():
        shared = {name: w for name, w in shared.items() if not name.startswith("single.")}
    if not shared:
        raise ModelError("the network to start from has no weights in common with this one")
    network.load_state_dict(shared, strict=False)
    return sorted(own.keys() - shared.keys())


def take_map(network: ScoreNetwork, start: ScoreNetwork) -> None:
    """Copy the pair map of a network that has no states into one that has, where it sees no residue types.

    The map sees what `start` sees where every type is hidden, so its features of hidden types become a bias.
    Until training changes it, map and states have no effect on each other.

    Raises
    ------
    ModelError
        If the blocks of the two networks differ, or `network` has no states.
    """
    own = network.state_dict()
    wanted = {name for name in own if not name.startswith("single.")}
    given = start.state_dict()
    if network.single is None or wanted != given.keys():
        raise ModelError("the pair map to start from needs the same blocks, in a network without states")
    taken = {name: given[name].clone() for name in wanted}
    types = BaseFeatures.residue_types
    for name in ("stem.row.weight", "stem.column.weight"):
        taken["stem.affine.bias"] += given[name][:, UNKNOWN]
        taken[name] = given[name][:, types:].clone()
    try:
        network.load_state_dict(taken, strict=False)
    except RuntimeError as error:
        fault = str(error).splitlines()[-1].strip()
        raise ModelError(f"the pair map to start from has another shape ({fault})") from error
    network.single.silence()


@torch.no_grad()
def round_weights(module: nn.Module) -> None:
    """Round the parameters of a module to values of float16, in their own type: files are half as large."""
    for value in module.parameters():
        value.copy_(value.half())


def load_network(path: str | Path) -> tuple[ScoreNetwork, dict[str, Any]]:
    """Return the network of a `protemb-train pretrain` checkpoint, in eval mode, and its training record.

    The weights are the averaged ones where the run kept an average.

    Raises
    ------
    ModelError
        If the file is missing, is no such checkpoint, or its weights are not finite.
    """
    loaded = read_tensors(path)
    try:
        record = dict(loaded["hyper_parameters"])
        config = NetworkConfig.from_dict(record["network"])
        weights, steps = dict(loaded["state_dict"]), int(loaded["global_step"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"not a checkpoint of protemb-train pretrain (at {error})", path) from error
    prefix = "network."
    state = {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}
    return fill(ScoreNetwork(config), state, path), {**record, "steps": steps}


def load_heads(path: str | Path) -> dict[str, Tensor]:
    """Return the weights of the heads of a `protemb-train pretrain` checkpoint, which predict its objectives.

    Empty for a file of `save_network`, which has none.

    Raises
    ------
    ModelError
        If the file is missing or is no checkpoint.
    """
    weights = read_tensors(path).get("state_dict", {})
    return {name: value for name, value in weights.items() if not name.startswith("network.")}


def save_network(network: ScoreNetwork, record: Mapping[str, Any], out: Path) -> None:
    """Write weights and training record alone: what `load_network` reads, and a run cannot be continued from.

    Parameters
    ----------
    network : ScoreNetwork
        Its weights are written.
    record : mapping
        As `load_network` returned it.
    out : Path
        File to write.

    Raises
    ------
    OutputError
        If it cannot be written.
    """
    whole = {
        "global_step": record["steps"],
        "hyper_parameters": {name: value for name, value in record.items() if name != "steps"},
        "state_dict": {f"network.{name}": value for name, value in network.state_dict().items()},
    }
    write_tensors(whole, out)
