import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from protemb_train.network.noise import denoising_score, geometric_levels, perturb, stratified_levels
from protemb_train.network.presets import BASE_1, PAPER


@pytest.mark.parametrize("config", [PAPER, BASE_1], ids=["paper", "base"])
def test_noise_levels_are_geometric_as_in_the_paper(config):
    levels = geometric_levels(config.noise_levels, config.sigma_max, config.sigma_min)
    assert levels.shape == (32,) and levels.dtype == torch.float32
    assert levels[0].item() == pytest.approx(10.0) and levels[-1].item() == pytest.approx(0.01)
    ratio = levels[1:] / levels[:-1]
    assert (ratio < 1).all()
    torch.testing.assert_close(ratio, torch.full_like(ratio, 1e-3 ** (1 / 31)))


@given(seed=st.integers(0, 10_000))
def test_a_batch_with_one_sample_per_level_contains_each_level_once(seed):
    levels = geometric_levels(32, 10.0, 0.01)
    drawn = stratified_levels(32, levels, torch.Generator().manual_seed(seed))
    torch.testing.assert_close(drawn.sort(descending=True).values, levels, rtol=0, atol=0)


@given(seed=st.integers(0, 10_000), batch=st.integers(1, 100))
def test_every_batch_covers_the_range_of_levels(seed, batch):
    levels = torch.arange(32.0)
    drawn = stratified_levels(batch, levels, torch.Generator().manual_seed(seed)).sort().values
    gaps = drawn.diff()
    assert gaps.numel() == 0 or gaps.max() <= math.ceil(32 / batch)
    assert drawn[0] <= 32 / batch and drawn[-1] >= 31 - 32 / batch


def test_noise_is_gaussian_with_the_given_standard_deviation():
    coords = torch.randn(3, 4000, 3)
    sigma = torch.tensor([10.0, 1.0, 0.1])
    z = (perturb(coords, sigma, torch.Generator().manual_seed(0)) - coords) / sigma[:, None, None]
    assert z.mean(dim=(1, 2)).abs().max() < 0.03
    assert (z.std(dim=(1, 2)) - 1).abs().max() < 0.03
    assert (z**4).mean().item() == pytest.approx(3.0, abs=0.2)
    covariance = torch.cov(z.reshape(-1, 3).T)
    torch.testing.assert_close(covariance, torch.eye(3), rtol=0, atol=0.05)


@given(seed=st.integers(0, 1000), sigma=st.floats(0.01, 10))
def test_score_of_equation_2_is_the_gradient_of_the_gaussian_log_density(seed, sigma):
    generator = torch.Generator().manual_seed(seed)
    coords = torch.randn(1, 5, 3, generator=generator, dtype=torch.float64)
    level = torch.tensor([sigma], dtype=torch.float64)
    noisy = perturb(coords, level, generator).requires_grad_()
    log_p = torch.distributions.Normal(coords, level).log_prob(noisy).sum()
    (gradient,) = torch.autograd.grad(log_p, noisy)
    torch.testing.assert_close(denoising_score(coords, noisy.detach(), level), gradient)
