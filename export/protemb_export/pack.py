"""Exporting a network: both graphs, verified, with golden vector and card; registered on request."""

from __future__ import annotations

import hashlib
import json
import math
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx

from protemb_export.card import as_metadata, make_card, weights_sha256
from protemb_export.errors import ExportError, ParityError
from protemb_export.graph import embedding_graph, score_graph
from protemb_export.products import as_products
from protemb_export.states_graph import integer_graph, states_graph
from protemb_export.storage import load_graph, save_graph
from protemb_export.vectors import vectors_of_graph
from protemb_export.verify import (
    LEAST_COSINE,
    TOLERANCE,
    Likeness,
    Parity,
    chain_tensors,
    measure_equality,
    measure_likeness,
    measure_padding,
    measure_parity,
    measure_score_parity,
)
from protemb_sdk import Chain, Embedder, Model
from protemb_sdk._base.output import writable_target, write_text_whole, written_whole
from protemb_sdk._model.models import BUNDLED, EXAMPLE, INTEGERS, beside
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.vectors import ChainVectors


def folded_level(network: ScoreNetwork, sigma: float) -> float:
    """Return the noise level of a graph requested at `sigma`, in angstrom.

    That is `sigma` itself for `base`, and the trained level nearest to it for `paper`.

    Raises
    ------
    ExportError
        If it is outside the trained range.
    """
    low, high = network.config.sigma_min, network.config.sigma_max
    if not low * (1 - 1e-6) <= sigma <= high * (1 + 1e-6):  # levels are kept as float32
        raise ExportError(
            f"noise level {sigma:g} is outside the trained range, {low:g} to {high:g} angstrom; "
            "choose one inside"
        )
    if network.config.family == "base":
        return sigma
    levels = network.levels_K.tolist()
    # float32 has seven significant digits.
    return float(f"{min(levels, key=lambda level: abs(math.log(level / sigma))):.7g}")


def _vectors_of(network: ScoreNetwork, vectors: ChainVectors | None) -> ChainVectors | None:
    if network.single is None:
        if vectors is not None:
            raise ExportError(
                "this network has no single representation: its residue and protein embeddings are means of "
                "the pair embedding; omit their contents and the linear map"
            )
        return None
    return vectors or ChainVectors(network.config.channels, network.config.single_channels)


def _graph_of(
    network: ScoreNetwork,
    card: Mapping[str, Any],
    vectors: ChainVectors | None,
    half: bool = False,
    padded: bool = False,
) -> onnx.ModelProto:
    if vectors is None:
        return embedding_graph(network, card["sigma"], as_metadata(card), half=half)
    return states_graph(network, card["sigma"], as_metadata(card), vectors, half=half, padded=padded)


def _exported(network: ScoreNetwork, model: Model) -> tuple[Mapping[str, Any], ChainVectors | None]:
    """Return the card of the exported graph of a network, and the contents of its embeddings."""
    card = Embedder(model.path, "cpu").card
    if weights_sha256(network) != card["weights_sha256"]:
        raise ExportError("is not the graph of that checkpoint; export it first", model.path)
    return card, vectors_of_graph(load_graph(model.path), card, network)


def _for_gpus(network: ScoreNetwork, model: Model, half: bool) -> onnx.ModelProto:
    """Return the graph of a model without convolutions, and with the input `lengths` if it has states."""
    card, vectors = _exported(network, model)
    return as_products(_graph_of(network, card, vectors, half=half, padded=True))


def _with_card(model: onnx.ModelProto, card: Mapping[str, Any]) -> onnx.ModelProto:
    onnx.helper.set_model_props(model, as_metadata(card))
    return model


def _check_deviation(what: str, deviation: float, out: Path) -> None:
    # Not ">": NaN must not pass.
    if not deviation <= TOLERANCE:
        raise ParityError(
            f"not written: the {what} differs from the expected values by "
            f"{deviation:.1e} of its scale, more than {TOLERANCE:g}; please report this network",
            out,
        )


