"""Pretraining of a head on interfaces within chains (`cuts`), and its file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from protemb_sdk import ModelError
from protemb_sdk._base.output import written_whole
from protemb_train.downstream.common.embeddings import Encoder, embed_all
from protemb_train.downstream.sites.batches import Scaling, as_tensors
from protemb_train.downstream.sites.data import SiteChain, SitesError
from protemb_train.downstream.sites.networks import find_network
from protemb_train.downstream.sites.training import Recipe, Start, train
from protemb_train.network.checkpoint import read_tensors

FORMAT = "protemb-sites-start-1"
HELD_OUT = 1 / 20
"""Share of the pieces, those of the last chains, used to monitor training; they select nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Started:
    """A pretrained head and its description: network, encoder with readouts, pieces, curve."""

    start: Start
    about: dict[str, Any]

    def check(self, network: str, encoder: Encoder) -> None:
        """Compare with the network and the encoder of a row.

        Raises
        ------
        SitesError
            If they differ.
        """
        for name, wanted, same in (
            ("network", network, find_network(network)[0] is find_network(self.about["network"])[0]),
            ("encoder", encoder.about, encoder.about == self.about["encoder"]),
        ):
            if not same:
                raise SitesError(
                    f"the start was made with {name} {self.about[name]}, but the row has {wanted}; "
                    "make another start"
                )

    @property
    def record(self) -> dict[str, Any]:
        """Description without the curve, for results."""
        return self.about | {"curve": None}


def train_on_cuts(
    pieces: Sequence[SiteChain],
    encoder: Encoder,
    make: Callable[[int, int, int], nn.Module],
    recipe: Recipe,
    *,
    network: str,
    seed: int = 0,
    cache: Path | None = None,
) -> Started:
    """Train a network on pieces of chains (`cut_corpus`), without PSSM and DSSP.

    Parameters
    ----------
    pieces : sequence of SiteChain
        Pieces; those of one chain are adjacent.
    encoder : Encoder
        Computes the embeddings.
    make, recipe, seed
        As in `train`.
    network : str
        Name of the network that `make` creates.
    cache : Path, optional
        Cache folder of embeddings.
    """
    tensors = as_tensors(pieces, embed_all(encoder, pieces, cache), features=False, graph=recipe.graph)
    count = len(pieces) - max(1, round(len(pieces) * HELD_OUT))
    while count > 1 and pieces[count - 1].id.split(":")[0] == pieces[count].id.split(":")[0]:
        count -= 1
    run = train(make, tensors[:count], tensors[count:], [], recipe, seed=seed)
    about = {
        "network": network,
        "encoder": encoder.about,
        "pieces": [count, len(pieces) - count],
        "seed": seed,
        "curve": run.curve,
    }
    return Started(Start(run.network.state_dict(), run.scaling), about)


def save_start(started: Started, out: Path) -> None:
    """Write a start file.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    scaling = started.start.scaling
    with written_whole(out) as part:
        torch.save(
            {
                "format": FORMAT,
                "about": started.about,
                "state": started.start.state,
                "means": scaling.means,
                "spreads": scaling.spreads,
            },
            part,
        )


def load_start(path: Path) -> Started:
    """Read a file of `save_start`.

    Raises
    ------
    ModelError
        If the file is missing or is not such a file.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"has the format {loaded['format']!r}; only {FORMAT!r} can be read", path)
        scaling = Scaling(dict(loaded["means"]), dict(loaded["spreads"]))
        return Started(Start(dict(loaded["state"]), scaling), dict(loaded["about"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"not a file of protemb-train sites start ({error})", path) from error


def started_from(path: Path | None, network: str, encoder: Encoder) -> Started | None:
    """Read a start for a network and an encoder; None without a path.

    Raises
    ------
    ModelError
        See `load_start`.
    SitesError
        See `Started.check`.
    """
    if path is None:
        return None
    started = load_start(path)
    started.check(network, encoder)
    return started
