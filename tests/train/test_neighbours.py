"""Message passing between spatial neighbours: the graph, and training without a pair map."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_sdk import ModelError
from protemb_train.network.checkpoint import load_network, take_map, take_weights
from protemb_train.network.config import ConfigError
from protemb_train.network.features import UNKNOWN, BaseFeatures
from protemb_train.network.neighbours import EDGE, REACH, find_neighbours
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import PRESETS
from protemb_train.pretrain.auxiliary import StepBatches
from protemb_train.pretrain.objective import Pretraining, TrainingError
from protemb_train.pretrain.pretrain import pretrain

from .test_single import CONFIG, RECIPE, inputs_of

MESSAGES = replace(CONFIG, messages=(2, 1))
ALONE = replace(RECIPE, pair_map=False, piece_loss=0.0)
FEATURES = BaseFeatures()
NEAREST = MESSAGES.neighbours


def walk(length: int, seed: int) -> torch.Tensor:
    steps = torch.randn(length, 3, generator=torch.Generator().manual_seed(seed))
    coords = (3.8 * steps / steps.norm(dim=1, keepdim=True)).cumsum(dim=0)
    return (coords - coords.mean(dim=0))[None]


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 60), seed=st.integers(0, 1000), nearest=st.sampled_from([5, NEAREST]))
def test_neighbours_are_the_nearest_residues(length, seed, nearest):
    coords, index = walk(length, seed), torch.arange(length)[None]
    found = find_neighbours(FEATURES, coords, index, nearest)
    assert found.edge_LKE.shape == (length, nearest, EDGE) and torch.isfinite(found.edge_LKE).all()
    distance = torch.linalg.norm(coords[0][:, None] - coords[0], dim=2).fill_diagonal_(torch.inf)
    weight = torch.zeros(length, length).scatter_add_(1, found.neighbour_LK, found.present_LK)
    assert (weight.diagonal() == 0).all() and (weight >= 0).all() and (weight < 1).all()
    for i in range(length):
        order = distance[i].argsort()
        end = float(distance[i][order[nearest]]) if length > nearest + 1 else REACH
        end = min(end, REACH)
        expected = (1 - (distance[i] / end).square()).clamp(min=0)
        torch.testing.assert_close(weight[i], expected, atol=1e-4, rtol=0)


def test_states_are_continuous_when_a_residue_leaves_the_neighbours(randomised):
    """Residue 30 moves out of the neighbours of residue 0 in steps of 0.001 angstrom."""
    network = randomised(MESSAGES)
    coords, index = walk(60, 3), torch.arange(60)[None]
    types = torch.zeros_like(index)
    distance = torch.linalg.norm(coords[0] - coords[0, 0], dim=1)
    others = torch.cat([distance[1:30], distance[31:]]).sort().values
    border = float(others[NEAREST - 1])
    toward = (coords[0, 30] - coords[0, 0]) / distance[30]
    before, states = False, []
    for shift in np.arange(-0.02, 0.02, 0.001):
        moved = coords.clone()
        moved[0, 30] = coords[0, 0] + toward * (border + shift)
        with torch.no_grad():
            states.append(network.states_without_map(moved, types, index).structure[0, 0])
        inside = bool((find_neighbours(FEATURES, moved, index, NEAREST).neighbour_LK[0] == 30).any())
        before = before or inside
    assert before and not inside  # residue 30 is no longer a neighbour
    steps = torch.stack([(a - b).abs().max() for a, b in zip(states, states[1:], strict=False)])
    assert steps.max() < 3 * steps.median() + 1e-4


def test_states_are_invariant_to_rotation_and_batch_but_not_reflection(randomised, traces):
    network = randomised(MESSAGES)
    coords, types, index = inputs_of(traces[0])
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1))).Q
    turn = turn * torch.linalg.det(turn)
    with torch.no_grad():
        here = network.states_without_map(coords, types, index)
        there = network.states_without_map(coords @ turn.T + 300.0, types, index)
        mirrored = network.states_without_map(-coords, types, index)
        both = network.states_without_map(
            torch.cat([coords[:, :30], coords[:, 10:]]),
            torch.cat([types[:, :30], types[:, 10:]]),
            torch.cat([index[:, :30], index[:, 10:]]),
        )
        first = network.states_without_map(coords[:, :30], types[:, :30], index[:, :30])
    for one, other, turned in zip(here, there, mirrored, strict=True):
        scale = one.abs().max()
        assert (one - other).abs().max() < 1e-3 * scale
        assert (one - turned).abs().max() > 1e-2 * scale
    for one, batched in zip(first, both, strict=True):
        assert (one[0] - batched[0]).abs().max() < 1e-5 * one.abs().max()


def test_structure_states_do_not_depend_on_residue_types(randomised, traces):
    network = randomised(MESSAGES)
    coords, types, index = inputs_of(traces[0])
    other = (types + 3) % 20
    with torch.no_grad():
        for states in (network.states_without_map, lambda *x: network.embed_all(*x, torch.tensor([0.3]))[1]):
            one, changed = states(coords, types, index), states(coords, other, index)
            assert torch.equal(one.structure, changed.structure)
            assert (one.state - changed.state).abs().max() > 1e-3


def test_the_initial_pair_map_does_not_depend_on_the_states(traces):
    network = ScoreNetwork(MESSAGES).eval()
    coords, types, index = inputs_of(traces[0])
    with torch.no_grad():
        one = network.embed(coords, types, index, torch.tensor([0.3]))
        other = network.embed(coords, (types + 3) % 20, index, torch.tensor([0.3]))
    assert torch.equal(one, other)


def test_message_passing_is_trained_alone_and_then_with_the_pair_map(real_corpus, tmp_path, damaged, caplog):
    recipe = replace(ALONE, learning_rate=3e-3, schedule="constant", warmup_steps=0, ema=0.9)
    last = pretrain(
        real_corpus.path, MESSAGES, recipe, tmp_path / "a", steps=6, progress=False, damaged=damaged
    )
    assert (tmp_path / "a" / "best.ckpt").exists()  # selected by the loss on residue types
    start = load_network(last)[0]
    random = ScoreNetwork(MESSAGES)
    moved = {
        name
        for name, weight in start.state_dict().items()
        if not torch.equal(weight, random.state_dict()[name]) and "blocks" in name
    }
    assert moved  # the initial weights were from another seed
    whole = replace(RECIPE, ema=None)
    with caplog.at_level(logging.WARNING, "protemb"):
        pretrain(
            real_corpus.path, MESSAGES, whole, tmp_path / "b", steps=1, progress=False, damaged=damaged,
            start=start,
        )  # fmt: skip
    assert "which are random" not in caplog.text


def test_without_a_pair_map_only_the_states_are_trained(real_corpus, damaged):
    module = Pretraining(real_corpus, real_corpus, MESSAGES, ALONE, 10, 0, {}, damaged=damaged)
    module.log = lambda *a, **k: None
    batch = StepBatches(real_corpus, MESSAGES, ALONE, 0, damaged=damaged).batch(0)
    module.training_step(batch, 0).backward()
    learnt = {name for name, p in module.network.named_parameters() if p.grad is not None and p.grad.any()}
    assert learnt and all(name.startswith("single.") for name in learnt)
    assert not any(name.startswith(("single.reads", "single.writes")) for name in learnt)


def test_weights_of_single_representations_are_copied_completely_or_not():
    network, start = ScoreNetwork(MESSAGES), ScoreNetwork(CONFIG)
    with torch.no_grad():
        start.conv_out.weight.add_(1.0)
    before = {name: w.clone() for name, w in network.state_dict().items()}
    missing = take_weights(network, start)
    assert all(name.startswith("single.") for name in missing)
    for name in missing:
        assert torch.equal(network.state_dict()[name], before[name])
    assert torch.equal(network.conv_out.weight, start.conv_out.weight)
    tiny = replace(CONFIG, channels=6, bottleneck=3, exchanges=None, noise_levels=4, dilations=(1,))
    other = ScoreNetwork(tiny)
    del other.conv_out, other.blocks, other.stem
    with pytest.raises(ModelError, match="no weights in common"):
        take_weights(network, other)


def test_states_are_copied_to_a_network_with_a_map_of_another_width(randomised):
    start, network = randomised(MESSAGES), ScoreNetwork(replace(MESSAGES, channels=12, bottleneck=6))
    missing = take_weights(network, start)
    assert {name.split(".")[1] for name in missing if name.startswith("single.")} <= {
        "reads",
        "writes",
        "read_out",
    }
    coords, index, types = walk(40, 5), torch.arange(40)[None], torch.arange(40)[None] % 20
    with torch.no_grad():
        before, after = (n.states_without_map(coords, types, index).state for n in (start, network))
    assert torch.equal(before, after)


def test_a_copied_pair_map_equals_the_trained_one_with_types_masked(randomised):
    start, network = randomised(replace(CONFIG, exchanges=None)), randomised(MESSAGES)
    coords, index, types = walk(40, 5), torch.arange(40)[None], torch.arange(40)[None] % 20
    sigma = torch.tensor([0.4])
    with torch.no_grad():
        states = network.states_without_map(coords, types, index)
        take_map(network, start)
        hidden = start.embed(coords, torch.full_like(types, UNKNOWN), index, sigma)
        pair, both = network.embed_all(coords, types, index, sigma)
    torch.testing.assert_close(pair, hidden, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(both.structure, states.structure)
    torch.testing.assert_close(both.state, states.state)
    with pytest.raises(ModelError, match="without states"):
        take_map(start, start)
    with pytest.raises(ModelError, match="another shape"):
        take_map(network, ScoreNetwork(replace(start.config, bottleneck=3)))


def test_messages_require_exchanges_and_the_recipe_training_data():
    with pytest.raises(ConfigError, match="messages is"):
        replace(MESSAGES, messages=(1,))
    with pytest.raises(ConfigError, match="with exchanges"):
        replace(MESSAGES, exchanges=None)
    with pytest.raises(ConfigError, match="set it to 0"):
        replace(ALONE, piece_loss=0.3)
    with pytest.raises(ConfigError, match="there are no training data"):
        replace(ALONE, pieces=0, chains=0)


def test_a_recipe_without_a_pair_map_requires_messages(real_corpus):
    with pytest.raises(TrainingError, match="has no messages"):
        Pretraining(real_corpus, real_corpus, CONFIG, ALONE, 10, 0, {})


def test_presets_of_base_have_the_same_network_configuration():
    assert PRESETS["base"][0] == PRESETS["base-messages"][0]
    assert not PRESETS["base-messages"][1].pair_map and PRESETS["base"][1].pair_map
