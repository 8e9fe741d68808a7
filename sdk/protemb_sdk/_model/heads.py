"""Heads: predictors on top of readouts. Which there are, and what their metadata say and must match."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from protemb_sdk._base.errors import MALFORMED, EmbeddingError, ModelError
from protemb_sdk._model.models import BUNDLED, Model, check_contract
from protemb_sdk._model.readouts import Asked, asked_for, check_readouts

HEAD_CONTRACT = "1"
"""Version of the contract between a head's graph and this SDK."""

INPUTS = ("features", "residue_type", "ca_coords")
"""What a head's graph may take, the first in any case."""

OUTPUTS: dict[str, dict[str, tuple[str, ...]]] = {
    "sites": {"probability": ("length",)},
    "quality": {"residue_lddt": ("length",), "lddt": (), "gdt_ts": ()},
    "residue-label": {"value": ("length", "classes")},
    "protein-label": {"value": ("classes",)},
}
"""What heads of each kind give, and its axes. A label that is a quantity has one class and no bounds; all
else lies between 0 and 1."""
LABELS = ("residue-label", "protein-label")


@dataclass(frozen=True, slots=True)
class HeadInfo:
    """What a head's metadata say of it.

    Parameters
    ----------
    sha256 : str
        Of the file.
    path : Path
        The file.
    name : str
        Its name.
    encoder : str
        Name of the model whose embeddings it was trained on.
    weights_sha256 : str
        Of that model's weights, as its own card says.
    sigma : float
        Noise level of that model's embedding graph, angstrom.
    readouts : tuple of str
        Vectors of residues it takes, in the order of its features: readouts, "residue", "profile".
    card : dict
        All metadata.
    """

    sha256: str
    path: Path
    name: str
    encoder: str
    weights_sha256: str
    sigma: float
    readouts: tuple[str, ...]
    card: dict[str, Any]

    @property
    def asked(self) -> Asked:
        """What an embedding must be asked for."""
        return asked_for(self.readouts)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """Names of the classes of a label; None for a quantity, and for heads of other kinds."""
        return tuple(self.card["classes"]) if self.card.get("classes") else None

    @property
    def is_quantity(self) -> bool:
        """Whether its output is a label without bounds."""
        return self.card["kind"] in LABELS and self.classes is None

    def check_encoder(self, card: Mapping[str, Any]) -> None:
        """Compare with the card of the model whose embeddings the head would get.

        Raises
        ------
        ModelError
            If it is another network, or the same at another noise level.
        """
        weights, sigma = str(card.get("weights_sha256")), float(card["sigma"])
        if weights != self.weights_sha256 or not math.isclose(sigma, self.sigma, rel_tol=1e-6):
            raise ModelError(
                f"the head {self.name!r} was trained on {self.encoder!r} (weights "
                f"{self.weights_sha256[:12]}..., {self.sigma:g} angstrom) and this Embedder holds weights "
                f"{weights[:12]}... at {sigma:g} angstrom; use the Embedder of that model",
                self.path,
            )


@cache
def _registry() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = json.loads((BUNDLED / "heads.json").read_text(encoding="utf-8"))
    return loaded


def list_heads() -> list[Model]:
    """Return the bundled heads: name, file and what they predict."""
    return [find_head(name) for name in _registry()]


def find_head(head: str | PathLike[str]) -> Model:
    """Return a bundled head by name, or the head in a file.

    Raises
    ------
    ModelError
        If there is no such name and no such file.
    """
    if not isinstance(head, str | PathLike):
        raise ModelError(f"head={head!r}: pass the name of a bundled head, or the path of an .onnx file")
    known = _registry()
    if isinstance(head, str) and head in known:
        entry = known[head]
        file = entry["file"]
        return Model(head, BUNDLED / file, None, entry["summary"], {file: entry["sha256"]})
    path = Path(head)
    try:
        found = path.is_file()
    except (OSError, ValueError):  # too long, or a NUL in it
        found = False
    if not found and str(head) in known:
        raise ModelError("no such file; pass a bundled head by its name alone, a str", path)
    if not found:
        raise ModelError(
            f"no head named {str(head)!r}: bundled are {', '.join(known) or 'none'}; otherwise pass the path "
            "of an .onnx file"
        )
    return Model(path.stem, path, None, "a file of the caller's", {})


def read_head_info(
    kinds: str | tuple[str, ...], fields: Mapping[str, str], digest: str, path: Path
) -> HeadInfo:
    """Return what the metadata of a head of one of some kinds say.

    Raises
    ------
    ModelError
        If they are not a head's, of another contract or kind, or incomplete.
    """
    check_contract(fields, path, "protemb.head", (HEAD_CONTRACT,), "a head", "head")
    try:
        card: dict[str, Any] = json.loads(fields["protemb.card"])
        kind, wanted = str(card["kind"]), (kinds,) if isinstance(kinds, str) else kinds
        if kind not in wanted:
            raise ModelError(
                f"is a head for {kind!r}; a head for {' or '.join(map(repr, wanted))} is needed here", path
            )
        encoder, names = card["encoder"], card["readouts"]
        if not isinstance(names, list) or not names or len(set(names)) < len(names):
            raise ValueError("readouts must be a list of different names")
        check_readouts(asked_for(names)["readouts"])
        if kind == "sites" and not (card["threshold"] is None or 0 <= float(card["threshold"]) <= 1):
            raise ValueError("threshold must lie between 0 and 1, or be null")
        if kind in LABELS and card["classes"] is not None and len(set(map(str, card["classes"]))) < 2:
            raise ValueError("classes must be at least two, or null")
        return HeadInfo(
            sha256=digest,
            path=path,
            name=str(card["name"]),
            encoder=str(encoder["name"]),
            weights_sha256=str(encoder["weights_sha256"]),
            sigma=float(encoder["sigma"]),
            readouts=tuple(names),
            card=card,
        )
    except EmbeddingError as error:
        raise ModelError(f"the head wants what this SDK does not have: {error.problem}", path) from error
    except MALFORMED as error:
        raise ModelError(f"its head metadata are incomplete ({error!r}); export it again", path) from error


def check_signature(
    info: HeadInfo, inputs: Sequence[str], outputs: Sequence[str], wanted: Iterable[str]
) -> None:
    """Compare the names of a graph's inputs and outputs with the contract.

    Raises
    ------
    ModelError
        If it takes something else, no features, or does not give what is wanted.
    """
    if not {INPUTS[0]} <= set(inputs) <= set(INPUTS) or not set(wanted) <= set(outputs):
        raise ModelError(
            f"its graph takes {', '.join(inputs)} and gives {', '.join(outputs)}; head contract "
            f"{HEAD_CONTRACT} takes {', '.join(INPUTS)} and gives {', '.join(wanted)}",
            info.path,
        )