def _golden(embedder: Embedder) -> dict[str, Any]:
    """Return the embedding of the example structure that any program running the graph should reproduce."""
    protein = [float(f"{value:.7g}") for value in embedder.embed(EXAMPLE).protein]
    return {"structure": EXAMPLE.name, "protein": protein}


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
    evaluation: Mapping[str, Any] | None = None,
    vectors: ChainVectors | None = None,
) -> Parity:
    """Write `out` and, with `score`, `<out>-score.onnx` next to it; neither if verification fails.

    Parameters
    ----------
    network : ScoreNetwork
        Network in eval mode, on the CPU.
    out : Path
        ONNX file of the embedding graph.
    name : str
        Name of the model, written into the card.
    sigma : float
        Noise level in angstrom; see `folded_level`.
    record : mapping
        How the network was trained, written into the card.
    licence : str
        Licence of the weights.
    chains : iterable of Chain
        Real chains to compare with PyTorch.
    score : bool, default True
        Whether to write the score graph.
    evaluation : mapping, optional
        Result of `protemb-train judge`, written into the card.
    vectors : ChainVectors, optional
        Contents of the embeddings of a network with a single representation; by default `ChainVectors`
        without a linear map.

    Raises
    ------
    ExportError
        If the noise level is outside the trained range, or vectors are given for a network without a single
        representation.
    OutputError
        If a file cannot be written.
    ParityError
        If ONNX Runtime and PyTorch differ by more than `TOLERANCE` of the embedding's scale.
    """
    writable_target(out)
    chains, vectors = list(chains), _vectors_of(network, vectors)
    card = make_card(network, name, folded_level(network, sigma), record, licence, evaluation, vectors)
    graph = _graph_of(network, card, vectors)
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        save_graph(graph, draft)
        if score:
            score_card = make_card(network, name, None, record, licence, evaluation)
            save_graph(score_graph(network, as_metadata(score_card)), beside(draft, "score"))
        embedder = Embedder(draft, "cpu")
        parity = measure_parity(network, embedder, chains, vectors)
        _check_deviation("embedding", parity.worst, out)
        golden = _golden(embedder)
        card |= {"parity": parity.as_dict(), "golden": golden}
        if score:
            deviation = measure_score_parity(network, embedder, chains)
            _check_deviation("score", deviation, out)
            score_card |= {"parity": {"score": float(f"{deviation:.2e}")}}
            scores = _with_card(load_graph(beside(draft, "score")), score_card)
            with written_whole(beside(out, "score")) as part:
                save_graph(scores, part)
    for kind in ("gpu",) if score else ("gpu", "score"):
        beside(out, kind).unlink(missing_ok=True)  # of an earlier network
    with written_whole(out) as part:
        save_graph(_with_card(graph, card), part)
    return parity


def pack_int8(
    network: ScoreNetwork,
    model: Model,
    out: Path,
    calibration: Sequence[Chain],
    held_out: Sequence[Chain],
) -> Likeness:
    """Write `out`, the graph of a network with its pair map in 8-bit integers, if its embeddings agree.

    Parameters
    ----------
    network : ScoreNetwork
        Network with a single representation, in eval mode, on the CPU.
    model : Model
        Its exported float32 graph.
    out : Path
        ONNX file.
    calibration : sequence of Chain
        Real chains used for calibration.
    held_out : sequence of Chain
        Other real chains, for the comparison with float32.

    Raises
    ------
    ExportError
        If the network has no single representation, or the graph was exported from another network.
    ParityError
        If a mean cosine to float32 is below `LEAST_COSINE`.
    OutputError
        If the file cannot be written.
    """
    writable_target(out)
    card, vectors = _exported(network, model)
    if vectors is None:
        raise ExportError("only networks with a single representation can be quantised", model.path)
    graph = integer_graph(network, card["sigma"], as_metadata(card), vectors, map(chain_tensors, calibration))
    lengths = [len(chain) for chain in calibration]
    about = {"calibration": {"chains": len(lengths), "shortest": min(lengths), "longest": max(lengths)}}
    return _pack_narrow(graph, model, out, held_out, INTEGERS, about)


def pack_half(network: ScoreNetwork, model: Model, out: Path, held_out: Sequence[Chain]) -> Likeness:
    """Write `out`, the graph of a network with its blocks in float16, if its embeddings agree.

    Parameters
    ----------
    network : ScoreNetwork
        Network in eval mode, on the CPU.
    model : Model
        Its exported float32 graph.
    out : Path
        ONNX file.
    held_out : sequence of Chain
        Real chains for the comparison with float32.

    Raises
    ------
    ExportError
        If the graph was exported from another network.
    ParityError, OutputError
        See `pack_int8`.
    """
    writable_target(out)
    graph = _for_gpus(network, model, half=True)
    return _pack_narrow(graph, model, out, held_out, "float16", {})


