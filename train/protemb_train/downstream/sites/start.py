"""Where a head starts from: what it learnt on interfaces within chains (`cuts`), kept in a file."""

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
"""Of the pieces, those of the last chains, to see how well it learns; they choose nothing."""


@dataclass(frozen=True, slots=True, eq=False)
class Started:
    """A start, and what it was made of: network, encoder with readouts, pieces, curve."""

    start: Start
    about: dict[str, Any]

    def check(self, network: str, encoder: Encoder) -> None:
        """Compare with the network and the encoder of a row.

        Raises
        ------
        SitesError
            If it was made with others.
        """
        for name, wanted, same in (
            ("network", network, find_network(network)[0] is find_network(self.about["network"])[0]),
            ("encoder", encoder.about, encoder.about == self.about["encoder"]),
        ):
            if not same:
                raise SitesError(
                    f"the start was made with {name} {self.about[name]}, and the row has {wanted}; "
                    "make another"
                )

    @property
    def record(self) -> dict[str, Any]:
        """What results say of it: all but its curve."""
        return self.about | {"curve": None}


def learn_from_cuts(
    pieces: Sequence[SiteChain],
    encoder: Encoder,
    make: Callable[[int, int, int], nn.Module],
    recipe: Recipe,
    *,
    network: str,
    seed: int = 0,
    cache: Path | None = None,
) -> Started:
    """Train a network on pieces of chains (`cut_corpus`) without PSSM and DSSP.

    Parameters
    ----------
    pieces : sequence of SiteChain
        Pieces of one chain lie next to each other.
    encoder : Encoder
        Makes the embeddings.
    make, recipe, seed
        As in `train`.
    network : str
        Name of what `make` makes.
    cache : Path, optional
        Folder of embeddings.
    """
    tensors = as_tensors(pieces, embed_all(encoder, pieces, cache), features=False, graph=recipe.graph)
    learnt = len(pieces) - max(1, round(len(pieces) * HELD_OUT))
    while learnt > 1 and pieces[learnt - 1].id.split(":")[0] == pieces[learnt].id.split(":")[0]:
        learnt -= 1
    run = train(make, tensors[:learnt], tensors[learnt:], [], recipe, seed=seed)
    about = {
        "network": network,
        "encoder": encoder.about,
        "pieces": [learnt, len(pieces) - learnt],
        "seed": seed,
        "curve": run.curve,
    }
    return Started(Start(run.network.state_dict(), run.scaling), about)


def save_start(started: Started, out: Path) -> None:
    """Write a start.

    Raises
    ------
    OutputError
        If it cannot be written.
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
    """Read what `save_start` wrote.

    Raises
    ------
    ModelError
        If the file is missing, or is no start.
    """
    loaded = read_tensors(path)
    try:
        if loaded["format"] != FORMAT:
            raise ModelError(f"holds {loaded['format']!r}, this reads {FORMAT!r} only", path)
        scaling = Scaling(dict(loaded["means"]), dict(loaded["spreads"]))
        return Started(Start(dict(loaded["state"]), scaling), dict(loaded["about"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"not a file of protemb-train sites start ({error})", path) from error


def started_from(path: Path | None, network: str, encoder: Encoder) -> Started | None:
    """Read a start for a network on an encoder; None without a path.

    Raises
    ------
    ModelError
        As `load_start`.
    SitesError
        As `Started.check`.
    """
    if path is None:
        return None
    started = load_start(path)
    started.check(network, encoder)
    return started
