import pytest
import torch

from protemb_export.fold import EmbeddingNetwork
from protemb_train.network.config import NetworkConfig
from protemb_train.network.presets import BASE_1, PAPER


@pytest.mark.parametrize("config", [BASE_1, PAPER], ids=["base", "paper"])
@pytest.mark.parametrize("sigma", [0.01, 0.7])
def test_folding_does_not_change_the_output(config, sigma, randomised):
    network = randomised(config)
    coords = torch.randn(2, 20, 3, generator=torch.Generator().manual_seed(0)).cumsum(dim=1) * 2
    types, index = torch.randint(0, 21, (2, 20)), torch.arange(20).expand(2, -1).contiguous()
    with torch.no_grad():
        wanted = network.embed(coords, types, index, torch.full((2,), sigma))
        found = EmbeddingNetwork(network, sigma)(coords, types, index, torch.arange(20))
    assert (found - wanted).abs().max() < 1e-5 * wanted.abs().max()


def test_folding_leaves_the_network_trainable(randomised):
    for config in (BASE_1, PAPER):
        network = randomised(NetworkConfig(**{**vars(config), "dilations": (1,)})).train()
        before = {name: value.clone() for name, value in network.state_dict().items()}
        EmbeddingNetwork(network, 0.1)
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert network.training and all(module.training for module in network.modules())
        assert all(torch.equal(before[name], value) for name, value in network.state_dict().items())


def test_half_precision_is_close_at_all_levels(randomised, tmp_path):
    import numpy as np
    import onnx

    from protemb_export.card import as_metadata, make_card
    from protemb_export.graph import embedding_graph
    from protemb_sdk import Embedder
    from protemb_sdk._model.models import EXAMPLE

    network = randomised(NetworkConfig(**{**vars(BASE_1), "dilations": (1, 2)}))
    found = {}
    for half in (False, True):
        card = as_metadata(make_card(network, "mine", 1.0, {}, "MIT", None))
        path = tmp_path / f"{half}.onnx"
        onnx.save(embedding_graph(network, 1.0, card, half=half), path)
        found[half] = Embedder(path, "cpu").embed(EXAMPLE, pair=True)
    assert (tmp_path / "True.onnx").stat().st_size < 0.9 * (tmp_path / "False.onnx").stat().st_size
    for level in ("protein", "residue", "pair"):
        exact, close = getattr(found[False], level), getattr(found[True], level)
        assert close.dtype == np.float32 and 0 < np.abs(exact - close).max() < 5e-3 * np.abs(exact).max()
