import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_train.network.config import NetworkConfig
from protemb_train.network.features import centred
from protemb_train.network.network import BASE_CONDITIONS, ScoreNetwork
from protemb_train.network.presets import BASE_1, PAPER, PRESETS, authors_release


def inputs_of(trace, size=40, batch=1):
    return (
        torch.from_numpy(trace.ca_coords[:size]).expand(batch, -1, -1).clone(),
        torch.from_numpy(trace.residue_type[:size]).expand(batch, -1).clone(),
        torch.from_numpy(trace.residue_index[:size]).expand(batch, -1).clone(),
    )


def test_the_initial_network_predicts_zero(config, traces):
    torch.manual_seed(0)
    network = ScoreNetwork(config)
    gradient = network(*inputs_of(traces[0], batch=3), torch.tensor([0.01, 1.0, 10.0]))
    assert gradient.shape == (3, 40, 3) and gradient.dtype == torch.float32
    assert (gradient == 0).all()


@given(seed=st.integers(0, 1000))
@settings(max_examples=8, deadline=None)
def test_the_gradient_is_equivariant_to_rotation(traces, randomised, seed):
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    turn = turn * torch.linalg.det(turn)
    coords, types, index = inputs_of(traces[0])
    for config in (PAPER, BASE_1):
        network = randomised(
            NetworkConfig(**{**vars(config), "dilations": (1, 2), "channels": 8, "bottleneck": 4})
        )
        sigma = torch.tensor([1.0])
        with torch.no_grad():
            here = network(coords, types, index, sigma)
            there = network(coords @ turn.T + 100 * torch.randn(3, generator=generator), types, index, sigma)
        assert here.abs().max() > 0.01
        assert (here @ turn.T - there).abs().max() < 2e-3 * here.abs().max()


def test_a_residue_type_affects_pairs_within_the_receptive_field_only(config, randomised, traces):
    network = randomised(config)
    radius, k = network.radius, 20
    coords, types, index = inputs_of(traces[0])
    other = types.clone()
    other[0, k] = (types[0, k] + 7) % 20
    sigma = torch.tensor([0.1])
    with torch.no_grad():
        change = network.embed(coords, types, index, sigma) - network.embed(coords, other, index, sigma)
    changed = change.abs().amax(dim=(0, 1)) > 1e-6
    near = (torch.arange(40) - k).abs() <= radius
    within = near[:, None] | near[None, :]
    assert not changed[~within].any()
    assert changed[within].float().mean() > 0.9
    assert changed[k - radius].any() and changed[k + radius].any()
    assert changed[:, k - radius].any() and changed[:, k + radius].any()


def test_rows_with_halo_equal_those_of_the_whole_map(config, randomised, traces):
    network = randomised(config)
    arguments = (*inputs_of(traces[0]), torch.tensor([0.1]))
    radius = network.radius
    with torch.no_grad():
        whole = network.embed(*arguments)
        strip = network.embed(*arguments, rows_R=torch.arange(15 - radius, 22 + radius))
    torch.testing.assert_close(strip[:, :, radius:-radius], whole[:, :, 15:22], rtol=0, atol=1e-5)


def test_presets_have_the_published_receptive_field_and_parameters():
    paper, base = ScoreNetwork(PAPER), ScoreNetwork(BASE_1)
    assert paper.radius == 145 and base.radius == 30
    assert 2 * (paper.radius + 1) + 1 == 293  # with the output layer: the paper's receptive field
    assert sum(p.numel() for p in paper.parameters()) == pytest.approx(0.43e6, rel=0.05)
    assert paper.stem.conv.weight.shape == (64, 149, 3, 3)


@pytest.mark.parametrize("config", [PAPER, BASE_1, authors_release(61)], ids=["paper", "base", "released"])
def test_configs_can_be_restored_from_plain_values(config):
    values = config.as_dict()
    assert NetworkConfig.from_dict(values) == config
    assert isinstance(values["dilations"], list)
    assert set(PRESETS) == {"paper", "base", "base-messages", "base-1"}


@given(log_sigma=st.floats(math.log(0.01), math.log(10)))
@settings(deadline=None)
def test_noise_conditioning_of_base_is_continuous(log_sigma):
    network = ScoreNetwork(NetworkConfig(**{**vars(BASE_1), "dilations": (1,)}))
    sigma = torch.tensor([math.exp(log_sigma), math.exp(log_sigma) * 1.001])
    here, there = network.condition(sigma)
    assert here.shape == (BASE_CONDITIONS,)
    assert here.sum().item() == pytest.approx(1, abs=1e-5) and (here > 0).all()
    assert (here - there).abs().max() < 1e-3


def test_noise_conditioning_of_paper_uses_the_nearest_level():
    network = ScoreNetwork(NetworkConfig(**{**vars(PAPER), "dilations": (1,)}))
    levels = network.levels_K
    torch.testing.assert_close(network.condition(levels), torch.eye(32))
    torch.testing.assert_close(network.condition(levels * 1.1), torch.eye(32))
    torch.testing.assert_close(network.condition(torch.tensor([1e-4, 1e4])).argmax(1), torch.tensor([31, 0]))


def test_a_batch_equals_single_chains(config, randomised, traces):
    network = randomised(config)
    a, b = inputs_of(traces[0]), inputs_of(traces[1])
    both = tuple(torch.cat(pair) for pair in zip(a, b, strict=True))
    sigma = torch.tensor([0.1, 5.0])
    with torch.no_grad():
        together = network(*both, sigma)
        alone = torch.cat([network(*a, sigma[:1]), network(*b, sigma[1:])])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("length", [1, 2, 3])
def test_the_shortest_chains_have_finite_maps_and_scores(config, randomised, length):
    network = randomised(config)
    coords = centred(torch.randn(1, length, 3))
    arguments = (coords, torch.zeros(1, length, dtype=torch.long), torch.arange(length)[None])
    with torch.no_grad():
        assert network.embed(*arguments, torch.tensor([0.01])).shape == (1, 8, length, length)
        assert network(*arguments, torch.tensor([0.01])).isfinite().all()
