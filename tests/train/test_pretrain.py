import json
import os
import socket
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.extra.numpy import arrays
from hypothesis.strategies import floats

from protemb_sdk._base.errors import ModelError, OutputError
from protemb_train import cli
from protemb_train.corpus.corpus import Corpus, CorpusError, write_corpus
from protemb_train.network.checkpoint import load_network, read_tensors, round_weights, save_network
from protemb_train.network.config import NetworkConfig
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import read_config
from protemb_train.pretrain import pretrain
from protemb_train.pretrain.crops import CropBatches
from protemb_train.pretrain.judge import judge

from .conftest import tiny_config
from .runs import TINY, run


def test_averaging_does_not_change_constant_buffers(real_corpus, tmp_path):
    """With averaging, a separation of 3 would become 2.9999998, or 2 if it is an integer."""
    averages = []
    setup = pretrain.Averaging.setup

    class Seen(pretrain.Averaging):
        def setup(self, *arguments, **options):
            setup(self, *arguments, **options)
            averages.append(self._average_model)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretrain, "Averaging", Seen)
        run(real_corpus, tiny_config("base"), tmp_path, steps=6, ema=0.9)
    features = averages[0].module.network.stem.features
    fresh = ScoreNetwork(tiny_config("base")).stem.features
    for name, constant in fresh.named_buffers():
        assert torch.equal(getattr(features, name), constant), name


def test_the_average_quickly_forgets_the_initial_weights():
    average = pretrain.Averaging(0.999)._kwargs["avg_fn"]
    value = torch.ones(())
    for n in range(200):
        value = average(value, torch.zeros(()), torch.tensor(n))
    assert value < 1e-6
    assert average(torch.ones(()), torch.zeros(()), 10**6).item() == pytest.approx(0.999)


def test_the_loss_decreases_on_one_chain(make_corpus, traces):
    from protemb_train.network.loss import score_matching_loss
    from protemb_train.network.noise import denoising_score

    corpus = make_corpus([("A" * 64, traces[0].ca_coords[:64], 0)])
    torch.manual_seed(0)
    network = ScoreNetwork(
        NetworkConfig(family="base", channels=16, bottleneck=8, dilations=(1, 2), noise_levels=8)
    )
    stream = CropBatches(corpus, network.config, replace(TINY["base"], batch=16, crops=(32,)), seed=0)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    losses = []
    for step in range(60):
        batch = stream.batch(step)
        target = denoising_score(batch["coords"], batch["noisy"], batch["sigma"])
        gradient = network(batch["noisy"], batch["types"], batch["index"], batch["sigma"])
        loss = score_matching_loss(gradient, target, batch["sigma"]).mean() / 96
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[0] == pytest.approx(1, abs=0.1)
    assert np.mean(losses[-10:]) < 0.8


def test_a_loss_that_is_not_finite_stops_the_run(config, real_corpus, tmp_path, monkeypatch):
    draw = CropBatches.batch

    def broken(self, step):
        batch = draw(self, step)
        if step == 2:
            batch["noisy"][0] = float("nan")
        return batch

    monkeypatch.setattr(CropBatches, "batch", broken)
    with pytest.raises(pretrain.TrainingError, match=r"step 2: the loss is nan \(noise levels \d"):
        run(real_corpus, config, tmp_path, steps=4)
    assert not (tmp_path / "last.ckpt").exists()


def test_a_checkpoint_can_be_read_without_pickle(config, real_corpus, tmp_path):
    last = run(real_corpus, config, tmp_path, steps=3)
    network, record = load_network(last)
    assert network.config == config and not network.training
    assert record["steps"] == 3 and record["seed"] == 0
    state = read_tensors(last)["state_dict"]  # the averaged weights, if there are any
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, state["network." + name])


def test_a_file_with_weights_only_gives_the_same_network(config, real_corpus, tmp_path):
    last = run(real_corpus, config, tmp_path, steps=2)
    network, record = load_network(last)
    save_network(network, record, tmp_path / "weights.ckpt")
    again, saved = load_network(tmp_path / "weights.ckpt")
    assert saved == record
    assert all(torch.equal(v, again.state_dict()[n]) for n, v in network.state_dict().items())
    assert (tmp_path / "weights.ckpt").stat().st_size < last.stat().st_size / 2


