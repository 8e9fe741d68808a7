"""The single representation and its training objectives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from protemb_train.corpus.corpus import CorpusError
from protemb_train.corpus.cuts import BONDED, TOUCHING
from protemb_train.network.checkpoint import load_heads, load_network, read_tensors, write_tensors
from protemb_train.network.config import ConfigError, NetworkConfig
from protemb_train.network.features import UNKNOWN
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE_1_TRAINING
from protemb_train.pretrain.auxiliary import AuxiliaryBatches, StepBatches
from protemb_train.pretrain.crops import CropBatches
from protemb_train.pretrain.judge import judge_states
from protemb_train.pretrain.objective import LDDT_VARIANCE, Pretraining, TrainingError
from protemb_train.pretrain.pretrain import pretrain

CONFIG = NetworkConfig(
    family="base",
    channels=8,
    bottleneck=4,
    dilations=(1, 2, 1),
    noise_levels=8,
    exchanges=(1, 2),
    single_channels=12,
)
RECIPE = replace(
    BASE_1_TRAINING,
    batch=2,
    crops=(24,),
    type_loss=0.3,
    swap_types=0.05,
    pieces=2,
    piece_loss=0.3,
    site_loss=1.0,
    chains=2,
    profile_loss=1.0,
    damaged=1,
    damage_loss=0.5,
    longest=150,
    ema=None,
)
SIGMA = torch.tensor([0.3])


def inputs_of(trace, size=40):
    part = slice(0, size)
    return tuple(
        torch.from_numpy(np.array(a[part]))[None]
        for a in (trace.ca_coords, trace.residue_type, trace.residue_index)
    )


def test_residue_types_are_used_from_the_last_exchange_on(randomised, traces):
    """The structure state and the profile do not depend on residue types; the single representation does."""
    network = randomised(CONFIG)
    coords, types, index = inputs_of(traces[0])
    with torch.no_grad():
        pair, states = network.embed_all(coords, types, index, SIGMA)
        other_pair, other = network.embed_all(coords, (types + 3) % UNKNOWN, index, SIGMA)
        alone = network.structure_state(coords, index, SIGMA)
    assert torch.equal(states.structure, other.structure) and torch.equal(states.structure, alone)
    assert (states.state - other.state).abs().max() > 0.01
    assert (pair - other_pair).abs().max() > 0.01
    assert states.structure.shape == states.state.shape == (1, 40, 12)
    profile = network.single.log_profile(states.structure)
    assert torch.allclose(profile.exp().sum(dim=-1), torch.ones(1, 40))


def test_a_changed_type_affects_all_states_through_the_pair_map(randomised, traces):
    """The states of all residues change, most at the residue itself."""
    network = randomised(CONFIG)
    coords, types, index = inputs_of(traces[0])
    changed = types.clone()
    changed[0, 20] = (types[0, 20] + 1) % UNKNOWN
    with torch.no_grad():
        difference = (
            network.embed_all(coords, types, index, SIGMA)[1].state
            - network.embed_all(coords, changed, index, SIGMA)[1].state
        )
    moved = difference.abs().amax(dim=(0, 2))
    assert moved.argmax() == 20 and (moved > 1e-6).all()


def test_states_are_invariant_to_rotation_translation_and_batch(randomised, traces):
    network = randomised(CONFIG)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1))).Q
    turn = turn * torch.linalg.det(turn)
    coords, types, index = inputs_of(traces[0])
    with torch.no_grad():
        here = network.embed_all(coords, types, index, SIGMA)[1]
        there = network.embed_all(coords @ turn.T + 300.0, types, index, SIGMA)[1]
        sigma = torch.tensor([0.3, 1.0])
        both = network.embed_all(*(x.expand(2, *x.shape[1:]) for x in (coords, types, index)), sigma)[1]
    for one, other, batched in zip(here, there, both, strict=True):
        scale = one.abs().max()
        assert (one - other).abs().max() < 2e-3 * scale
        assert (one[0] - batched[0]).abs().max() < 1e-4 * scale
        assert (one[0] - batched[1]).abs().max() > 1e-3 * scale  # another noise level


@pytest.mark.parametrize("exchanges", [(2, 1), (1, 1), (3,), (1, 5)])
def test_exchanges_increase_and_end_before_the_last_block(exchanges):
    with pytest.raises(ConfigError, match=r"exchanges is .* less than the number of blocks, 3"):
        replace(CONFIG, exchanges=exchanges)


def test_networks_of_family_paper_have_no_single_representation():
    with pytest.raises(ConfigError, match="family base"):
        replace(CONFIG, family="paper")


def test_losses_on_states_need_a_single_representation(real_corpus):
    with pytest.raises(TrainingError, match="require a single representation; set exchanges"):
        Pretraining(real_corpus, real_corpus, replace(CONFIG, exchanges=None), RECIPE, 10, 0, {})


def test_batches_depend_only_on_seed_and_step(real_corpus, damaged):
    first, again = (AuxiliaryBatches(real_corpus, RECIPE, seed=3, damaged=damaged) for _ in range(2))
    a, b = first.batch(5), again.batch(5)
    assert [len(a[kind]) for kind in ("pieces", "chains", "damaged")] == [2, 2, 1]
    for kind in a:
        for one, other in zip(a[kind], b[kind], strict=True):
            assert all(torch.equal(one[name], other[name]) for name in one)
    assert not torch.equal(a["chains"][0]["noisy"], first.batch(6)["chains"][0]["noisy"][:, :1])


def test_pieces_are_labelled_by_contacts_with_the_removed_part(real_corpus, damaged):
    """Labels are compared with contacts in the whole chain, which is found by the piece's coordinates."""
    batches = AuxiliaryBatches(real_corpus, RECIPE, seed=0, damaged=damaged)
    checked = 0
    for step in range(4):
        for piece in batches.batch(step)["pieces"]:
            own = piece["coords"][0].numpy()
            for trace in real_corpus:
                for a in range(len(trace.ca_coords) - len(own) + 1):
                    found = trace.ca_coords[a : a + len(own)]
                    if np.abs(found - found.mean(axis=0) - own).max() < 1e-4:
                        distance = np.linalg.norm(trace.ca_coords[None] - found[:, None], axis=-1)
                        places = np.arange(len(trace.ca_coords))
                        # The four residues next to the cut do not count as part of the rest.
                        far = np.abs(places[None] - (a + np.arange(len(own)))[:, None]) > BONDED
                        rest = (places < a - 4) | (places >= a + len(own) + 4)
                        touching = ((distance < TOUCHING) & far & rest[None]).any(axis=1)
                        assert (piece["touching"][0].numpy() >= touching).all()
                        checked += 1
    assert checked


