"""Networks by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import nn

from protemb_train.downstream.sites.data import LONGEST, SitesError
from protemb_train.downstream.sites.deepppisp import DeepPPISP
from protemb_train.downstream.sites.head import SiteHead
from protemb_train.downstream.sites.training import HEAD_EPOCHS

Maker = Callable[[int, int, int], nn.Module]

NETWORKS: dict[str, tuple[Maker, dict[str, Any]]] = {
    "deepppisp": (DeepPPISP, {}),
    "deepppisp-published": (partial(DeepPPISP, one_hot="chain"), {"pad_to": LONGEST}),
    "head": (SiteHead, {"epochs": HEAD_EPOCHS}),
}


def find_network(name: str) -> tuple[Maker, dict[str, Any]]:
    """Return what makes a network of the widths of features and embeddings, and options of `train`.

    Raises
    ------
    SitesError
        If there is none of that name.
    """
    if name not in NETWORKS:
        raise SitesError(f"no network named {name!r}; there are {', '.join(NETWORKS)}")
    return NETWORKS[name]
