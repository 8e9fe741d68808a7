"""Which models there are, by name or by path, and what their metadata say."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from protemb_sdk._base.errors import MALFORMED, ModelError
from protemb_sdk._model.onnx_file import has_external_data

BUNDLED = Path(__file__).parents[1] / "bundled"
EXAMPLE = BUNDLED / "1a8o.cif"
KINDS = ("score", "gpu")
"""Graphs that may lie beside an embedding graph."""
CONTRACT, STATES_CONTRACT = "1", "2.0"
"""Versions of the graph contract that this SDK supports (see export/README.md): networks without and with a
single representation."""


@dataclass(frozen=True, slots=True)
class Model:
    """A model that can be loaded.

    Parameters
    ----------
    name : str
        Name to pass to `Embedder(model=...)`.
    path : Path
        Embedding graph.
    score_path : Path or None
        Score graph, where there is one.
    summary : str
        What it is, in one line.
    sha256 : dict of str to str
        Expected hash per file name; empty for files outside the registry.
    gpu_path : Path or None
        An equal embedding graph that CUDA runs faster, where there is one.

    Examples
    --------
    >>> from protemb_sdk import list_models
    >>> model = list_models()[0]
    >>> model.name, model.path.name
    ('base', 'base.onnx')
    """

    name: str
    path: Path
    score_path: Path | None
    summary: str
    sha256: dict[str, str]
    gpu_path: Path | None = None


INTEGERS = "8-bit integers"
"""Precision of the pair map in the card of a quantised graph, under `blocks`."""


@dataclass(frozen=True, slots=True)
class GraphInfo:
    """What a graph's metadata says of it.

    Parameters
    ----------
    sha256 : str
        Of the file; of the file that it equals if it is one for GPUs.
    contract : str
        Version of the contract that the graph is written for.
    channels : int
        C of the pair map.
    widths : dict of str to int
        Of the embeddings "pair", "residue" and "protein".
    radii : tuple of int
        Halo of a strip, in residues to either side: for the means of each exchange, and last for the pair
        map. One number in contract 1.
    sigma_range : tuple of float
        Smallest and largest trained noise level, angstrom.
    card : dict
        All metadata.
    """

    sha256: str
    contract: str
    channels: int
    widths: dict[str, int]
    radii: tuple[int, ...]
    sigma_range: tuple[float, float]
    card: dict[str, Any]

    @property
    def radius(self) -> int:
        """Halo of a strip of the pair map."""
        return self.radii[-1]

    @property
    def has_states(self) -> bool:
        """Whether the network has a single representation: contract 2."""
        return self.contract != CONTRACT

    @property
    def has_integers(self) -> bool:
        """Whether the pair map is in 8-bit integers."""
        return dict(self.card.get("quantised") or {}).get("blocks") == INTEGERS


@cache
def _registry() -> dict[str, dict[str, Any]]:
    loaded: dict[str, dict[str, Any]] = json.loads((BUNDLED / "registry.json").read_text(encoding="utf-8"))
    return loaded


def list_models() -> list[Model]:
    """Return the bundled models, the default first.

    Returns
    -------
    list of Model

    Examples
    --------
    >>> from protemb_sdk import list_models
    >>> [model.name for model in list_models()][:3]
    ['base', 'base-int8', 'base-fp16']
    """
    return [
        Model(
            name=name,
            path=BUNDLED / entry["embedding"],
            score_path=BUNDLED / entry["score"] if "score" in entry else None,
            summary=entry["summary"],
            sha256=dict(entry["sha256"]),
            gpu_path=BUNDLED / entry["gpu"] if "gpu" in entry else None,
        )
        for name, entry in _registry().items()
    ]


def find_model(model: str | PathLike[str]) -> Model:
    """Return a bundled model by name, or the model in a file.

    A file `x.onnx` brings its score graph along where `x-score.onnx` lies beside it, and one for GPUs where
    `x-gpu.onnx` does.

    Raises
    ------
    ModelError
        If there is no such name and no such file.
    """
    if not isinstance(model, str | PathLike):
        raise ModelError(f"model={model!r}: pass the name of a bundled model, or the path of an .onnx file")
    bundled = list_models()
    for known in bundled:
        if known.name == model:
            return known
    path = Path(model)
    if not os.path.isfile(path):
        names = ", ".join(known.name for known in bundled)
        raise ModelError(
            f"no model named {str(model)!r}: bundled are {names}; otherwise pass the path of an .onnx file"
        )
    score, gpu = (found if (found := beside(path, kind)).is_file() else None for kind in KINDS)
    return Model(path.stem, path, score, "a file of the caller's", {}, gpu)


def find_bundled(
    name: str, *, weights_sha256: str | None = None, model_sha256: str | None = None
) -> Model | None:
    """Return the bundled model with given weights or a given embedding graph, or None.

    The name of a model may pass to a new one, while stores and predictors need the one they were made with.

    Parameters
    ----------
    name : str
        Preferred where several fit: a network, and the same in 8-bit integers, have equal weights.
    weights_sha256 : str, optional
        Of the network's weights, as its card says.
    model_sha256 : str, optional
        Of the embedding graph's file.
    """
    fitting = [
        model
        for model in list_models()
        if (weights_sha256 is None or _registry()[model.name].get("weights_sha256") == weights_sha256)
        and (model_sha256 is None or model.sha256.get(model.path.name) == model_sha256)
    ]
    named = [model for model in fitting if model.name == name]
    return next(iter(named or fitting), None)


def beside(path: Path, kind: str) -> Path:
    """Return where the graph "score" or "gpu" of an embedding graph lies."""
    return path.with_name(f"{path.name.removesuffix('.onnx')}-{kind}.onnx")


def score_path(model: Model) -> Path:
    """Return the path of a model's score graph.

    Raises
    ------
    ModelError
        If it has none.
    """
    if model.score_path is None:
        raise ModelError(f"model {model.name!r} has no score graph; export one beside it with protemb-export")
    return model.score_path


def read_graph(model: Model, path: Path) -> tuple[bytes, str]:
    """Return a graph file's bytes and SHA-256, checked against the registry where it is listed there.

    Raises
    ------
    ModelError
        If it cannot be read, is damaged, or refers to other files.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"cannot be read ({error.strerror})", path) from error
    digest = hashlib.sha256(content).hexdigest()
    expected = model.sha256.get(path.name)
    if expected is not None and digest != expected:
        raise ModelError(
            f"the bundled model is damaged (SHA-256 {digest[:12]}..., not {expected[:12]}...); "
            "reinstall protemb-sdk",
            path,
        )
    try:
        elsewhere = has_external_data(content)
    except ValueError as error:
        raise ModelError(f"is not a complete ONNX file ({error})", path) from error
    if elsewhere:  # ONNX Runtime would open any file that the model names
        raise ModelError(
            "keeps tensors in other files, which is not read; save it with all tensors inside", path
        )
    return content, digest


