"""The model card of a quality scorer as a page for people, made from its graph's metadata alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protemb_export.page import listed, table

OF_SOURCE = {
    "models": "models",
    "gdt_ts": "mean GDT_TS",
    "predicted": "mean predicted",
    "rmse": "RMSE",
    "r": "R",
    "rho_decoy": "lDDT rho_decoy",
}
MADE = {
    "homologs": "residues put on a relative's structure by alignment",
    "foreign": "residues put on another fold",
    "mixed": "several mistakes at once",
    "grafts": "runs replaced by those of other chains",
    "hinges": "torsions changed",
    "shifts": "errors of register",
    "denoised": "natives drowned in noise and repaired by the score network",
    "segments": "runs moved and turned",
    "natives": "natives",
    "noisy": "natives under noise, unrepaired",
    "coils": "random walks",
}
LIMITS = """\
- It sees C-alphas and residue types of one chain: no side chains, no profile, no partner, no other models.
- Values are what such models have on average; between models of one target they rank, and across targets they
  are off by the RMSE above. On kinds of models outside the training set they may be biased:
  see mean predicted beside mean GDT_TS.
- It is not AlphaFold's pLDDT, and judges AlphaFold's models without their confidence.
- A model of a fold switcher in its other native fold is a good model; its labels say otherwise.
- Missing residues are not counted against a model: GDT_TS is of the residues that are there."""


def as_quality_page(card: Mapping[str, Any]) -> str:
    """Return the card of a scorer as markdown: what it is, quality by kind of model, training, limits.

    Parameters
    ----------
    card : mapping
        From `read_card`; golden values stay out.
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
        "Made from the metadata of the graph by `protemb-export card`.",
        table(facts),
        "## Quality on CASP12",
        "447 server models of 23 targets, GDT_TS and residues. Choices were made on validation models; these "
        "were scored five times (train/results/README.md).",
        table({name.replace("_", " "): f"{value:.3f}" for name, value in quality.get("CASP12", {}).items()}),
        "## Quality on validation models, by where they come from",
        "Targets that were not learnt from. R over all models of a source.",
        _by_source(quality.get("watched", {})),
        "## Training",
        table(dict(card.get("training", {})) | {"origin": listed(card.get("training", {}).get("origin"))}),
        "## Known limits",
        LIMITS,
    ]
    return "\n\n".join(parts) + "\n"


def _by_source(found: Mapping[str, Mapping[str, float]]) -> str:
    lines = [f"| source | {' | '.join(OF_SOURCE.values())} |", "|---|" + "---|" * len(OF_SOURCE)]
    for name, scores in sorted(found.items(), key=lambda item: item[0] in MADE):
        cells = (str(scores.get(key, "not recorded")) for key in OF_SOURCE)
        what = f"generated: {MADE[name]}" if name in MADE else name
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)