def test_the_noise_does_not_exceed_the_given_level(real_corpus, damaged):
    for step in range(5):
        batch = AuxiliaryBatches(real_corpus, RECIPE, seed=0, damaged=damaged).batch(step)
        for chain in batch["chains"]:
            noise = (chain["noisy"] - chain["coords"]).std()
            assert noise <= 1.3 * chain["sigma"][0]
        for piece in batch["pieces"]:
            noise = (piece["noisy"] - piece["coords"]).std()
            assert noise == pytest.approx(float(piece["sigma"][0]), rel=0.3)


def test_every_loss_trains_the_network(real_corpus, damaged):
    module = Pretraining(real_corpus, real_corpus, CONFIG, RECIPE, 10, 0, {})
    module.log = lambda *arguments, **options: None  # there is no trainer
    batch = StepBatches(real_corpus, CONFIG, RECIPE, 0, damaged=damaged).batch(0)
    crops = CropBatches(real_corpus, CONFIG, RECIPE, 0).batch(0)
    assert all(torch.equal(batch[name], crops[name]) for name in crops)
    module.training_step(batch, 0).backward()
    silent = [name for name, weight in module.named_parameters() if weight.grad is None]
    # The output layer is initially zero, so at first only its own gradient is not zero.
    assert not silent
    assert all(torch.isfinite(weight.grad).all() for weight in module.parameters())
    assert module.network.single.profile.weight.grad.abs().sum() > 0
    assert module.damage_head.weight.grad.abs().sum() > 0
    assert module.site_head.weight.grad.abs().sum() > 0
    assert not any("head" in name for name in module.network.state_dict())


def test_a_corpus_without_short_chains_is_refused(make_corpus, traces):
    long = max(traces, key=lambda trace: len(trace.ca_coords))
    corpus = make_corpus([("A" * len(long.ca_coords), long.ca_coords, k) for k in range(3)])
    with pytest.raises(CorpusError, match=r"no (piece of a cut chain|chain) of at most 60 residues"):
        AuxiliaryBatches(corpus, replace(RECIPE, longest=60, damaged=0), seed=0)


def test_a_recipe_with_damaged_structures_requires_them(real_corpus):
    with pytest.raises(CorpusError, match=r"damaged is 1, but there is no damaged structure of at most 150"):
        AuxiliaryBatches(real_corpus, RECIPE, seed=0)


