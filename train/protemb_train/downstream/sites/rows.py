"""A row of the table: several seeds of one network with one choice of features, saved as predictions."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from protemb_sdk._base.output import written_whole
from protemb_train.base.arrays import ArrayFileError, read_arrays
from protemb_train.base.origin import origin
from protemb_train.downstream.common.embeddings import Encoder, embed_all
from protemb_train.downstream.common.overlap import families
from protemb_train.downstream.common.seeds import check_alike, missing_seeds, seed_path
from protemb_train.downstream.sites.batches import as_tensors, validation_split
from protemb_train.downstream.sites.data import SiteChain, SitesError
from protemb_train.downstream.sites.finetune import fine_tuned
from protemb_train.downstream.sites.graph import GraphHead
from protemb_train.downstream.sites.networks import TRAINED_STATES
from protemb_train.downstream.sites.trained_states import HeadOnTrainedStates
from protemb_train.downstream.sites.training import Recipe, Run, Start, train
from protemb_train.network.network import ScoreNetwork

_OF_A_SEED = {"row", "seed", "data", "chains", "curve", "origin"}

VALIDATION_SHARE = 1 / 7
"""Share of the training chains used for validation: 50 of 352, as in the paper."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Row:
    """Settings of a row.

    Parameters
    ----------
    name : str
        Name of the row and of its folder.
    encoder : Encoder
        Computes the embeddings.
    make : callable
        Creates the network from the widths of features, residue and protein embeddings.
    features : bool, default True
        Whether PSSM and DSSP are used; without them the row requires only a structure.
    recipe : Recipe
        Training settings.
    start : Start, optional
        Initial weights.
    unfrozen : ScoreNetwork, optional
        Encoder that is fine-tuned. One without messages is trained end to end after the head, and `encoder`
        is its exported model; of one with messages, states are trained with the head
        (`HeadOnTrainedStates`).
    """

    name: str
    encoder: Encoder
    make: Callable[[int, int, int], nn.Module]
    features: bool = True
    recipe: Recipe = field(default_factory=Recipe)
    start: Start | None = None
    unfrozen: ScoreNetwork | None = None


def run_row(
    row: Row,
    training: Sequence[SiteChain],
    test: Sequence[SiteChain],
    out: Path,
    *,
    seeds: Sequence[int],
    cache: Path | None = None,
    about: dict[str, Any] | None = None,
) -> Iterator[Run]:
    """Train the missing seeds of a row, and yield each when it is finished.

    A seed has the same validation chains in every row: rows can be compared seed by seed. Validation chains
    have no relatives (`families`) among the training chains.

    Parameters
    ----------
    row : Row
        Row to train.
    training, test : sequence of SiteChain
        Chains of the published split.
    out : Path
        Folder of rows; `out/NAME/seed-N.npz` holds labels, predictions and the training curve.
    seeds : sequence of int
        One run per seed.
    cache : Path, optional
        Cache folder of embeddings.
    about : dict, optional
        Additional values written into the file.

    Raises
    ------
    SitesError
        If a chain cannot be used in this row, an existing seed has other settings or is damaged, or a network
        with states is fine-tuned with another head than ours.
    OutputError
        If the folder cannot be written.
    """
    folder = out / row.name
    if row.unfrozen is not None and row.unfrozen.config.messages is not None:
        if row.make is not GraphHead:
            raise SitesError("a network with states is fine-tuned with our head only; use --network graph")
        make = partial(HeadOnTrainedStates, row.unfrozen)
        row = replace(row, make=make, recipe=TRAINED_STATES, unfrozen=None)
    made = {
        "encoder": row.encoder.about,
        "features": row.features,
        "recipe": asdict(row.recipe),
        "chains_sha256": _digest(training, test),
        **(about or {}),
    }

    def record_of(path: Path) -> dict[str, Any]:
        record = _read(path).record
        if record.get("chains_sha256") == made["chains_sha256"]:  # the file name may differ
            record["data"] = made.get("data")
        learning, validation, tested = record["chains"]
        return record | {"number of chains": [learning + validation, tested]}

    checked = made | {"number of chains": [len(training), len(test)]}
    wanted = missing_seeds(folder, ".npz", seeds, checked, record_of, SitesError)
    if not wanted:
        return
    vectors = embed_all(row.encoder, [*training, *test], cache)
    tensors = as_tensors([*training, *test], vectors, features=row.features, graph=row.recipe.graph)
    training_tensors, tested = tensors[: len(training)], tensors[len(training) :]
    family = families(training)
    for seed in wanted:
        learning, validation = validation_split(family, VALIDATION_SHARE, seed)
        sides = [training_tensors[i] for i in learning], [training_tensors[i] for i in validation], tested
        run = train(row.make, *sides, row.recipe, seed=seed, start=row.start)
        if row.unfrozen is not None:
            sigma = float(str(row.encoder.about["sigma"]))
            run = fine_tuned(run, row.unfrozen, sigma, *sides, seed=seed)
        record = {
            "row": row.name,
            "seed": seed,
            "chains": [len(learning), len(validation), len(test)],
            "curve": run.curve,
            "origin": origin(),
            **made,
        }
        _keep(seed_path(folder, seed, ".npz"), record, run, [training[i] for i in validation], test)
        yield run


