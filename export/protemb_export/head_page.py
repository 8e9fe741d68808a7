"""The model card of a predictor as a page for people, made from its graph's metadata and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protemb_export.page import listed, table

SCORES = {
    "chains": "chains",
    "prevalence": "share of sites",
    "auprc": "AUPRC",
    "mcc": "MCC",
    "f1": "F",
    "precision": "precision",
    "recall": "recall",
    "auroc": "AUROC",
    "mean_probability": "mean probability",
    "brier": "Brier score",
    "brier_of_prevalence": "Brier score of the share of sites",
}

LIMITS = """\
- It sees one chain: C-alpha atoms and residue types. No profile, no side chains, no partner.
- It knows interfaces with proteins; ligands, nucleic acids and crystal contacts are none of its labels.
- Labels are those of complexes that were solved: a residue without a partner there may have one elsewhere.
- Probabilities are calibrated on chains of the training set; mean probability beside the share of sites shows
  how far another set is from it."""


def as_head_page(card: Mapping[str, Any]) -> str:
    """Return the card of a predictor as markdown: what it is, its quality, its training, limits.

    Parameters
    ----------
    card : mapping
        From `read_card`; `training`'s list of chains and the golden values stay out.
    """
    training = dict(card.get("training", {}))
    training.pop("ids", None)
    start = training.pop("start", None)
    if start is not None:
        learnt, held_out = start["pieces"]
        training |= {
            "learnt from beforehand": f"{learnt} pieces of corpus chains, {held_out} held out",
            "corpus (SHA-256)": start.get("corpus_sha256"),
        }
    facts = {
        "kind": card.get("kind"),
        "embeddings": listed(card.get("encoder")),
        "readouts": ", ".join(card.get("readouts", [])),
        "a residue is a site from": f"probability {card['threshold']:.3f}" if "threshold" in card else None,
        "deviation from PyTorch": listed(card.get("parity")),
        "exported by": listed(card.get("exported_by")),
        "licence": card.get("licence"),
    }
    parts = [
        f"# Model card: {card.get('name', 'without a name')}",
        "Made from the metadata of the graph by `protemb-export card`.",
        table(facts),
        "## Quality on held-out chains",
        "The threshold was chosen on chains of the training set that the heads had not learnt from.",
        _quality(card.get("quality", {})),
        "## Training",
        table(training),
        "## Known limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _quality(quality: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"| set | {' | '.join(SCORES.values())} |", "|---|" + "---|" * len(SCORES)]
    for name, scores in quality.items():
        cells = (str(scores.get(key, "not said")) for key in SCORES)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)