@given(arrays(np.float32, (7, 3), elements=floats(-100, 100, width=32)))
def test_weights_are_rounded_to_float16(values):
    layer = torch.nn.Linear(3, 7)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(values))
    round_weights(layer)
    rounded = layer.weight.detach().numpy()
    np.testing.assert_allclose(rounded, values, rtol=2**-11, atol=2**-25)
    assert rounded.dtype == np.float32 and (rounded == rounded.astype(np.float16)).all()


def test_a_run_without_validation_chains_logs_a_warning(make_corpus, traces, tmp_path, caplog):
    three = [("A" * 64, traces[0].ca_coords[:64], cluster) for cluster in range(3)]
    run(make_corpus(three), tiny_config("base"), tmp_path / "run", steps=1)
    (output,) = [record.getMessage() for record in caplog.records if record.name == "protemb"]
    assert (
        "corpus.arrow: split val has no chain of 50 to 160 residues, so there will be no best.ckpt" in output
    )
    assert "build the corpus from more structures" in output
    caplog.clear()
    many = [("A" * 64, traces[0].ca_coords[:64], cluster) for cluster in range(5)]
    run(make_corpus(many), tiny_config("base"), tmp_path / "more", steps=1)
    assert (tmp_path / "more" / "best.ckpt").exists() and not caplog.records


def test_invalid_folders_corpora_and_checkpoints_are_refused(real_corpus, config, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="the folder cannot be created"):
        run(real_corpus, config, tmp_path / "file" / "run", steps=1)
    with pytest.raises(CorpusError, match="crop of 5000 residues"):
        run(real_corpus, config, tmp_path / "run", steps=1, crops=(5000,))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "last.ckpt").write_text("hello")
    with pytest.raises(ModelError, match="not a readable checkpoint"):
        run(real_corpus, config, tmp_path / "broken", steps=1)


@pytest.mark.parametrize(
    "content", [None, b"", b"hello world", b"\x80\x02}q\x00.", b"PK\x03\x04", b"\x00" * 64]
)
def test_files_that_are_not_checkpoints_are_refused(tmp_path, content):
    path = tmp_path / "x.ckpt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=r"x\.ckpt"):
        load_network(path)


def test_damaged_checkpoints_are_refused(config, real_corpus, tmp_path):
    last = run(real_corpus, config, tmp_path, steps=1)
    good = read_tensors(last)
    name = next(iter(good["state_dict"]))

    def damaged(change):
        loaded = read_tensors(last)
        change(loaded)
        torch.save(loaded, tmp_path / "bad.ckpt")
        return tmp_path / "bad.ckpt"

    def poison(loaded):
        loaded["state_dict"][name][0] = float("nan")

    def other_family(loaded):
        loaded["hyper_parameters"]["network"]["family"] = "base" if config.family == "paper" else "paper"

    with pytest.raises(ModelError, match="not finite"):
        load_network(damaged(poison))
    with pytest.raises(ModelError, match="do not fit"):
        load_network(damaged(other_family))
    for missing in ("hyper_parameters", "state_dict", "global_step"):
        with pytest.raises(ModelError, match="not a checkpoint of protemb-train"):
            load_network(damaged(lambda loaded, missing=missing: loaded.pop(missing)))


def test_the_zero_predictor_has_a_share_of_one_at_every_level(config, traces):
    verdict = judge(ScoreNetwork(config), traces[:2])
    np.testing.assert_allclose(verdict.share, 1, atol=1e-6)
    lengths = [len(t.residue_type) for t in traces[:2]]
    assert verdict.floor == pytest.approx(np.mean([6 / (3 * n) for n in lengths]))
    assert verdict.chains == 2 and verdict.as_dict()["mean_share"] == 1
    assert len(verdict.as_dict()["levels"]) == config.noise_levels
    with pytest.raises(CorpusError, match="no chain to evaluate on"):
        judge(ScoreNetwork(config), [])


def test_gradients_of_equation_4_cannot_be_below_the_floor():
    """Forces along pair directions span all but 6 of the 3L dimensions of the target."""
    torch.manual_seed(0)
    length = 12
    x = 5 * torch.randn(length, 3, dtype=torch.float64)
    pairs = [(i, j) for i in range(length) for j in range(i)]
    basis = torch.zeros(len(pairs), length, 3, dtype=torch.float64)
    for k, (i, j) in enumerate(pairs):
        basis[k, i], basis[k, j] = x[i] - x[j], x[j] - x[i]
    assert torch.linalg.matrix_rank(basis.reshape(len(pairs), -1)) == 3 * length - 6


