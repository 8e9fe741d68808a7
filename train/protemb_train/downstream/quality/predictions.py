"""Predictions of trained rows for models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ModelError
from protemb_train.downstream.common.embeddings import Encoder, find_encoder
from protemb_train.downstream.quality.cache import cached, digest_of, weights_of
from protemb_train.downstream.quality.decoys import Decoy, DecoyError
from protemb_train.downstream.quality.finetune import bare
from protemb_train.downstream.quality.naming import names_of_all
from protemb_train.downstream.quality.rows import examples
from protemb_train.downstream.quality.trained import TrainedNetwork
from protemb_train.downstream.quality.training import Predicted, predict
from protemb_train.downstream.quality.vectors import embed_decoys


def predictions(
    rows: Mapping[str, Sequence[TrainedNetwork]],
    decoys: Sequence[Decoy],
    files: Sequence[str],
    cache: Path,
    threads: int | None = None,
) -> dict[str, list[Predicted]]:
    """Return the predictions of every seed of every row.

    Parameters
    ----------
    rows : mapping of str to sequence of TrainedNetwork
    decoys : sequence of Decoy
    files : sequence of str
        Encoders of the rows that are not bundled, in any order.
    cache : Path
        Cache folder of embeddings.
    threads : int, optional
        Number of CPU threads of the encoders.

    Raises
    ------
    DecoyError
        If the encoder of a row is missing.
    """
    found: dict[str, list[Predicted]] = {}
    for name, seeds in rows.items():
        if "unfrozen" in seeds[0].record:
            found[name] = [_unfrozen(trained, decoys, cache) for trained in seeds]
            continue
        wanted = seeds[0].record["encoder"]
        encoder = _encoder_of(name, wanted, files, threads)
        network = seeds[0].record["network"]
        vectors = embed_decoys(encoder, decoys, cache, pairs=network == "graphqa")
        namer = getattr(seeds[0].network, "namer", None)
        names = names_of_all(namer, decoys, cache)
        made = examples(network, decoys, vectors, seeds[0].scales, names)
        found[name] = [predict(trained.network, made) for trained in seeds]
    return found


def _encoder_of(row: str, wanted: Mapping[str, Any], files: Sequence[str], threads: int | None) -> Encoder:
    """Return the encoder of a row, with the vectors of residues that the row was trained on."""
    name = str(wanted["encoder"])
    names = [file for file in files if Path(file).stem == name] or [name]
    vectors = tuple(wanted.get("readouts", wanted.get("vectors", ())))
    for candidate in names:
        try:
            encoder = find_encoder(candidate, vectors, threads)
        except ModelError:
            continue
        if encoder.about == wanted:
            return encoder
    raise DecoyError(f"row {row} requires its encoder {name}; pass it with --encoder")


def _unfrozen(trained: TrainedNetwork, decoys: Sequence[Decoy], cache: Path) -> Predicted:
    """Return the predictions of a network with its own encoder, cached because it takes minutes."""

    def make() -> dict[str, NDArray[np.float32]]:
        predicted = predict(trained.network, bare(decoys))
        return {"quality": predicted.quality, "residue_quality": np.concatenate(predicted.residue_quality)}

    predicted = cached(cache / f"said-{digest_of(decoys, weights_of(trained.network))}.npz", make)
    starts = np.cumsum([len(d) for d in decoys])[:-1]
    return Predicted(predicted["quality"], np.split(predicted["residue_quality"], starts))
