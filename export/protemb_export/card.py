"""The metadata that travel inside a graph: what it is, where it comes from; and the page made of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from protemb_sdk import ALPHABET
from protemb_sdk._model.models import CONTRACT
from protemb_train.base.origin import origin
from protemb_train.network.network import ScoreNetwork

PAPER = "Guo et al., AAAI 2022, https://doi.org/10.1609/aaai.v36i6.20636"


def make_card(
    network: ScoreNetwork,
    name: str,
    sigma: float | None,
    record: Mapping[str, Any],
    licence: str,
    judged: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the card of a graph; `sigma` is None for a score graph.

    Parameters
    ----------
    network : ScoreNetwork
        What is exported.
    name : str
        Name of the model.
    sigma : float or None
        Noise level folded in, angstrom.
    record : mapping
        How the network was trained, from its checkpoint.
    licence : str
        Of the weights.
    judged : mapping, optional
        `judgement` and `curve`, as written by `protemb-train judge`.
    """
    config = network.config
    card = {
        "contract": CONTRACT,
        "name": name,
        "kind": "score" if sigma is None else "embedding",
        "alphabet": ALPHABET,
        "channels": config.channels,
        "radius": network.radius,
        "sigma_range": [config.sigma_min, config.sigma_max],
        "network": config.as_dict(),
        "training": dict(record),
        **(judged or {}),
        "weights_sha256": weights_sha256(network),
        "exported_by": origin(),
        "method": PAPER,
        "licence": licence,
    }
    return card if sigma is None else card | {"sigma": sigma}


def weights_sha256(network: ScoreNetwork) -> str:
    """Return a hash of a network's weights, the same in its embedding and its score graph."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def as_metadata(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the card as ONNX metadata: the contract by itself, everything as JSON."""
    return {"protemb.contract": str(card["contract"]), "protemb.card": json.dumps(card)}
