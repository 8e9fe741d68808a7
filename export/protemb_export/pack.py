"""One model from network to files: both graphs, verified, with golden vector and card; bundled on request."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx

from protemb_export.card import as_metadata, make_card
from protemb_export.graph import embedding_graph, score_graph
from protemb_export.verify import TOLERANCE, Parity, ParityError, measure_parity
from protemb_sdk._chain import Chain
from protemb_sdk._doctor import EXAMPLE
from protemb_sdk._embedder import Embedder
from protemb_sdk._models import BUNDLED
from protemb_sdk._output import written_whole
from protemb_train.network import ScoreNetwork


def _with_card(model: onnx.ModelProto, card: Mapping[str, Any]) -> onnx.ModelProto:
    onnx.helper.set_model_props(model, as_metadata(card))
    return model


def pack(
    network: ScoreNetwork,
    out: Path,
    *,
    name: str,
    sigma: float,
    record: Mapping[str, Any],
    licence: str,
    chains: Iterable[Chain],
    score: bool = True,
) -> Parity:
    """Write `out` and, with `score`, `<out>-score.onnx` beside it; nothing is left if verification fails.

    Raises
    ------
    ParityError
        If ONNX Runtime and PyTorch differ by more than `TOLERANCE` of the embedding's scale.
    """
    card = make_card(network, name, sigma, record, licence)
    graph = embedding_graph(network, sigma, as_metadata(card))
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        onnx.save(graph, draft)
        embedder = Embedder(draft, "cpu")
        parity = measure_parity(network, embedder, chains)
        if parity.worst > TOLERANCE:
            raise ParityError(
                f"{out}: ONNX Runtime differs from PyTorch by {parity.worst:.1e} of scale; not written"
            )
        golden = [float(f"{value:.7g}") for value in embedder.embed(EXAMPLE).protein]
    card |= {"parity": parity.as_dict(), "golden": {"structure": EXAMPLE.name, "protein": golden}}
    with written_whole(out) as part:
        onnx.save(_with_card(graph, card), part)
    if score:
        score_card = make_card(network, name, None, record, licence)
        with written_whole(out.with_name(out.stem + "-score.onnx")) as part:
            onnx.save(score_graph(network, as_metadata(score_card)), part)
    return parity


def register(name: str, summary: str) -> None:
    """Enter the bundled files of a model, with their hashes, into the SDK's registry."""
    path = BUNDLED / "registry.json"
    registry = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    files = {"embedding": BUNDLED / f"{name}.onnx", "score": BUNDLED / f"{name}-score.onnx"}
    present = {kind: file for kind, file in files.items() if file.exists()}
    registry[name] = {
        **{kind: file.name for kind, file in present.items()},
        "summary": summary,
        "sha256": {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in present.values()},
    }
    path.write_text(json.dumps(registry, indent=1) + "\n", encoding="utf-8")
