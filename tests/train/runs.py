"""Short runs of pre-training for tests, complete or interrupted."""

from dataclasses import replace

import pytest
import torch

from protemb_train.network.checkpoint import read_tensors
from protemb_train.network.presets import BASE_1_TRAINING, PAPER_TRAINING
from protemb_train.pretrain import pretrain
from protemb_train.pretrain.crops import CropBatches

TINY = {
    "base": replace(BASE_1_TRAINING, batch=4, crops=(16, 24), warmup_steps=2, ema=0.5, schedule="constant"),
    "paper": replace(PAPER_TRAINING, batch=4, crops=(16,)),
}


def run(corpus, config, out, steps, seed=0, **recipe):
    training = replace(TINY[config.family], **recipe)
    return pretrain.pretrain(corpus.path, config, training, out, steps=steps, seed=seed, progress=False)


def assert_same_weights(first, second):
    a, b = read_tensors(first), read_tensors(second)
    assert a["global_step"] == b["global_step"]
    for part in ("state_dict", "current_model_state"):
        assert (part in a) == (part in b)
        for name, tensor in a.get(part, {}).items():
            assert torch.equal(tensor, b[part][name]), f"{part} {name}"


def run_killed(corpus, config, out, at, steps):
    draw = CropBatches.batch

    def killed(self, step):
        if step == at and "train" in self.corpus.splits:
            raise KeyboardInterrupt
        return draw(self, step)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CropBatches, "batch", killed)
        with pytest.raises((KeyboardInterrupt, SystemExit)):
            run(corpus, config, out, steps=steps)
