"""Cache of results that take minutes, in files named by a hash of their inputs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from protemb_sdk._base.output import written_whole
from protemb_train.downstream.quality.decoys import Decoy


def digest_of(decoys: Sequence[Decoy], *about: Any) -> str:
    """Return 16 hexadecimal digits of a hash of models, in their order, and of plain values."""
    digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode())
    for d in decoys:
        digest.update(d.sequence.encode() + d.ca_coords.tobytes())
    return digest.hexdigest()[:16]


def weights_of(network: nn.Module) -> str:
    """Return the SHA-256 of a network's parameter names and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode() + tensor.numpy(force=True).tobytes())
    return digest.hexdigest()


def cached(path: Path, make: Callable[[], Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    """Return arrays from a file; if it is missing, compute them and write it atomically.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        with written_whole(path) as part:
            np.savez(part, allow_pickle=False, **made)
    with np.load(path, allow_pickle=False) as read:
        return dict(read)
