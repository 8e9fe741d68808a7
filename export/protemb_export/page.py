"""The model card as a page for people, made from a graph's metadata and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import onnx
from google.protobuf.message import DecodeError

from protemb_export.errors import ExportError

LIMITS = """\
- Single chains, C-alpha atoms only: no side chains, ligands, nucleic acids or partner chains are seen.
- Chains far longer than those it was judged on are embedded, but nobody has measured how well.
- Trained on proteins of the PDB, with its bias to what crystallises; disordered chains are not in it."""


def read_card(graph: Path) -> dict[str, Any]:
    """Return the card inside an exported graph.

    Raises
    ------
    ExportError
        If the file is missing, or holds no card.
    """
    try:
        # By its name alone, ONNX would read x.json or x.txt as a text format.
        model = onnx.load(graph, format="protobuf", load_external_data=False)
        found = json.loads({p.key: p.value for p in model.metadata_props}["protemb.card"])
    except (OSError, DecodeError, KeyError, json.JSONDecodeError) as error:
        raise ExportError(f"{graph}: holds no model card; pass a graph of protemb-export model") from error
    missing = sorted(NEEDED - set(found)) if isinstance(found, dict) else ["an object"]
    if missing:
        raise ExportError(f"{graph}: its model card lacks {', '.join(missing)}; export the model again")
    return dict(found)


def read_judged(path: Path, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return `judgement` and `curve` of a file of `protemb-train judge`.

    Raises
    ------
    ExportError
        If the file is no such file, or judged another checkpoint than `record` tells of.
    """
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
        found = {name: loaded[name] for name in ("judgement", "curve")}
        same = loaded["checkpoint"] == json.loads(json.dumps(record))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        raise ExportError(f"{path}: not a judgement of protemb-train judge ({error!r})") from error
    if not same:
        raise ExportError(f"{path}: judges another checkpoint than the one exported; judge this one")
    return found


def as_page(card: Mapping[str, Any]) -> str:
    """Return the card as markdown: what it is, data, recipe, course of training, losses, limits, licence.

    Parameters
    ----------
    card : mapping
        From `read_card`.
    """
    parts = [
        f"# Model card: {card['name']}",
        "Made from the metadata of the graph by `protemb-export card`.",
        _table(_identity(card)),
        "## Data and recipe",
        _table(_training(card["training"])),
    ]
    if card.get("curve"):
        parts += ["## Course of training", "Share of the zero predictor's loss.", _curve(card["curve"])]
    if card.get("judgement"):
        parts += ["## Losses on whole chains", _levels(card["judgement"])]
    parts += ["## Known limits", LIMITS]
    return "\n\n".join(parts) + "\n"


def _identity(card: Mapping[str, Any]) -> dict[str, Any]:
    network = card["network"]
    return {
        "kind": f"{card['kind']} graph, contract {card['contract']}",
        "method": card["method"],
        "noise level": f"{card['sigma']:g} angstrom" if "sigma" in card else "an input",
        "family": network["family"],
        "blocks": f"{len(network['dilations'])}, of {network['channels']} channels, bottleneck "
        f"{network['bottleneck']}, dilations {network['dilations']}",
        "receptive field": f"{card['radius']} residues to either side",
        "weights (SHA-256)": card["weights_sha256"],
        "deviation from PyTorch": ", ".join(f"{name} {value}" for name, value in card["parity"].items()),
        "licence": card["licence"],
    }


def _training(training: Mapping[str, Any]) -> dict[str, Any]:
    record = training.get("record", {})
    recipe = record.get("recipe", {})
    told = {
        "corpus": record.get("corpus"),
        "corpus (SHA-256)": record.get("corpus_sha256"),
        "training chains": record.get("corpus_chains"),
        "preset": record.get("preset"),
        "steps": training.get("steps"),
        "seed": training.get("seed"),
        "commit": record.get("origin", {}).get("commit"),
    }
    if recipe and training.get("steps"):
        pairs = training["steps"] * recipe["batch"] * min(recipe["crops"]) ** 2
        told["residue pairs seen"] = f"{pairs / 1e6:.0f} million"
    if "recalibrated_on_whole_chains" in record:
        chains = record["recalibrated_on_whole_chains"]
        told["batch-norm statistics"] = f"taken anew on {chains} whole training chains"
    told |= {name.replace("_", " "): value for name, value in recipe.items()}
    return {name: "not said" if value is None else value for name, value in told.items()}


def _table(rows: Mapping[str, Any]) -> str:
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])


def _curve(points: Iterable[Mapping[str, Any]]) -> str:
    rows = [f"| {p['step']} | {p.get('share', '')} | {p.get('val_share', '')} |" for p in points]
    return "\n".join(["| step | training crops | validation |", "|---|---|---|", *rows])


def _levels(judgement: Mapping[str, Any]) -> str:
    head = (
        f"Share of the zero predictor's loss on {judgement['chains']} whole validation chains; mean "
        f"{judgement['mean_share']:.3f}, floor {judgement['floor']:.3f}."
    )
    rows = [f"| {level['sigma']:.3g} | {level['share']:.3f} |" for level in judgement["levels"]]
    return "\n".join([head, "", "| noise level, angstrom | share |", "|---|---|", *rows])
