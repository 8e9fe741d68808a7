"""The metadata stored in a graph: identity, training and evaluation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from torch import nn

from protemb_sdk import ALPHABET
from protemb_sdk._model.models import CONTRACT, STATES_CONTRACT
from protemb_train.base.origin import origin
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.vectors import ChainVectors

PAPER = "Guo et al., AAAI 2022, https://doi.org/10.1609/aaai.v36i6.20636"


def make_card(
    network: ScoreNetwork,
    name: str,
    sigma: float | None,
    record: Mapping[str, Any],
    licence: str,
    evaluation: Mapping[str, Any] | None = None,
    vectors: ChainVectors | None = None,
) -> dict[str, Any]:
    """Return the card of a graph; `sigma` is None for a score graph.

    Parameters
    ----------
    network : ScoreNetwork
        Exported network.
    name : str
        Name of the model.
    sigma : float or None
        Fixed noise level, angstrom.
    record : mapping
        How the network was trained, from its checkpoint.
    licence : str
        Licence of the weights.
    evaluation : mapping, optional
        `judgement` and `curve`, as written by `protemb-train judge`.
    vectors : ChainVectors, optional
        Contents of the embeddings, for a network with a single representation.
    """
    config = network.config
    card = {
        "contract": STATES_CONTRACT if config.exchanges else CONTRACT,
        "name": name,
        "kind": "score" if sigma is None else "embedding",
        "alphabet": ALPHABET,
        "channels": config.channels,
        "radius": network.radius,
        **({} if vectors is None else _of_vectors(network, vectors)),
        "sigma_range": [config.sigma_min, config.sigma_max],
        "network": config.as_dict(),
        "training": dict(record),
        **(evaluation or {}),
        "weights_sha256": weights_sha256(network),
        "exported_by": origin(),
        "method": PAPER,
        "licence": licence,
    }
    return card if sigma is None else card | {"sigma": sigma}


def _of_vectors(network: ScoreNetwork, vectors: ChainVectors) -> dict[str, Any]:
    dilations, exchanges = network.config.dilations, network.config.exchanges or ()
    given = vectors.matrix is not None
    return {
        # Rows needed on either side of a strip, for the means of each exchange and for the last map.
        "radii": [sum(dilations[:blocks]) for blocks in (*exchanges, len(dilations))],
        "widths": {
            "pair": network.config.channels,
            "residue": vectors.residue_width,
            "protein": vectors.protein_width,
        },
        "residue": list(vectors.contents),
        "protein": {
            "from": "linear map of five mean states and 55 distances" if given else "mean state, normalised",
            "map_sha256": _sha256(vectors) if given else None,
        },
    }


def weights_sha256(network: ScoreNetwork) -> str:
    """Return a hash of a network's weights; the embedding graph and the score graph share it."""
    return _sha256(network)


def _sha256(module: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def as_metadata(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the card as ONNX metadata: the contract version, and everything as JSON."""
    return {"protemb.contract": str(card["contract"]), "protemb.card": json.dumps(card)}