def test_residues_of_unknown_lddt_are_ignored_in_the_loss(real_corpus, damaged):
    module = Pretraining(real_corpus, real_corpus, CONFIG, RECIPE, 10, 0, {}, damaged=damaged)
    logged = {}
    module.log = lambda name, value, **options: logged.update({name: float(value)})
    torch.nn.init.zeros_(module.damage_head.weight)
    torch.nn.init.zeros_(module.damage_head.bias)
    batches = StepBatches(real_corpus, CONFIG, RECIPE, 0, damaged=damaged)
    seen = set()
    for step in range(8):
        batch = batches.batch(step)
        module.training_step(batch, step)
        lddt = batch["damaged"][0]["lddt"][0].numpy()
        expected = np.nanmean((lddt - 0.5) ** 2) / LDDT_VARIANCE
        assert logged["damage_loss"] == pytest.approx(expected, rel=1e-5)
        seen.add(round(float(expected), 4))
    assert len(seen) == 2


def test_a_run_can_start_from_the_weights_of_another(real_corpus, tmp_path):
    recipe = replace(RECIPE, damaged=0, damage_loss=0.0, ema=None, warmup_steps=0)
    first = pretrain(real_corpus.path, CONFIG, recipe, tmp_path / "a", steps=2, progress=False)
    network, _ = load_network(first)
    heads = load_heads(first)
    still = replace(recipe, learning_rate=1e-12)
    second = pretrain(
        real_corpus.path,
        CONFIG,
        still,
        tmp_path / "b",
        steps=1,
        progress=False,
        start=network,
        heads=heads,
        seed=5,
    )
    other, _ = load_network(second)
    assert {name.split(".")[0] for name in heads} == {"type_head", "site_head"}
    for name, weight in load_heads(second).items():
        torch.testing.assert_close(weight, heads[name], msg=name)
    for (name, one), two in zip(network.state_dict().items(), other.state_dict().values(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


def test_learning_rates_by_part_of_the_network(real_corpus):
    """Every weight has one rate: the map, perceptrons and heads, and what was trained without the map."""
    recipe = replace(
        RECIPE, damaged=0, damage_loss=0.0, small_rate=0.5, messages_rate=0.25, learning_rate=0.008
    )
    module = Pretraining(real_corpus, real_corpus, replace(CONFIG, messages=(1, 1)), recipe, 10, 0, {})
    rates = {id(w): group["lr"] for group in module._groups() for w in group["params"]}
    single = module.network.single
    assert len(rates) == len(list(module.parameters())) and set(rates.values()) == {0.008, 0.004, 0.001}
    expected = [
        (module.network.conv_out, 0.008),
        (single.writes, 0.004),
        (module.site_head, 0.004),
        (single.before, 0.001),
        (single.profile, 0.001),
    ]
    for part, rate in expected:
        assert {rates[id(weight)] for weight in part.parameters()} == {rate}


def test_a_run_of_an_older_version_can_be_resumed(real_corpus, tmp_path):
    """Its record lacks fields of the recipe and the network that were added later."""
    config = replace(CONFIG, exchanges=None)
    recipe = replace(BASE_1_TRAINING, batch=2, crops=(24,), schedule="constant", warmup_steps=0)
    last = pretrain(real_corpus.path, config, recipe, tmp_path, steps=1, progress=False)
    loaded = read_tensors(last)
    for name in ("damaged", "damage_loss", "pieces", "longest"):
        del loaded["hyper_parameters"]["record"]["recipe"][name]
    assert "exchanges" not in loaded["hyper_parameters"]["network"]
    write_tensors(loaded, last)
    pretrain(real_corpus.path, config, recipe, tmp_path, steps=2, progress=False)
    assert read_tensors(last)["global_step"] == 2
    with pytest.raises(TrainingError, match="another recipe"):
        pretrain(real_corpus.path, config, replace(recipe, longest=99), tmp_path, steps=3, progress=False)


def test_states_are_evaluated_on_residue_types_and_sites(real_corpus, randomised):
    network = randomised(CONFIG)
    found = judge_states(network, torch.nn.Linear(12, 1), real_corpus)
    assert 0 <= found["type_accuracy"] <= 1 and found["type_nats"] > 0
    assert "site_ap" not in judge_states(network, None, real_corpus)


def test_configs_without_exchanges_can_be_read():
    config = NetworkConfig.from_dict(
        {"family": "base", "channels": 8, "bottleneck": 4, "dilations": [1], "noise_levels": 8}
    )
    assert config.exchanges is None and ScoreNetwork(config).single is None
    assert NetworkConfig.from_dict(CONFIG.as_dict()) == CONFIG
