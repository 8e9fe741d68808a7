"""The model card of a quality scorer as a page, made from the metadata of its graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protemb_export.page import listed, table
from protemb_export.words import in_words

OF_SOURCE = {
    "models": "number",
    "gdt_ts": "mean GDT_TS",
    "predicted": "mean predicted",
    "mae_gdt_ts": "mean absolute error",
    "lddt": "mean lDDT",
    "predicted_lddt": "mean predicted lDDT",
    "mae_lddt": "mean absolute error of lDDT",
    "rmse": "RMSE",
    "r": "R",
    "rho_decoy": "lDDT rho_decoy",
}
MADE = {
    "homologs": "residues placed on a related structure by alignment",
    "foreign": "residues placed on another fold",
    "mixed": "several kinds of errors combined",
    "grafts": "segments replaced by those of other chains",
    "hinges": "torsions changed",
    "shifts": "register errors",
    "denoised": "native structures with strong noise, denoised by the score network",
    "segments": "segments moved and rotated",
    "natives": "natives",
    "noisy": "native structures with noise",
    "coils": "random walks",
}
LIMITS = """\
- The input is the C-alpha atoms and residue types of one chain: no side chains, sequence profile, partners
  or other models.
- Predicted values are averages over such models. They rank models of one target; across targets the error is
  the RMSE above. Other kinds of models than those of the training set may have a bias: compare mean predicted
  with mean GDT_TS.
- The score is not AlphaFold's pLDDT; AlphaFold's models are scored without their confidence.
- A model of a fold switcher in its other native fold is a good model, but its labels are low.
- Missing residues are not counted: GDT_TS is calculated over the residues of the model."""


def as_quality_page(card: Mapping[str, Any]) -> str:
    """Return the card of a scorer as Markdown: identity, quality by source of models, training, limits.

    Parameters
    ----------
    card : mapping
        From `read_card`; golden values are left out.
    """
    quality = dict(card.get("quality", {}))
    facts = {
        "kind": card.get("kind"),
        "embeddings": listed(card.get("encoder")),
        "readouts": ", ".join(card.get("readouts", [])),
        "deviation from PyTorch": listed(card.get("parity")),
        "exported by": listed(card.get("exported_by")),
        "licence": card.get("licence"),
    }
    parts = [
        f"# Model card: {card.get('name', 'without a name')}",
        in_words(card),
        "Made from the metadata of the graph by `protemb-export card`.",
        table(facts),
        "## Quality on CASP12",
        "447 server models of 23 targets, GDT_TS and residue scores. Choices were made on validation models; "
        "these models were scored several times (train/results/README.md).",
        table({name.replace("_", " "): f"{value:.3f}" for name, value in quality.get("CASP12", {}).items()}),
        "## Quality on validation models, by source",
        "Targets outside the training set and not used to calibrate. R is calculated over all models of a "
        "source.",
        _by_source(quality.get("watched", {})),
        *(["By true GDT_TS and by length:", _by_source(quality["bands"])] if "bands" in quality else []),
        "## Training",
        table(dict(card.get("training", {})) | {"origin": listed(card.get("training", {}).get("origin"))}),
        "## Known limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _by_source(found: Mapping[str, Mapping[str, float]]) -> str:
    columns = {
        key: head for key, head in OF_SOURCE.items() if any(key in scores for scores in found.values())
    }
    lines = [f"| models | {' | '.join(columns.values())} |", "|---|" + "---|" * len(columns)]
    for name, scores in sorted(found.items(), key=lambda item: item[0] in MADE):
        cells = (str(scores.get(key, "not recorded")) for key in columns)
        what = f"generated: {MADE[name]}" if name in MADE else name
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)
