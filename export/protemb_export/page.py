"""The model card as a Markdown page, made from the metadata of a graph."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from protemb_export.errors import ExportError
from protemb_export.words import in_words
from protemb_sdk._model.models import INTEGERS
from protemb_train.pretrain.levels import read_judgement

ROWS = 16
RELATIVE = "Loss, relative to that of a predictor that returns zero"
LIMITS = """\
- Single chains, C-alpha atoms only: no side chains, ligands, nucleic acids or partner chains are seen.
- Chains far longer than those of the evaluation can be embedded; the quality was not measured.
- Trained on proteins of the PDB, with its bias to proteins that crystallise; without disordered chains."""


def read_card(graph: Path) -> dict[str, Any]:
    """Return the card stored in an exported graph.

    Raises
    ------
    ExportError
        If the file is missing, or contains no card.
    """
    try:
        # With a file name alone, ONNX would read x.json or x.txt as a text format.
        model = onnx.load(graph, format="protobuf", load_external_data=False)
        found = json.loads({p.key: p.value for p in model.metadata_props}["protemb.card"])
        if not isinstance(found, dict):
            raise TypeError(type(found).__name__)
    except OSError as error:
        problem = f"cannot be read ({error.strerror}); pass the path of an .onnx file"
        raise ExportError(problem, graph) from error
    except (DecodeError, KeyError, TypeError, json.JSONDecodeError) as error:
        raise ExportError("contains no model card; pass a graph of protemb-export model", graph) from error
    return found


def read_evaluation(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `judgement` and `curve` of a file of `protemb-train judge`.

    Raises
    ------
    ExportError
        If it evaluates another checkpoint than that of `record`.
    ProtembError
        If the file is missing or contains no evaluation.
    """
    judgement = read_judgement(path)
    loaded = json.loads(path.read_text(encoding="utf-8"))
    if loaded.get("checkpoint") != json.loads(json.dumps(record)):
        raise ExportError(
            "is the evaluation of another checkpoint; run protemb-train judge on the exported one", path
        )
    return {"judgement": judgement, "curve": loaded.get("curve", [])}


COSINE = "cosine to float32 on held-out chains"
OF_QUANTISED = (
    "kind", "contract", "widths", "weights (SHA-256)", "pair map", "blocks", "ranges set on", COSINE,
    "exported by", "licence",
)  # fmt: skip
"""Rows of the card of a quantised graph."""


def as_page(card: Mapping[str, Any]) -> str:
    """Return the card as Markdown: summary, identity, data, recipe, training curve, losses, limits.

    Missing values are "not recorded". The golden vector and properties fixed by the contract are left out. A
    quantised graph has what differs from its original, and refers to the card of that for the rest.

    Parameters
    ----------
    card : mapping
        From `read_card`.
    """
    original = dict(card.get("quantised") or {}).get("from")
    identity = _identity(card)
    if original:
        identity = {name: value for name, value in identity.items() if name in OF_QUANTISED}
    parts = [
        f"# Model card: {card.get('name', 'without a name')}",
        in_words(card),
        "Made from the metadata of the graph by `protemb-export card`.",
        table(identity),
    ]
    if original:
        parts.append(f"Everything else is on the card of {original}.")
        return "\n\n".join(parts) + "\n"
    parts += ["## Data and recipe", table(_training(card.get("training", {})))]
    if card.get("curve"):
        parts += ["## Training curve", f"{RELATIVE}.", _curve(card["curve"])]
    if card.get("judgement"):
        parts += ["## Losses on whole chains", _levels(card["judgement"])]
    parts += ["## Known limits", LIMITS]
    return "\n\n".join(parts) + "\n"


