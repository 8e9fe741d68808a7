"""A predictor on an embedding as an ONNX file: written, verified through the SDK, and registered on request.

Contract of heads, version 1 (L residues, K readouts, C channels)

    in   features       float32 (L, K, C)   vectors of residues, in the order of the card
         residue_type   int64   (L)         positions in ACDEFGHIKLMNPQRSTVWYX
         ca_coords      float32 (L, 3)      angstrom, centred; only for heads that use them
    out  probability    float32 (L)         kind "sites"
    out  residue_lddt   float32 (L)         kind "quality"
         lddt, gdt_ts   float32 ()
         value          float32 (L, N)      kind "residue-label": N classes, or 1
                        float32 (N)         kind "protein-label"

Metadata: `protemb.head` (the version) and `protemb.card`, a JSON object with name, kind, encoder (name, hash
of its weights, noise level), readouts, quality on held-out chains, licence and golden values; for "sites" a
threshold, or null if it depends on the chain; for labels the classes (names, or null for a quantity).
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import torch

from protemb_export.errors import ParityError
from protemb_export.pack import check_bundled
from protemb_export.storage import save_graph
from protemb_export.verify import TOLERANCE
from protemb_export.writing import finish, to_onnx
from protemb_sdk import Chain, Embedder
from protemb_sdk._base.output import writable_target, write_text_whole, written_whole
from protemb_sdk._model.heads import HEAD_CONTRACT, INPUTS, OUTPUTS
from protemb_sdk._model.models import EXAMPLE
from protemb_sdk._predict.predictor import Predictor, features_of, of_map, outputs_of
from protemb_train.base.origin import origin
from protemb_train.downstream.labels.head import LabelModel
from protemb_train.downstream.quality.scorer_model import QualityModel, for_export
from protemb_train.downstream.sites.predictor import SitesModel

GOLDEN_RESIDUES = 10


class Trained(Protocol):
    """A trained predictor of any kind: a module that takes `INPUTS`, and its card."""

    @property
    def model(self) -> SitesModel | QualityModel | LabelModel:
        """The module in eval mode."""
        ...

    @property
    def card(self) -> dict[str, Any]:
        """The card as plain values."""
        ...


def head_graph(
    model: SitesModel | QualityModel | LabelModel, readouts: int, channels: int, card: Mapping[str, Any]
) -> onnx.ModelProto:
    """Return the graph of a predictor, contract version 1, with its card.

    Parameters
    ----------
    model : nn.Module
        In eval mode.
    readouts, channels : int
        K and C of the features.
    card : mapping
        Written into the file; its kind determines the outputs.
    """
    length = 12
    coords = torch.arange(3.0 * length).reshape(length, 3).square()
    arguments = (torch.zeros(length, readouts, channels), torch.arange(length) % 21, coords)
    same = {0: torch.export.Dim.DYNAMIC}
    outputs = OUTPUTS[card["kind"]]
    sizes = {"classes": len(card.get("classes") or (None,))}
    graph = to_onnx(model, arguments, list(INPUTS), list(outputs), (same, same, same))
    axes: dict[str, list[str | int]] = {
        INPUTS[0]: ["length", readouts, channels],
        INPUTS[1]: ["length"],
        INPUTS[2]: ["length", 3],
        **{name: [sizes.get(axis, axis) for axis in axes] for name, axes in outputs.items()},
    }
    return finish(graph, "protemb_head", _metadata(card), axes)


def _metadata(card: Mapping[str, Any]) -> dict[str, str]:
    return {"protemb.head": HEAD_CONTRACT, "protemb.card": json.dumps(card)}


def pack_head(
    trained: Trained,
    out: Path,
    *,
    name: str,
    licence: str,
    chains: Iterable[Chain],
    embedder: Embedder | None = None,
) -> float:
    """Write a head if the SDK and PyTorch agree, and return the largest difference.

    Parameters
    ----------
    trained : Trained
        Output of `protemb-train sites predictor` or `protemb-train quality scorer`.
    out : Path
        ONNX file.
    name : str
        Name of the head.
    licence : str
        Licence of the weights.
    chains : iterable of Chain
        Real chains for the comparison.
    embedder : Embedder, optional
        Embedder of the model that the head was trained on, if the model is not bundled.

    Raises
    ------
    OutputError
        If the file cannot be written.
    ParityError
        If an output differs by more than `TOLERANCE` of its scale.
    """
    writable_target(out)
    model = trained.model
    if isinstance(model, QualityModel):
        model = for_export(model)
    card = {"name": name, **trained.card, "licence": licence, "exported_by": origin()}
    readouts = len(card["readouts"]) if of_map(card["readouts"]) else 1
    graph = head_graph(model, readouts, model.mean_HE.shape[1] // readouts, card)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        save_graph(graph, draft)
        predictor: Predictor[Any] = (
            Predictor(card["kind"], draft, "cpu")
            if embedder is None
            else Predictor(card["kind"], draft, embedder=embedder)
        )
        worst = _deviation(predictor, model, chains)
        if not worst <= TOLERANCE:  # not ">": NaN must not pass
            raise ParityError(
                f"not written: the outputs of ONNX Runtime and PyTorch differ by "
                f"{worst:.1e} of its scale, more than {TOLERANCE:g}; please report this head",
                out,
            )
        arrays = outputs_of(predictor, predictor.embedder.embed(EXAMPLE, **predictor.info.asked))
    golden = {
        name: [float(f"{v:.6g}") for v in np.ravel(values)[:GOLDEN_RESIDUES]]
        for name, values in zip(OUTPUTS[card["kind"]], arrays, strict=True)
    }
    card |= {
        "parity": dict.fromkeys(golden, float(f"{worst:.2e}")),
        "golden": {"structure": EXAMPLE.name, **golden},
    }
    onnx.helper.set_model_props(graph, _metadata(card))
    with written_whole(out) as part:
        save_graph(graph, part)
    return worst


@torch.inference_mode()
def _deviation(
    predictor: Predictor[Any],
    model: SitesModel | QualityModel | LabelModel,
    chains: Iterable[Chain],
) -> float:
    """Return the largest difference of an output, relative to its largest magnitude on all chains.

    Single chains are no reference: a quantity may be zero there. Probabilities are not scaled.
    """
    kind = predictor.info.card["kind"]
    least = float(np.finfo(np.float32).tiny) if predictor.info.is_quantity else 1.0
    worst = dict.fromkeys(OUTPUTS[kind], 0.0)
    scale = dict.fromkeys(OUTPUTS[kind], least)
    chain = None
    for chain in chains:
        embedding = predictor.embedder.embed_chain(chain, **predictor.info.asked)
        features = features_of(embedding, predictor.info.readouts)
        arguments = (features, chain.residue_type, chain.centred_coords.astype(np.float32))
        expected = model(*map(torch.from_numpy, arguments))
        sides = expected if isinstance(expected, tuple) else (expected,)
        for name, found, side in zip(worst, outputs_of(predictor, embedding), sides, strict=True):
            wanted = side.numpy()
            difference, magnitude = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
            if not np.isfinite([difference, magnitude]).all():
                raise ParityError("PyTorch or ONNX Runtime returns values that are not finite", chain.id)
            worst[name], scale[name] = max(worst[name], difference), max(scale[name], magnitude)
    if chain is None:
        raise ParityError("no chain to verify on; pass at least one")
    return max(worst[name] / scale[name] for name in worst)


def register_head(out: Path, summary: str, card: Mapping[str, Any]) -> None:
    """Add a head in the SDK's folder, with the hash of its file, to the SDK's list of heads.

    Raises
    ------
    ExportError
        If the file is not in that folder.
    OutputError
        If the list cannot be written.
    """
    path = check_bundled(out).with_name("heads.json")
    heads = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    heads[out.stem] = {
        "file": out.name,
        "encoder": card["encoder"]["name"],
        "kind": card["kind"],
        "summary": summary,
        "sha256": hashlib.sha256(out.read_bytes()).hexdigest(),
    }
    write_text_whole(path, json.dumps(heads, indent=1) + "\n")
