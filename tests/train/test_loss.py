import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from protemb_train.network.loss import coordinate_gradient, distance_gradient, score_matching_loss
from protemb_train.network.noise import denoising_score, geometric_levels, perturb


def squared_distances(x):
    return (x[:, :, None] - x[:, None, :]).square().sum(dim=-1)


@given(length=st.integers(1, 12), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_equation_4_is_the_chain_rule(length, seed):
    """phi is a function of the squared distances, different for each ordered pair."""
    torch.manual_seed(seed)
    x = torch.randn(2, length, 3, dtype=torch.float64, requires_grad=True)
    a, b = torch.randn(2, 2, length, length, dtype=torch.float64)
    d2 = squared_distances(x)
    phi = (a * torch.sin(d2) + b * d2).sum()
    (wanted,) = torch.autograd.grad(phi, x)
    h = (a * torch.cos(d2) + b).detach()  # dphi / d(d_ij^2)
    torch.testing.assert_close(coordinate_gradient(h, x.detach()), wanted)


@given(length=st.integers(1, 40), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
def test_equation_4_has_zero_net_force_and_torque(length, seed):
    torch.manual_seed(seed)
    x = 10 * torch.randn(1, length, 3, dtype=torch.float64)
    g = coordinate_gradient(torch.randn(1, length, length, dtype=torch.float64), x)
    assert g.sum(dim=1).abs().max() < 1e-9
    assert torch.linalg.cross(x, g).sum(dim=1).abs().max() < 1e-8


def test_the_loss_of_the_zero_predictor_is_three_per_residue():
    levels = geometric_levels(32, 10.0, 0.01)
    x = torch.randn(32, 500, 3)
    target = denoising_score(x, perturb(x, levels, torch.Generator().manual_seed(1)), levels)
    loss = score_matching_loss(torch.zeros_like(target), target, levels)
    assert loss.shape == (32,)
    assert ((loss / 1500 - 1).abs() < 0.15).all()
    assert loss.mean().item() / 1500 == pytest.approx(1, abs=0.02)


def test_the_loss_equals_equation_5():
    g, t, s = torch.randn(2, 3, 3), torch.randn(2, 3, 3), torch.tensor([0.5, 2.0])
    wanted = torch.stack([s[b] ** 2 * torch.linalg.matrix_norm(g[b] - t[b]) ** 2 for b in range(2)])
    torch.testing.assert_close(score_matching_loss(g, t, s), wanted)


REACHES = pytest.mark.parametrize("reach", ["length", "distance"])


@REACHES
def test_equation_3_is_symmetric_and_finite_for_coincident_atoms(reach):
    f = torch.randn(2, 6, 6)
    d = squared_distances(torch.randn(2, 6, 3)).sqrt()
    d[:, 0, 1] = d[:, 1, 0] = 0
    h = distance_gradient(f, d, torch.tensor([0.01, 10.0]), reach)
    assert h.isfinite().all()
    torch.testing.assert_close(h, h.transpose(1, 2), rtol=0, atol=0)


@REACHES
def test_gradient_size_is_similar_at_every_level_and_length(traces, reach):
    """For output of unit size, sigma * |g_i| is of similar size everywhere, so that the loss is bounded."""
    whole = torch.from_numpy(next(t.ca_coords for t in traces if len(t.ca_coords) >= 128))
    sizes = []
    for sigma in (0.01, 0.1, 1.0, 10.0):
        for length in (16, 32, 64, 128):
            level = torch.tensor([sigma])
            generator = torch.Generator().manual_seed(length)
            x = perturb(whole[None, :length], level, generator)
            f = torch.randn(1, length, length, generator=generator)
            g = coordinate_gradient(distance_gradient(f, squared_distances(x).sqrt(), level, reach), x)
            sizes.append(sigma * g.square().sum(dim=-1).mean().sqrt().item())
    assert max(sizes) / min(sizes) < (1.5 if reach == "length" else 3.5), sizes
    assert min(sizes) > 0.4 and max(sizes) < 2.5


def test_with_reach_distance_a_bond_does_not_depend_on_chain_length():
    """A convolution does not depend on chain length, so its output for a bond has the same effect."""
    x = 3.8 * torch.eye(3)[torch.arange(40) % 3].cumsum(dim=0)[None]
    bond = torch.zeros(1, 40, 40)
    bond[0, 3, 4] = bond[0, 4, 3] = 1.0
    level = torch.tensor([0.1])

    def pull(length, reach):
        part = x[:, :length]
        h = distance_gradient(bond[:, :length, :length], squared_distances(part).sqrt(), level, reach)
        return coordinate_gradient(h, part)[0, 4]

    torch.testing.assert_close(pull(10, "distance"), pull(40, "distance"))
    torch.testing.assert_close(pull(10, "length"), 2 * pull(40, "length"))