def _identity(card: Mapping[str, Any]) -> dict[str, Any]:
    network = dict(card.get("network", {}))
    limits = (network.pop("sigma_max", None), network.pop("sigma_min", None))
    sigma, radius = card.get("sigma"), card.get("radius")
    return {
        "kind": f"{card['kind']} graph" if "kind" in card else None,
        "contract": card.get("contract"),
        "method": card.get("method"),
        "noise level": "an input" if sigma is None else f"{sigma:g} angstrom",
        "trained noise levels": None if None in limits else "{:g} to {:g} angstrom".format(*limits),
        **{name.replace("_", " "): value for name, value in network.items()},
        "receptive field": None if radius is None else f"{radius} residues to either side",
        **_of_vectors(card),
        "weights (SHA-256)": card.get("weights_sha256"),
        **_deviation(card),
        "exported by": listed(card.get("exported_by")),
        "licence": card.get("licence"),
    }


def _of_vectors(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of contract 2 about the embeddings."""
    if "widths" not in card:
        return {}
    protein = dict(card.get("protein", {}))
    return {
        "widths": listed(card["widths"]),
        "residue embedding": ", ".join(card.get("residue", [])),
        "protein embedding": protein.get("from"),
        "linear map (SHA-256)": protein.get("map_sha256") or "none",
        "additional rows per strip": ", ".join(map(str, card.get("radii", []))),
    }


def _deviation(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the comparison with PyTorch, or with the float32 graph of a quantised one."""
    quantised = card.get("quantised")
    if quantised is None:
        return {"deviation from PyTorch": listed(card.get("parity"))}
    precision = quantised.get("blocks", INTEGERS)
    what = "pair map" if precision == INTEGERS else "blocks"
    ranges = {"ranges set on": listed(quantised["calibration"])} if "calibration" in quantised else {}
    return {
        what: f"in {precision}; otherwise the network of {quantised['from']}",
        **ranges,
        COSINE: listed(quantised["cosine_to_float32"]),
    }


def _training(training: Mapping[str, Any]) -> dict[str, Any]:
    record = dict(training.get("record", {}))
    recipe = record.pop("recipe", {})
    found = {
        "corpus": record.pop("corpus", None),
        "corpus (SHA-256)": record.pop("corpus_sha256", None),
        "training chains": record.pop("corpus_chains", None),
        "preset": record.pop("preset", None),
        "steps": training.get("steps"),
        "steps planned": training.get("steps_planned"),
        "seed": training.get("seed"),
        "trained by": listed(record.pop("origin", None)),
    }
    if found["steps"] and {"batch", "crops"} <= set(recipe):
        found["residue pairs seen"] = f"{found['steps'] * recipe['batch'] * min(recipe['crops']) ** 2:,}"
    found |= record
    return found | {name.replace("_", " "): "none" if v is None else v for name, v in recipe.items()}


def listed(facts: Mapping[str, Any] | None) -> str | None:
    """Return facts as the text of one cell, None if there are none."""
    return ", ".join(f"{name} {value}" for name, value in facts.items()) if facts else None


def table(rows: Mapping[str, Any]) -> str:
    """Return facts as a table of two columns; None is written as "not recorded"."""
    found = {name: "not recorded" if value is None else value for name, value in rows.items()}
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in found.items())])


def _spread(rows: Sequence[Mapping[str, Any]]) -> Sequence[Mapping[str, Any]]:
    """Return at most `ROWS` rows at equal distances, the last among them; the metadata has all."""
    return rows[::-1][:: max(1, -(-len(rows) // ROWS))][::-1]


def _curve(points: Iterable[Mapping[str, Any]]) -> str:
    points = list(points)
    if len(points) > ROWS:
        points = [p for p in points if "val_share" in p] or points
    points = _spread(points)
    rows = [f"| {p['step']} | {p.get('share', '')} | {p.get('val_share', '')} |" for p in points]
    return "\n".join(["| step | training crops | validation |", "|---|---|---|", *rows])


def _levels(judgement: Mapping[str, Any]) -> str:
    head = (
        f"{RELATIVE}, on {judgement['chains']} whole held-out chains. Mean {judgement['mean_share']:.3f}; "
        f"lowest possible value {judgement['floor']:.3f}."
    )
    rows = [f"| {level['sigma']:.3g} | {level['share']:.3f} |" for level in _spread(judgement["levels"])]
    return "\n".join([head, "", "| noise level, angstrom | loss |", "|---|---|", *rows])
