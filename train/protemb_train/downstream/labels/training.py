"""Training of a predictor of a user's labels, and its evaluation on held-out families."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sklearn.metrics import balanced_accuracy_score, f1_score, r2_score
from torch import Tensor, nn

from protemb_sdk import Embedder
from protemb_sdk._model.readouts import asked_for
from protemb_sdk._predict.predictor import features_of
from protemb_train.downstream.common.overlap import families
from protemb_train.downstream.labels.head import READOUTS, VECTORS, LabelModel, TrainedLabels
from protemb_train.downstream.labels.table import LabelError, Labelled, LabelTable

EPOCHS, PATIENCE, RATE, DECAY, BATCH = 200, 20, 1e-3, 1e-2, 16  # an epoch is all chains, a batch some of them
HELD_OUT = 0.2  # share of families for validation, and for the test
LEAST_CHAINS = 10
DEALS = 1000  # attempts to split the families, before a class is reported as too rare


@dataclass(frozen=True, slots=True, eq=False)
class _Set:
    seen: Tensor  # inputs of all residues, or chains, that have a label
    label: Tensor
    chain: NDArray[np.int64]


def train_labels(
    table: LabelTable, embedder: Embedder, progress: Callable[[int, int], None] | None = None
) -> TrainedLabels:
    """Train a predictor of the user's labels on frozen embeddings, and evaluate it on held-out families.

    The encoder is not trained; `unfrozen` does that in a second step.

    Each family (relatives of at least 30% identity) is in one set: three fifths for training, one fifth for
    early stopping, one fifth for the test. Scores of a network trained on residue types alone, and of the
    commonest class or the mean, are given for comparison. The returned predictor is the evaluated one.

    Parameters
    ----------
    table : LabelTable
        Chains and labels.
    embedder : Embedder
        Embedder of the encoder.
    progress : callable, optional
        Called with the number of embedded chains and their total.

    Raises
    ------
    LabelError
        If there are too few chains or families, or a class cannot be both in the training and the test set.
    """
    sides = sides_of(table)
    names = [labelled.id for labelled in table.chains]
    arrays = _embedded(table, range(len(names)), embedder, progress)
    per_residue, outputs = table.per == "residue", len(table.classes or (0,))
    models, quality = {}, {}
    for name, width in (("embedding", arrays[0][0].size), ("residue types alone", 0)):
        models[name] = _fit(
            table, arrays, sides, LabelModel(per_residue, width, outputs, bool(table.classes))
        )
        quality[name] = _evaluate(models[name], table, [arrays[n] for n in sides[2]], sides[2])
    quality["commonest class" if table.classes else "mean"] = _constant(table, sides)
    card = {
        "kind": f"{table.per}-label",
        "encoder": _encoder(embedder),
        "readouts": list(vectors_for(embedder)),
        "classes": list(table.classes) if table.classes else None,
        "quality": quality,
        "training": {"chains": [len(side) for side in sides], "ids": [names[n] for n in sides[0]]},
    }
    return TrainedLabels(models["embedding"], card)


def evaluate_again(
    trained: TrainedLabels, model: LabelModel, table: LabelTable, embedder: Embedder, row: str
) -> TrainedLabels:
    """Return a predictor on another encoder, evaluated on the same held-out families, as an additional row.

    Parameters
    ----------
    trained : TrainedLabels
        The original predictor, whose scores are kept.
    model : LabelModel
        The predictor, in eval mode.
    table : LabelTable
        Labels that both were trained on.
    embedder : Embedder
        Embedder of the other encoder.
    row : str
        Name of the row of scores.
    """
    test = sides_of(table)[2]
    scores = _evaluate(model, table, _embedded(table, test, embedder), test)
    quality = {row: scores, **trained.card["quality"]}
    return TrainedLabels(model, trained.card | {"encoder": _encoder(embedder), "quality": quality})


def vectors_for(embedder: Embedder) -> tuple[str, ...]:
    """Return the names of the vectors of residues that a predictor on this model uses."""
    return VECTORS if embedder.has_profile else READOUTS


def _encoder(embedder: Embedder) -> dict[str, Any]:
    return {
        "name": embedder.model.name,
        "weights_sha256": embedder.card.get("weights_sha256"),
        "sigma": embedder.noise_level,
    }


def _embedded(
    table: LabelTable,
    side: Sequence[int],
    embedder: Embedder,
    progress: Callable[[int, int], None] | None = None,
) -> list[NDArray[np.float32]]:
    names, arrays = vectors_for(embedder), []
    for count, n in enumerate(side, start=1):
        found = embedder.embed_chain(table.chains[n].chain, **asked_for(names))
        arrays.append(features_of(found, names))
        if progress is not None:
            progress(count, len(side))
    return arrays


def sides_of(table: LabelTable) -> list[list[int]]:
    """Return the indices of the training, validation and test chains; each family is in one set.

    The families are split at random until every class is in the training and the test set.

    Raises
    ------
    LabelError
        If there are too few chains or families, or a class cannot be in both sets.
    """
    if len(table.chains) < LEAST_CHAINS:
        raise LabelError(f"{len(table.chains)} chains have labels; at least {LEAST_CHAINS} are required")
    family = _families(table.chains)
    every = np.unique(family)
    if len(every) < 5:
        raise LabelError(
            f"the chains form {len(every)} families; at least 5 are required, because some are held out"
        )
    of_class = [
        np.unique([n for n, one in zip(family, table.chains, strict=True) if place in one.label])
        for place in range(len(table.classes or ()))
    ]
    for name, members in zip(table.classes or (), of_class, strict=True):
        if len(members) < 2:
            raise LabelError(
                f"the chains with label {name!r} form {len(members)} families; at least 2 are required, "
                "one for training and one for the test: label more chains, or remove the label"
            )
    held = max(1, round(HELD_OUT * len(every)))
    for seed in range(DEALS):
        order = np.random.default_rng(seed).permutation(every)
        parts = [order[2 * held :], order[held : 2 * held], order[:held]]
        if all(np.isin(members, part).any() for members in of_class for part in (parts[0], parts[2])):
            return [np.flatnonzero(np.isin(family, part)).tolist() for part in parts]
    raise LabelError(
        f"no split of {len(every)} families was found with every class in the training and the test set; "
        "label more chains of the rarest classes, or remove those"
    )


def _families(chains: Sequence[Labelled]) -> NDArray[np.int64]:
    """Return a family number per chain; equal sequences are relatives, even if short or unknown."""
    first: dict[str, Labelled] = {}
    for chain in chains:
        first.setdefault(chain.sequence, chain)
    members = dict(zip(first, families(list(first.values())), strict=True))
    return np.array([members[chain.sequence] for chain in chains])


def _labels(chains: Sequence[Labelled], side: Sequence[int]) -> NDArray[np.float64]:
    every = np.concatenate([chains[n].label for n in side])
    return np.asarray(every[np.isfinite(every)])


def _set(
    model: LabelModel, table: LabelTable, arrays: Sequence[NDArray[np.float32]], side: Sequence[int]
) -> _Set:
    seen, label, chain = [], [], []
    for n in side:
        labelled = table.chains[n]
        inputs = model.inputs(torch.from_numpy(arrays[n]), torch.from_numpy(labelled.chain.residue_type))
        known = np.flatnonzero(np.isfinite(labelled.label))
        seen.append(inputs[known])
        label.append(torch.from_numpy(labelled.label[known]))
        chain.append(np.full(len(known), n))
    values = torch.cat(label)
    target = values.long() if model.classes else ((values - model.shift) / model.scale).float()
    return _Set(torch.cat(seen), target, np.concatenate(chain))


def _fit(
    table: LabelTable,
    arrays: Sequence[NDArray[np.float32]],
    sides: Sequence[Sequence[int]],
    model: LabelModel,
) -> LabelModel:
    learning = np.concatenate([arrays[n].reshape(len(arrays[n]), -1) for n in sides[0]])[:, : model.features]
    if model.features:
        model.mean_E.copy_(torch.from_numpy(learning.mean(axis=0)))
        model.spread_E.copy_(torch.from_numpy(learning.std(axis=0) + 1e-6))
    if not model.classes:
        values = _labels(table.chains, sides[0])
        model.shift.fill_(float(values.mean()))
        model.scale.fill_(max(float(values.std()), 1e-6))
    training, validation = (_set(model, table, arrays, side) for side in sides[:2])
    for seed, network in enumerate(model.networks):
        _train(network, training, validation, model.classes, seed)
    return model.eval()


def _train(network: nn.Module, training: _Set, validation: _Set, classes: bool, seed: int) -> None:
    generator, rng = torch.Generator().manual_seed(seed), np.random.default_rng(seed)
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.kaiming_uniform_(module.weight, a=5**0.5, generator=generator)
            nn.init.zeros_(module.bias)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=DECAY)
    chains = np.unique(training.chain)
    least, best, waited = np.inf, copy.deepcopy(network.state_dict()), 0
    torch.manual_seed(seed)
    for _ in range(EPOCHS):
        network.train()
        for part in np.array_split(rng.permutation(chains), max(1, len(chains) // BATCH)):
            some = torch.from_numpy(np.flatnonzero(np.isin(training.chain, part)))
            loss = label_loss(network(training.seen[some]), training.label[some], classes)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        network.eval()
        with torch.no_grad():
            now = float(label_loss(network(validation.seen), validation.label, classes))
        if now < least:
            least, best, waited = now, copy.deepcopy(network.state_dict()), 0
        else:
            waited += 1
            if waited > PATIENCE:
                break
    network.load_state_dict(best)


def label_loss(output: Tensor, label: Tensor, classes: bool) -> Tensor:
    """Return the mean loss of outputs (M, N) for labels (M,): cross entropy, or squared error."""
    return F.cross_entropy(output, label) if classes else F.mse_loss(output[:, 0], label)


@torch.inference_mode()
def _evaluate(
    model: LabelModel, table: LabelTable, arrays: Sequence[NDArray[np.float32]], side: Sequence[int]
) -> dict[str, float]:
    predicted = []
    for n, array in zip(side, arrays, strict=True):
        chain = table.chains[n].chain
        known = np.isfinite(table.chains[n].label)
        features, types = torch.from_numpy(array), torch.from_numpy(chain.residue_type)
        value = model(features, types, torch.zeros(len(chain), 3)).numpy()
        predicted.append(np.atleast_2d(value)[known])
    return _scores(_labels(table.chains, side), np.concatenate(predicted), table.classes)


def _constant(table: LabelTable, sides: Sequence[Sequence[int]]) -> dict[str, float]:
    training, test = (_labels(table.chains, side) for side in (sides[0], sides[2]))
    if table.classes:
        shares = np.bincount(training.astype(int), minlength=len(table.classes)) / len(training)
        return _scores(test, np.tile(shares, (len(test), 1)), table.classes)
    return _scores(test, np.full((len(test), 1), training.mean()), None)


def _scores(
    label: NDArray[np.float64], predicted: NDArray[np.floating], classes: Sequence[str] | None
) -> dict[str, float]:
    if classes:
        picked = predicted.argmax(axis=1)
        scores = {
            "accuracy": float((picked == label).mean()),
            "balanced_accuracy": float(balanced_accuracy_score(label, picked)),
            "f1_macro": float(f1_score(label, picked, average="macro")),
        }
    else:
        error = predicted[:, 0] - label
        varied = np.std(predicted[:, 0]) > 0 and np.std(label) > 0
        scores = {
            "r2": float(r2_score(label, predicted[:, 0])),
            "pearson": float(np.corrcoef(predicted[:, 0], label)[0, 1]) if varied else 0.0,
            "mean_absolute_error": float(np.abs(error).mean()),
        }
    return {name: round(value, 4) for name, value in scores.items()} | {"labels": len(label)}
