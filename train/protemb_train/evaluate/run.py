"""The complete evaluation of one frozen encoder, saved as one JSON file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from protemb_sdk import ProtembError
from protemb_sdk._base.output import write_text_whole
from protemb_train.base.origin import origin
from protemb_train.corpus.corpus import Corpus
from protemb_train.downstream.sites.data import read_sites
from protemb_train.encoders.network import NetworkEncoder
from protemb_train.encoders.vectors import VectorEncoder
from protemb_train.evaluate import folds, pretraining, quality, sites
from protemb_train.evaluate.embedded import Contents
from protemb_train.evaluate.measures import Measure

PARTS = ("pretraining", "sites", "quality", "folds")


class EvaluationError(ProtembError):
    """An evaluation cannot be made or read."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Input files and their amount of data.

    Parameters
    ----------
    corpus : Path
        Corpus file.
    sites, models, pairs : Path, optional
        Labelled chains, real models, and pairs of similar chains; a part without its file is omitted.
    cache : Path
        Cache folder of embeddings and TM-scores.
    heads : tuple of str
        Networks of the site task.
    seeds : int
        Number of cross-validations of sites and quality.
    queries, chains : int
        Numbers of queries and chains of fold retrieval.
    fitted : int, optional
        Largest number of chains of each kind for the linear map; all by default.
    """

    corpus: Path
    cache: Path
    sites: Path | None = None
    models: Path | None = None
    pairs: Path | None = None
    heads: tuple[str, ...] = ("graph", "deepppisp")
    seeds: int = 2
    queries: int = 120
    chains: int = 600
    fitted: int | None = 600


def evaluate(
    name: str,
    encoder: VectorEncoder,
    contents: Sequence[str],
    inputs: Inputs,
    out: Path,
    *,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Evaluate a frozen encoder, and write the results after each part.

    Parameters
    ----------
    name : str
        Name of the row in a table.
    encoder : VectorEncoder
        Encoder to evaluate.
    contents : sequence of str
        Contents of the residue vector, such as "state+means".
    inputs : Inputs
        Input files.
    out : Path
        JSON file. Existing results of the same encoder and settings are not repeated.
    say : callable
        Called with a message after each part.

    Raises
    ------
    EvaluationError
        If the file contains another evaluation.
    """
    settings = {
        "corpus_sha256": Corpus(inputs.corpus).sha256,
        "encoder": encoder.about,
        "heads": list(inputs.heads),
        "seeds": inputs.seeds,
        "queries": inputs.queries,
        "chains": inputs.chains,
        "fitted": inputs.fitted,
    }
    settings = json.loads(json.dumps(settings))
    settings["encoder"].pop("encoder")  # a name; the weights are identified by their hash
    found: dict[str, Any] = {"name": name, "settings": settings, "origin": origin(), "measures": {}}
    if out.exists():
        before = read_evaluation(out)
        different = [k for k, v in settings.items() if before["settings"].get(k) != v]
        if different:
            raise EvaluationError(
                f"{out}: contains an evaluation with different settings ({' and '.join(different)}); "
                "use another file"
            )
        found["measures"] = before["measures"]
        found |= {k: before[k] for k in ("denoising_levels", "models", "site_chains") if k in before}
    measures: dict[str, Any] = found["measures"]

    def keep(new: dict[str, Measure]) -> None:
        measures.update({key: measure.as_dict() for key, measure in new.items()})
        write_text_whole(out, json.dumps(found) + "\n")
        for key, measure in new.items():
            say(f"{name}: {key} {measure.value:.3f}")

    held = Contents(encoder, contents, inputs.cache)
    training, validation = Corpus(inputs.corpus, ["train"]), Corpus(inputs.corpus, ["val"])
    if isinstance(encoder, NetworkEncoder) and "denoising" not in measures:
        share, found["denoising_levels"] = pretraining.denoising(encoder.network, validation)
        keep({"denoising": share})
    if "type_accuracy" not in measures:
        keep(pretraining.types(encoder, validation))
    if any(f"contact_sites, {c}" not in measures for c in contents):
        ap = pretraining.contact_sites(held, training, validation)
        keep({f"contact_sites, {content}": measure for content, measure in ap.items()})
    if inputs.models is not None and any(f"lddt_rho, {c}" not in measures for c in contents):
        models = quality.real_models(inputs.models)
        found["models"] = [len(models), len({d.target for d in models})]
        vectors = held.embed(models)
        for content in contents:
            of = quality.cross_validated(models, vectors[content], range(inputs.seeds))
            keep({f"{key}, {content}": measure for key, measure in of.items()})
    if inputs.sites is not None:
        labelled = [chain for chain in read_sites(inputs.sites).of("train") if chain.has_coordinates]
        found["site_chains"] = len(labelled)
        for content in contents:
            for head in inputs.heads:
                if f"sites, {head}, {content}" not in measures:
                    of_head = sites.cross_validated(
                        labelled, held.embed(labelled)[content], head, range(inputs.seeds), say
                    )
                    keep({f"sites, {head}, {content}": of_head})
    if inputs.pairs is not None and not any(key.startswith("mean_tm") for key in measures):
        keep(
            folds.fold_retrieval(
                encoder,
                inputs.corpus,
                inputs.pairs,
                inputs.cache,
                queries=inputs.queries,
                chains=inputs.chains,
                fitted=inputs.fitted,
            )
        )
    return found


def read_evaluation(path: Path) -> dict[str, Any]:
    """Read a file of `evaluate`.

    Raises
    ------
    EvaluationError
        If the file is missing or has another format.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        _ = found["name"], found["settings"]["encoder"], [m["draws"] for m in found["measures"].values()]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EvaluationError(f"{path}: not a file of protemb-train evaluate network ({error})") from error
    return found