def check_equal(model: Model, info: GraphInfo) -> None:
    """Refuse a graph for GPUs that was made of another graph than the one it lies beside.

    Raises
    ------
    ModelError
        In a sentence that says so.
    """
    loaded_twin = model.gpu_path is not None and "equals_sha256" in info.card
    if loaded_twin and info.sha256 != read_graph(model, model.path)[1]:
        raise ModelError(
            f"not equal to {model.path.name} beside it, but to another graph; "
            "make it again with protemb-export gpu, or delete it",
            model.gpu_path,
        )


def check_contract(
    fields: Mapping[str, str], path: Path, key: str, spoken: tuple[str, ...], article: str, kind: str
) -> str:
    """Return the contract that metadata name under `key`; refuse none, or another than those spoken here.

    Raises
    ------
    ModelError
        In a sentence that says which.
    """
    contract = fields.get(key)
    if contract is None:
        raise ModelError(f"an ONNX file, but not {article} of protemb's (its metadata names no {key})", path)
    if contract not in spoken:
        raise ModelError(
            f"written for {kind} contract {contract}, and this SDK supports {' and '.join(spoken)}; "
            "install the version of protemb-sdk that belongs to it",
            path,
        )
    return contract


def read_graph_info(
    kind: Literal["embedding", "score"], fields: Mapping[str, str], digest: str, path: Path
) -> GraphInfo:
    """Return what the metadata of an embedding or score graph say.

    Raises
    ------
    ModelError
        If they are not ours, of another contract or another graph, or incomplete.
    """
    spoken = (CONTRACT, STATES_CONTRACT)
    contract = check_contract(fields, path, "protemb.contract", spoken, "one", "graph")
    try:
        card: dict[str, Any] = json.loads(fields["protemb.card"])
        if card["kind"] != kind:
            raise ModelError(f"holds the {card['kind']} graph; pass the {kind} graph beside it", path)
        low, high = card["sigma_range"]
        if kind == "embedding":
            float(card["sigma"])
        channels = int(card["channels"])
        radii: tuple[int, ...] = (int(card["radius"]),)
        widths = dict.fromkeys(("pair", "residue", "protein"), channels)
        if contract == STATES_CONTRACT and kind == "embedding":
            widths = {level: int(card["widths"][level]) for level in widths}
            radii = tuple(map(int, card["radii"]))
            if len(radii) < 2:
                raise ValueError("radii must be of an exchange and of the pair map, at least")
        return GraphInfo(
            sha256=str(card.get("equals_sha256", digest)),
            contract=contract,
            channels=channels,
            widths=widths,
            radii=radii,
            sigma_range=(low, high),
            card=card,
        )
    except MALFORMED as error:
        raise ModelError(f"its protemb metadata are incomplete ({error!r}); export it again", path) from error
