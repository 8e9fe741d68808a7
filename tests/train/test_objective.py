from dataclasses import replace

import pytest
import torch
from torch import nn

from protemb_sdk._base.errors import ProtembError
from protemb_train.network.checkpoint import read_tensors
from protemb_train.network.features import UNKNOWN
from protemb_train.network.presets import BASE_1_TRAINING, PRESETS, read_config
from protemb_train.pretrain.crops import CropBatches, WholeChains
from protemb_train.pretrain.objective import Pretraining, type_loss
from protemb_train.pretrain.pretrain import Machine, pretrain
from protemb_train.pretrain.recalibrate import recalibrate

SMALL = replace(BASE_1_TRAINING, batch=4, crops=(24,), mask_types=0.3, type_loss=0.5, ema=None)


@pytest.fixture
def module(config, real_corpus):
    return Pretraining(real_corpus, real_corpus, config, SMALL, steps=10, seed=0, record={})


def test_type_loss_of_uniform_predictions_is_one():
    true = torch.tensor([[3, 7, UNKNOWN, 5]])
    asked = torch.tensor([[True, True, False, False]])
    logits = torch.zeros(1, 4, 20)
    assert type_loss(logits, asked, true).item() == pytest.approx(1)
    sure = logits.clone()
    sure[0, 0, 3] = sure[0, 1, 7] = 50.0
    assert type_loss(sure, asked, true).item() == pytest.approx(0, abs=1e-6)
    sure[0, 2:] = 1000 * torch.randn(2, 20)  # an unknown residue, and one that is not to be predicted
    assert type_loss(sure, asked, true).item() == pytest.approx(0, abs=1e-6)
    assert type_loss(logits, torch.zeros_like(asked), true).item() == 0


def test_type_loss_trains_the_network_and_its_head_is_not_saved(module, real_corpus, config):
    batch = CropBatches(real_corpus, config, SMALL, seed=0).batch(0)
    assert ((batch["types"] == UNKNOWN) & (batch["true_types"] != UNKNOWN)).any()
    gradient, logits = module(batch)[:2]
    assert gradient.shape == batch["coords"].shape and logits.shape == (4, 24, 20)
    type_loss(logits, batch["asked"], batch["true_types"]).backward()
    stem = module.network.stem.conv.weight.grad
    assert stem is not None and stem.abs().sum() > 0
    assert not any("type_head" in name for name in module.network.state_dict())


def test_without_a_type_loss_there_is_no_type_head(real_corpus, config):
    recipe = replace(SMALL, type_loss=0.0)
    module = Pretraining(real_corpus, real_corpus, config, recipe, steps=10, seed=0, record={})
    assert module.type_head is None
    assert module(CropBatches(real_corpus, config, recipe, seed=0).batch(0)).types is None


def test_only_the_blocks_run_in_bfloat16(config, real_corpus):
    module = Pretraining(real_corpus, real_corpus, config, SMALL, steps=10, seed=0, record={})
    batch = CropBatches(real_corpus, config, SMALL, seed=0).batch(0)
    nn.init.normal_(module.network.conv_out.weight)
    seen = {}
    module.network.stem.register_forward_hook(lambda *a: seen.update(stem=a[2].dtype))
    conv = module.network.blocks[0].conv2
    conv.register_forward_hook(lambda *a: seen.update(conv=a[2].dtype))
    exact = module(batch).gradient
    assert seen == {"stem": torch.float32, "conv": torch.float32}
    module.network.autocast_blocks = True
    close = module(batch).gradient
    assert seen == {"stem": torch.float32, "conv": torch.bfloat16} and close.dtype == torch.float32
    difference = (close - exact).norm() / exact.norm()
    assert 0 < difference < 0.1


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")  # raised within torch.compile
def test_compiled_training_gives_the_same_weights(config, real_corpus, tmp_path):
    recipe = replace(SMALL, mask_types=0.0, type_loss=0.0)
    plain, compiled = (
        pretrain(real_corpus.path, config, recipe, tmp_path / name, steps=3, machine=machine, progress=False)
        for name, machine in (("plain", None), ("compiled", Machine(compile=True)))
    )
    a, b = read_tensors(plain)["state_dict"], read_tensors(compiled)["state_dict"]
    assert a.keys() == b.keys()
    for name, tensor in a.items():
        torch.testing.assert_close(b[name], tensor, rtol=1e-2, atol=1e-4)


def test_the_best_checkpoint_has_the_lowest_validation_loss(config, real_corpus, tmp_path, monkeypatch):
    from protemb_train.pretrain import pretrain as rooms

    monkeypatch.setattr(rooms, "VALIDATE_EVERY", 2)
    shares = iter([0.9, 0.5, 0.7])

    def validate(self, batch, batch_idx):
        if batch_idx == 0:
            self.log("val_share", next(shares), batch_size=1)

    monkeypatch.setattr(Pretraining, "validation_step", validate)
    pretrain(real_corpus.path, config, SMALL, tmp_path, steps=6, progress=False)
    assert read_tensors(tmp_path / "best.ckpt")["global_step"] == 4
    assert read_tensors(tmp_path / "last.ckpt")["global_step"] == 6


def test_recalibrated_statistics_equal_those_of_whole_chains(real_corpus, tmp_path, randomised):
    from .conftest import tiny_config

    network = randomised(tiny_config("paper"))
    chains = WholeChains(real_corpus, network.config, 4, (30, 400))
    first = network.blocks[0].norm1.norm
    seen = []
    hook = network.stem.register_forward_hook(lambda *a: seen.append(a[2]))
    recalibrate(network, chains)
    hook.remove()
    assert not network.training and len(seen) == len(chains) > 1
    mean = torch.stack([x.mean(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    variance = torch.stack([x.var(dim=(0, 2, 3)) for x in seen]).mean(dim=0)
    torch.testing.assert_close(first.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(first.running_var, variance, rtol=1e-4, atol=1e-5)
    with pytest.raises(ProtembError, match="no batch normalisation"):
        recalibrate(randomised(tiny_config("base")), chains)


def test_a_configuration_file_changes_a_preset(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text(
        'preset = "base-1"\n[network]\nbottleneck = 32\n[training]\nema = "none"\ncrops = [32, 64]\n'
    )
    name, network, training = read_config(path)
    base, recipe = PRESETS["base-1"]
    assert name == "base-1+"
    assert network == replace(base, bottleneck=32)
    assert training == replace(recipe, ema=None, crops=(32, 64))
    path.write_text('preset = "paper"\n')
    assert read_config(path) == ("paper", *PRESETS["paper"])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('preset = "huge"', "there is no preset 'huge'"),
        ("[network]\nwidth = 3", "unknown field 'width'; available are bottleneck"),
        ("steps = 3", "unknown entry 'steps'; use preset"),
        ("preset = ", "cannot be read as a configuration"),
    ],
)
def test_invalid_configurations_are_refused(tmp_path, content, expected):
    path = tmp_path / "x.toml"
    path.write_text(content)
    with pytest.raises(ProtembError, match=r"x\.toml") as caught:
        read_config(path)
    assert expected in str(caught.value)
    with pytest.raises(ProtembError, match=r"no\.toml"):
        read_config(tmp_path / "no.toml")
