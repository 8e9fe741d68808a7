"""Reading trained networks back: config and weights out of a training checkpoint, no pickle."""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from protemb_sdk._errors import ModelError
from protemb_train.network import ScoreNetwork
from protemb_train.presets import NetworkConfig


def read_tensors(path: str | Path) -> dict[str, Any]:
    """Read a file of tensors and plain values (`torch.save`), refusing anything executable."""
    try:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such checkpoint") from None
    except (OSError, RuntimeError, UnpicklingError, EOFError, ValueError) as error:
        raise ModelError(f"{path}: not a readable checkpoint of weights ({error})") from error
    if not isinstance(loaded, dict):
        raise ModelError(f"{path}: holds a {type(loaded).__name__}, not a checkpoint")
    return loaded


def load_network(path: str | Path) -> tuple[ScoreNetwork, dict[str, Any]]:
    """Return the network of a `protemb-train pretrain` checkpoint, in eval mode, and its training record.

    The weights are the averaged ones where the run kept an average.
    """
    loaded = read_tensors(path)
    record = loaded.get("hyper_parameters", {})
    if "network" not in record:
        raise ModelError(f"{path}: not a checkpoint of protemb-train pretrain")
    network = ScoreNetwork(NetworkConfig.from_dict(record["network"]))
    state = {
        k.removeprefix("network."): v for k, v in loaded["state_dict"].items() if k.startswith("network.")
    }
    network.load_state_dict(state)
    return network.eval(), {**record, "steps": int(loaded["global_step"])}
