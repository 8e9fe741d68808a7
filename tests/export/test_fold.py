import pytest
import torch

from protemb_export.fold import EmbeddingNetwork
from protemb_train.presets import BASE, PAPER, NetworkConfig


@pytest.mark.parametrize("config", [BASE, PAPER], ids=["base", "paper"])
@pytest.mark.parametrize("sigma", [0.01, 0.7])
def test_folding_changes_nothing(config, sigma, randomised):
    network = randomised(config)
    coords = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0)).cumsum(dim=1) * 2
    types, index = torch.randint(0, 21, (2, 20)), torch.arange(20).expand(2, -1).contiguous()
    with torch.no_grad():
        wanted = network.embed(coords, types, index, torch.full((2,), sigma))
        found = EmbeddingNetwork(network, sigma)(coords, types, index, torch.arange(20))
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_folding_leaves_the_network_trainable(randomised):
    for config in (BASE, PAPER):
        network = randomised(NetworkConfig(**{**vars(config), "dilations": (1,)})).train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        EmbeddingNetwork(network, 0.1)
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert network.training and all(module.training for module in network.modules())
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())