def pack_gpu(model: Model, chains: Iterable[Chain], network: ScoreNetwork | None = None) -> Parity:
    """Write the equivalent graph of an exported float32 model that is faster on CUDA, next to it.

    Parameters
    ----------
    model : Model
        Bundled model, or a file.
    chains : iterable of Chain
        Real chains for the comparison; those of at most `PADDED_LENGTH` residues also in padded batches.
    network : ScoreNetwork, optional
        Network in eval mode, on the CPU. With it the graph of a network with a single representation has the
        input `lengths`, so that chains of different lengths share a batch.

    Raises
    ------
    ExportError
        If a convolution cannot be written as a product, or the graph was exported from another network.
    ParityError
        If the two graphs differ by more than `TOLERANCE` of the embedding's scale; nothing is written.
    OutputError
        If the file cannot be written.
    """
    out = writable_target(beside(model.path, "gpu"))
    exact, chains = Embedder(model.path, "cpu"), list(chains)
    graph = as_products(load_graph(model.path)) if network is None else _for_gpus(network, model, half=False)
    about: dict[str, Any] = {"as": "matrix products, for GPUs"}
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        save_graph(graph, draft)
        embedder = Embedder(draft, "cpu")
        parity = measure_equality(exact, embedder, chains)
        about["deviation"] = parity.as_dict()
        if any(value.name == "lengths" for value in graph.graph.input):
            padded = measure_padding(exact, embedder, chains)
            _check_deviation("embedding of padded chains", padded.worst, out)
            about["padded_deviation"] = padded.as_dict()
    _check_deviation("embedding", parity.worst, out)
    card = exact.card | {"equals_sha256": exact.provenance["model_sha256"], "convolutions": about}
    with written_whole(out) as part:
        save_graph(_with_card(graph, card), part)
    return parity


def _pack_narrow(
    graph: onnx.ModelProto,
    model: Model,
    out: Path,
    held_out: Sequence[Chain],
    blocks: str,
    about: Mapping[str, Any],
) -> Likeness:
    """Write a graph of lower precision than the model's if its embeddings agree."""
    exact = Embedder(model.path, "cpu")
    card = exact.card
    with tempfile.TemporaryDirectory() as folder:
        draft = Path(folder) / "draft.onnx"
        save_graph(graph, draft)
        embedder = Embedder(draft, "cpu")
        alike = measure_likeness(exact, embedder, held_out)
        golden = _golden(embedder)
    if not min(alike.protein, alike.residue) >= LEAST_COSINE:
        raise ParityError(
            f"not written: in {blocks} the embeddings of {model.path} have a mean cosine "
            f"of {alike.protein:.4f} (protein) and {alike.residue:.4f} (residue), below {LEAST_COSINE}",
            out,
        )
    card |= {
        "name": out.stem,
        "quantised": {
            "from": card["name"],
            "blocks": blocks,
            **about,
            "cosine_to_float32": alike.as_dict(),
        },
        "golden": golden,
    }
    del card["parity"]  # of the float32 graph
    with written_whole(out) as part:
        save_graph(_with_card(graph, card), part)
    return alike


def check_bundled(out: Path) -> Path:
    """Return the path after checking that it is in the SDK's folder of bundled models.

    Raises
    ------
    ExportError
        If it is not.
    """
    if out.resolve().parent != BUNDLED.resolve() or out.suffix != ".onnx":
        raise ExportError(f"only {BUNDLED}/NAME.onnx can be bundled; write the file there", out)
    return out


def register(out: Path, summary: str, score: Path | None = None) -> None:
    """Add a model in the SDK's folder, with the hashes of its files, to the SDK's registry.

    Parameters
    ----------
    out : Path
        Embedding graph; its name without the suffix is the name of the model.
    summary : str
        One line for `protemb models`.
    score : Path, optional
        Score graph in that folder, if it is not the one next to `out`.

    Raises
    ------
    ExportError
        If the file is not in that folder.
    OutputError
        If the registry cannot be written.
    """
    path = check_bundled(out).with_name("registry.json")
    registry = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    files = {"embedding": out, "score": score or beside(out, "score"), "gpu": beside(out, "gpu")}
    present = {kind: file for kind, file in files.items() if file.exists()}
    hashes = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in present.values()}
    weights = Embedder(out, "cpu").card["weights_sha256"]
    registry[out.stem] = {
        **{kind: file.name for kind, file in present.items()},
        "summary": summary,
        "weights_sha256": weights,
        "sha256": hashes,
    }
    # Models of the same weights share a score graph.
    for entry in registry.values():
        if entry["weights_sha256"] == weights:
            entry["sha256"] |= {name: hashes[name] for name in entry["sha256"] if name in hashes}
    write_text_whole(path, json.dumps(registry, indent=1) + "\n")