NODES = """
preset = "base-1"
[network]
channels = 8
bottleneck = 4
dilations = [1]
noise_levels = 4
[training]
batch = 4
crops = [16]
warmup_steps = 2
schedule = "constant"
ema = "none"
mask_types = 0.0
swap_types = 0.0
"""


def test_two_nodes_equal_one_node_with_both_batches(real_corpus, tmp_path, monkeypatch):
    config = tmp_path / "nodes.toml"
    config.write_text(NODES)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--config {config} --nodes 2 --threads 1 --no-progress -o {tmp_path / 'two'}".split()
    command = [sys.executable, "-m", "protemb_train.cli", "pretrain", "--corpus", str(real_corpus.path)]
    for steps in (3, 5):  # a new run, and the same run resumed
        nodes = [
            subprocess.Popen(
                [*command, *options, "--steps", str(steps)],
                env=os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": rank},
            )
            for rank in "01"
        ]
        assert [node.wait(120) for node in nodes] == [0, 0]

    def both(self, step):
        ranks = [CropBatches(self.corpus, network, self.config, self.seed, rank=rank) for rank in (0, 1)]
        batches = [draw(rank, step) for rank in ranks]
        return {name: torch.cat([batch[name] for batch in batches]) for name in batches[0]}

    _, network, training = read_config(config)
    draw = CropBatches.batch
    monkeypatch.setattr(CropBatches, "batch", both)
    one = pretrain.pretrain(real_corpus.path, network, training, tmp_path / "one", steps=5, progress=False)
    here, there = read_tensors(one), read_tensors(tmp_path / "two" / "last.ckpt")
    assert here["global_step"] == there["global_step"] == 5
    for name, tensor in here["state_dict"].items():
        torch.testing.assert_close(there["state_dict"][name], tensor, rtol=0, atol=2e-5)
    assert len(list((tmp_path / "two").glob("metrics*.csv"))) == 2


def test_training_and_evaluation_from_the_command_line(real_corpus, tmp_path, monkeypatch, capsys):
    from protemb_train.network import presets

    network = NetworkConfig(family="base", channels=8, bottleneck=4, dilations=(1,), noise_levels=4)
    monkeypatch.setitem(presets.PRESETS, "base", (network, TINY["base"]))
    corpus, out = str(real_corpus.path), tmp_path / "run"

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["protemb-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code, capsys.readouterr().err

    threads = torch.get_num_threads()
    status, output = command("pretrain", "--corpus", corpus, "-o", out, "--steps", 2, "--no-progress")
    assert status == 0 and "steps 0 to 2" in output and "Tip" not in output and "litlogger" not in output
    _, record = load_network(out / "last.ckpt")
    assert record["record"]["corpus_sha256"] == real_corpus.sha256
    assert record["record"]["origin"]["version"]
    status, output = command("pretrain", "--corpus", corpus, "-o", out, "--seed", -1)
    assert status == 2 and "--seed" in output
    status, output = command("pretrain", "--corpus", corpus, "-o", out, "--preset", "huge")
    assert status == 1 and "there is no preset 'huge'; available are paper, base" in output
    status, output = command("judge", tmp_path / "no.ckpt", "--corpus", corpus, "-o", tmp_path / "j.json")
    assert status == 1 and "no such checkpoint" in output and not (tmp_path / "j.json").exists()
    judged = ("judge", out / "last.ckpt", "--split", "val", "-o", tmp_path / "j.json", "--corpus")
    status, output = command(*judged, corpus)
    assert status == 0 and "warning" not in output
    saved = json.loads((tmp_path / "j.json").read_text())
    assert (saved["split"], saved["corpus_sha256"]) == ("val", real_corpus.sha256)
    write_corpus(Corpus(corpus).table, tmp_path / "other.arrow", seed=1)
    status, output = command(*judged, tmp_path / "other.arrow")
    assert (
        status == 0 and "was not trained on this corpus" in output and "may be in the training set" in output
    )
    assert torch.get_num_threads() == threads
