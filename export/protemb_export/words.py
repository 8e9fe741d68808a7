"""A model card in words: what a graph computes, what it was trained on and how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protemb_sdk._model.models import INTEGERS, find_bundled

_SCORE = (
    "The denoising gradient of one protein chain: the direction in which each C-alpha atom moves towards "
    "more probable structures, at a noise level that is an input."
)


def in_words(card: Mapping[str, Any]) -> str:
    """Return one paragraph about a model or a predictor; facts that were not recorded are left out.

    Parameters
    ----------
    card : mapping
        From `protemb_export.page.read_card`.
    """
    kind = str(card.get("kind"))
    encoder = f"from embeddings of `{_encoder(card)}`"
    if kind == "score":
        return _SCORE
    if kind == "sites":
        return f"The probability that a residue binds another protein, {encoder}. {_of_sites(card)}".strip()
    if kind == "quality":
        return (
            f"The expected quality of a model of a protein, {encoder}: lDDT of each residue, lDDT and GDT_TS "
            "of the chain. For ranking models of one target."
        )
    if kind.endswith("-label"):
        of = "each residue" if kind == "residue-label" else "each chain"
        return f"A label of {of} of a protein, {encoder}, trained with `protemb finetune`."
    return _of_embedding(card)


def _encoder(card: Mapping[str, Any]) -> str:
    """Return the present name of the model with these weights; the name may have passed to a newer one."""
    about = dict(card.get("encoder", {}))
    name = str(about.get("name", "a model"))
    found = find_bundled(name, weights_sha256=about["weights_sha256"]) if "weights_sha256" in about else None
    return name if found is None else found.name


def _of_sites(card: Mapping[str, Any]) -> str:
    sets = {name: scores for name, scores in dict(card.get("quality", {})).items() if "," not in name}
    found = [f"{scores['auprc']:.3f} on {name}" for name, scores in sets.items() if "auprc" in scores]
    return f"AUPRC: {', '.join(found)}." if found else ""


def _of_embedding(card: Mapping[str, Any]) -> str:
    text = "Vectors of one protein chain, of its residues and of its pairs of residues, from C-alpha atoms, "
    text += "residue types and gaps."
    quantised = dict(card.get("quantised") or {})
    if quantised:
        blocks = quantised.get("blocks", INTEGERS)
        return f"{text} The network is that of `{quantised['from']}` with {blocks}."
    chains = dict(dict(card.get("training", {})).get("record", {})).get("corpus_chains")
    if chains:
        text += (
            f" Trained without labels on {chains:,} chains, by estimating noise added to their coordinates."
        )
    judgement = dict(card.get("judgement") or {})
    if judgement:
        text += (
            f" On {judgement['chains']} held-out chains its loss is {judgement['mean_share']:.3f} of that of "
            "predicting zero."
        )
    return text