def _digest(training: Sequence[SiteChain], test: Sequence[SiteChain]) -> str:
    """Return the SHA-256 of the contents of chains."""
    digest = hashlib.sha256(f"{len(training)} {len(test)}".encode())
    for chain in (*training, *test):
        digest.update(f"{chain.id} {chain.sequence} {chain.cut}".encode())
        for array in (chain.label, chain.pssm, chain.structure, np.nan_to_num(chain.ca_coords)):
            digest.update(array.tobytes())
    return digest.hexdigest()


def _keep(
    path: Path, record: dict[str, Any], run: Run, validation: Sequence[SiteChain], test: Sequence[SiteChain]
) -> None:
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            record=np.array(json.dumps(record)),
            test_id=np.array([chain.id for chain in test]),
            test_split=np.array([chain.split for chain in test]),
            test_length=np.array([len(p) for p in run.test]),
            test_label=np.concatenate([chain.label[: chain.cut] for chain in test]),
            test_probability=np.concatenate(run.test),
            validation_label=np.concatenate([chain.label[: chain.cut] for chain in validation]),
            validation_probability=np.concatenate(run.validation),
        )


@dataclass(frozen=True, slots=True, eq=False)
class SavedSeed:
    """One saved seed of a row: arrays over residues, and lengths of the test chains."""

    record: dict[str, Any]
    test_id: NDArray[np.str_]
    test_split: NDArray[np.str_]
    test_length: NDArray[np.int64]
    test_label: NDArray[np.bool_]
    test_probability: NDArray[np.float32]
    validation_label: NDArray[np.bool_]
    validation_probability: NDArray[np.float32]

    def of(self, split: str) -> SavedSeed:
        """Return the seed with the test chains of one published split.

        Raises
        ------
        SitesError
            If it has none.
        """
        chains = self.test_split == split
        if not chains.any():
            there = ", ".join(np.unique(self.test_split))
            raise SitesError(f"row {self.record['row']} was not tested on {split!r}, but on {there}")
        places = np.repeat(chains, self.test_length)
        return replace(
            self,
            test_id=self.test_id[chains],
            test_split=self.test_split[chains],
            test_length=self.test_length[chains],
            test_label=self.test_label[places],
            test_probability=self.test_probability[places],
        )


def _read(path: Path) -> SavedSeed:
    z = read_arrays(path, tuple(SavedSeed.__annotations__), "a run of protemb-train sites")
    try:
        record = json.loads(str(z["record"][()]))
        _ = record["seed"], dict(record["encoder"]), record["features"], record["curve"], record["row"]
        if len(record["chains"]) != 3:
            raise ValueError("not three numbers of chains")
    except (ValueError, TypeError, KeyError, IndexError) as error:
        raise ArrayFileError(f"not a run of protemb-train sites (its record: {error})", path) from error
    return SavedSeed(**{**z, "record": record})


def read_rows(folder: Path, split: str | None = None) -> dict[str, list[SavedSeed]]:
    """Return every seed of every row in a folder, rows by name, seeds in order.

    Parameters
    ----------
    folder : Path
        Folder of `run_row`.
    split : str, optional
        Only test chains of one published split.

    Raises
    ------
    SitesError
        If there is no row, one was not tested on that split, or its seeds have different settings.
    ArrayFileError
        If a file is damaged.
    """
    found: dict[str, list[SavedSeed]] = {}
    for path in sorted(folder.glob("*/seed-*.npz")):
        kept = _read(path)
        found.setdefault(path.parent.name, []).append(kept.of(split) if split else kept)
    if not found:
        raise SitesError("contains no rows; train some with protemb-train sites row", folder)
    for name, seeds in found.items():
        records = [kept.record for kept in seeds]
        check_alike(folder / name, records, records[0].keys() - _OF_A_SEED, SitesError)
    return {name: sorted(seeds, key=lambda kept: kept.record["seed"]) for name, seeds in found.items()}
