"""Naming hidden residues: what is hidden stays hidden, a fold's own sequence fits it, files, rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from protemb_sdk import ModelError
from protemb_sdk._structure.chain import ALPHABET
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.downstream.common.embeddings import StructureEncoder
from protemb_train.downstream.common.messages import TYPES
from protemb_train.downstream.common.neighbour_graph import neighbour_graph
from protemb_train.downstream.quality.decoys import Decoy, labelled
from protemb_train.downstream.quality.naming import (
    FEATURES,
    FOLDS,
    Namer,
    Natives,
    load_names,
    save_names,
    single,
    train_namer,
)
from protemb_train.downstream.quality.predictions import predictions
from protemb_train.downstream.quality.rows import Row, run_row
from protemb_train.downstream.quality.trained import load_row
from protemb_train.downstream.quality.training import Recipe
from protemb_train.experiments.zero_shot import fitting

from .conftest import CorpusMaker
from .test_quality_rows import sides, twice  # noqa: F401 (a fixture)


def namer_at_random() -> Namer:
    torch.manual_seed(0)
    namer = Namer().eval()
    namer.background.copy_(torch.log_softmax(torch.randn(TYPES), dim=0))
    return namer


@pytest.fixture
def corpus(make_corpus: CorpusMaker, traces: list[Trace]) -> Corpus:
    """Chains whose residues can be told from where they lie: buried ones are L, the others K."""
    chains = []
    for k in range(20):
        trace = traces[k % 2]
        noise = np.random.default_rng(k).normal(size=trace.ca_coords.shape).astype(np.float32)
        coords = trace.ca_coords + 0.3 * noise
        near = (np.linalg.norm(coords[:, None] - coords, axis=2) < 10).sum(axis=1)
        chains.append(("".join("L" if n > np.median(near) else "K" for n in near), coords, k))
    return make_corpus(chains)


def test_predictions_do_not_depend_on_the_hidden_type(traces: list[Trace]) -> None:
    namer, trace = namer_at_random(), traces[0]
    graph = single(neighbour_graph(torch.from_numpy(trace.ca_coords)))
    types = torch.from_numpy(trace.residue_type)
    other = types.clone()
    other[10] = (types[10] + 5) % TYPES
    with torch.inference_mode():
        before, after = namer.features(types, graph), namer.features(other, graph)
        hidden = torch.arange(len(types)) % FOLDS == 10 % FOLDS
        torch.testing.assert_close(
            namer(types, hidden, graph)[10], namer(other, hidden, graph)[10], rtol=0, atol=0
        )
    assert before.shape == (len(types), FEATURES)
    torch.testing.assert_close(before[:, 4:], after[:, 4:], rtol=0, atol=0)  # from the fold alone
    # How sure it is of residue 10 stays, what it says of the residue's own type changes, as do neighbours.
    torch.testing.assert_close(before[10, [1, 3]], after[10, [1, 3]], rtol=0, atol=0)
    assert before[10, 0] != after[10, 0] and (before[:, 2] != after[:, 2]).sum() > 1
    log_odds = before[10, 4:]
    assert float(before[10, 0]) == pytest.approx(float(log_odds[types[10]]), abs=1e-6)


def test_unknown_residues_have_zero_log_odds(traces: list[Trace]) -> None:
    namer = namer_at_random()
    graph = single(neighbour_graph(torch.from_numpy(traces[0].ca_coords)))
    unknown = torch.full((len(traces[0].ca_coords),), TYPES)
    with torch.inference_mode():
        found = namer.features(unknown, graph)
    assert (found[:, [0, 2]] == 0).all() and torch.isfinite(found).all()


def test_types_are_learnt_from_structure(corpus: Corpus, tmp_path: Path) -> None:
    namer, record = train_namer(corpus.path, epochs=12)
    assert len(record["curve"]) == 12 and record["curve"][-1]["loss"] < 0.8 * record["curve"][0]["loss"]
    assert record["curve"][-1]["loss_accuracy"] > 0.6
    save_names(namer, record, tmp_path / "names.pt")
    again, kept = load_names(tmp_path / "names.pt")
    assert kept["corpus_sha256"] == corpus.sha256
    trace = corpus[0]
    graph = single(neighbour_graph(torch.from_numpy(trace.ca_coords.copy())))
    types = torch.from_numpy(trace.residue_type)
    with torch.inference_mode():
        right = again.features(types, graph)[:, 0].mean()
        wrong = again.features(types.flip(0), graph)[:, 0].mean()
        torch.testing.assert_close(again.features(types, graph), namer.features(types, graph))
    assert right > wrong
    letters = "".join(ALPHABET[t] for t in trace.residue_type)
    own, reversed_ = (
        labelled("d", "t", "s", "train", s, trace.ca_coords.astype(float), trace.ca_coords.astype(float))
        for s in (letters, letters[::-1])
    )
    assert fitting(again, own) > fitting(again, reversed_)


def test_epochs_differ_but_are_reproducible(corpus: Corpus) -> None:
    one, two = Natives(corpus, 1), Natives(corpus, 1)
    first, again, second = list(one), list(two), list(one)
    assert len(first) == len(one) == 3
    for a, b in zip(first, again, strict=True):
        assert (
            torch.equal(a[0], b[0])
            and torch.equal(a[1], b[1])
            and torch.equal(a[2].burial_LB, b[2].burial_LB)
        )
    assert not all(
        torch.equal(a[0], b[0]) for a, b in zip(first, second, strict=True) if len(a[0]) == len(b[0])
    )


def test_invalid_files_are_refused(tmp_path: Path) -> None:
    torch.save({"format": "other"}, tmp_path / "n.pt")
    with pytest.raises(ModelError, match="has the format 'other'; only"):
        load_names(tmp_path / "n.pt")
    with pytest.raises(ModelError, match=r"none\.pt"):
        load_names(tmp_path / "none.pt")


@pytest.mark.parametrize("network", ["head", "graphqa"])
def test_a_row_saves_its_namer(
    network: str,
    sides: dict[str, list[Decoy]],  # noqa: F811
    tmp_path: Path,
) -> None:
    encoder, namer = StructureEncoder("base-1", ("mean",), threads=1), namer_at_random()
    row = Row(name="n", network=network, encoder=encoder, recipe=Recipe(epochs=1, batch=2), namer=namer)
    made = list(run_row(row, twice(sides["train"]), sides["val"], tmp_path, seeds=[0], cache=tmp_path / "c"))
    kept = load_row(tmp_path / "n" / "seed-0.pt")
    for name, value in namer.state_dict().items():
        torch.testing.assert_close(kept.network.state_dict()[f"namer.{name}"], value, rtol=0, atol=0)
    predicted = [
        predictions({"n": [learnt]}, sides["test"], [], tmp_path / "c")["n"][0] for learnt in (made[0], kept)
    ]
    np.testing.assert_array_equal(predicted[0].quality, predicted[1].quality)


def test_networks_of_other_sizes_can_be_read(corpus: Corpus, tmp_path: Path) -> None:
    namer, record = train_namer(corpus.path, epochs=1, hidden=24, layers=2, batch=2, workers=1)
    save_names(namer, record, tmp_path / "names.pt")
    again, _ = load_names(tmp_path / "names.pt")
    assert len(again.layers) == 2 and again.input.out_features == 24
    assert all(torch.equal(a, b) for a, b in zip(namer.parameters(), again.parameters(), strict=True))
