"""Networks by name, for the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

from torch import nn

from protemb_train.downstream.sites.data import LONGEST, SitesError
from protemb_train.downstream.sites.deepppisp import DeepPPISP
from protemb_train.downstream.sites.graph import GraphHead
from protemb_train.downstream.sites.training import Recipe

Maker = Callable[[int, int, int], nn.Module]

GRAPH_RECIPE = Recipe(
    epochs=10,
    patience=None,
    chains_a_batch=8,
    residues_a_chain=10_000,  # more than a chain has: the graph needs whole chains
    weight_decay=1e-2,
    one_cycle=True,
    graph=True,
    scale_features=True,
)

TRAINED_STATES = replace(GRAPH_RECIPE, encoder_rate=0.2, clip=1.0)
"""With states that are trained with the head; rates of .1 to .5 were tried on chains of Train_335."""

START_EPOCHS = 6  # on pieces of chains, of which there are fifteen times as many

NETWORKS: dict[str, tuple[Maker, Recipe]] = {
    "deepppisp": (DeepPPISP, Recipe()),
    "deepppisp-published": (partial(DeepPPISP, one_hot="chain"), Recipe(pad_to=LONGEST)),
    "graph": (GraphHead, GRAPH_RECIPE),
    # Without training: the network as pretrained on cut chains, before any label.
    "graph-unlabelled": (GraphHead, replace(GRAPH_RECIPE, epochs=0)),
}


def find_network(name: str) -> tuple[Maker, Recipe]:
    """Return the constructor of a network and its training settings.

    Raises
    ------
    SitesError
        If there is no network of that name.
    """
    if name not in NETWORKS:
        raise SitesError(f"there is no network {name!r}; available are {', '.join(NETWORKS)}")
    return NETWORKS[name]
