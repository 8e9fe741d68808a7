"""Runs that go on: after kills, in other folders, with more steps, and those that must not."""

import csv
import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from protemb_sdk._base.errors import OutputError
from protemb_train.network.checkpoint import load_network, read_tensors, save_network
from protemb_train.network.presets import PAPER_TRAINING
from protemb_train.pretrain import pretrain
from protemb_train.pretrain.levels import read_curve
from protemb_train.pretrain.objective import Pretraining

from .conftest import tiny_config
from .runs import TINY, assert_same_weights, run, run_killed


def test_an_interrupted_run_continues_to_the_bit(config, real_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 3)
    unbroken = run(real_corpus, config, tmp_path / "a", steps=6)

    run_killed(real_corpus, config, tmp_path / "b", at=5, steps=6)
    assert pretrain.steps_done(tmp_path / "b") in (3, 4, 5)
    (tmp_path / "b" / ".last.ckpt.x1").mkdir()  # as a kill in the middle of a checkpoint leaves it
    (tmp_path / "b" / ".last.ckpt.x1" / "part").write_bytes(b"half")
    (tmp_path / "b" / ".last.ckpt.swp").write_text("an editor's")
    (tmp_path / "b" / ".my.ckpt.kept").mkdir()
    torch.manual_seed(99)
    assert_same_weights(unbroken, run(real_corpus, config, tmp_path / "b", steps=6))
    assert {path.name for path in (tmp_path / "b").glob(".*")} == {".last.ckpt.swp", ".my.ckpt.kept"}


def test_a_disk_that_fills_up_leaves_the_last_checkpoint(config, real_corpus, tmp_path, monkeypatch):
    """And none comes by way of another file system, from where it would be copied over the last one."""
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(shutil, "move", lambda source, target: Path(target).write_bytes(b"half"))
    unbroken = run(real_corpus, config, tmp_path / "a", steps=6)
    synced, sync = [], os.fsync

    def full(file):
        synced.append(file)
        if len(synced) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        sync(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OutputError, match=r"last\.ckpt: cannot be written \(No space left"):
            run(real_corpus, config, tmp_path / "b", steps=6)
    assert pretrain.steps_done(tmp_path / "b") == 2
    assert not list((tmp_path / "b").glob(".last*"))
    assert_same_weights(unbroken, run(real_corpus, config, tmp_path / "b", steps=6))


def test_a_kill_after_a_validation_repeats_it(config, real_corpus, tmp_path, monkeypatch):
    """A checkpoint of the step that validates would be from before the validation, and forget the best."""
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 2)
    monkeypatch.setattr(pretrain, "VALIDATE_EVERY", 4)
    run(real_corpus, config, tmp_path / "a", steps=8)

    run_killed(real_corpus, config, tmp_path / "b", at=5, steps=8)
    assert pretrain.steps_done(tmp_path / "b") == 2
    run(real_corpus, config, tmp_path / "b", steps=8)
    assert_same_weights(tmp_path / "a" / "best.ckpt", tmp_path / "b" / "best.ckpt")

    def validations(folder):
        with (folder / "metrics.csv").open() as file:
            return [(row["step"], row["val_share"]) for row in csv.DictReader(file) if row["val_share"]]

    assert len(validations(tmp_path / "a")) == 2
    assert validations(tmp_path / "a") == validations(tmp_path / "b")


def validated(monkeypatch):
    """Let validation find the least loss at step 2, and more and more later."""
    monkeypatch.setattr(pretrain, "VALIDATE_EVERY", 2)
    monkeypatch.setattr(
        Pretraining,
        "validation_step",
        lambda self, batch, at: self.log("val_share", 0.1 * self.global_step, batch_size=1),
    )


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_a_run_in_another_folder_knows_its_best(real_corpus, tmp_path, monkeypatch, move):
    validated(monkeypatch)
    config = tiny_config("base")
    run(real_corpus, config, tmp_path / "a", steps=4)
    move(tmp_path / "a", tmp_path / "b")
    run(real_corpus, config, tmp_path / "b", steps=6)
    assert read_tensors(tmp_path / "b" / "best.ckpt")["global_step"] == 2
    run(real_corpus, config, tmp_path / "b", steps=8)
    assert read_tensors(tmp_path / "b" / "best.ckpt")["global_step"] == 2
    if move is shutil.copytree:
        assert pretrain.steps_done(tmp_path / "a") == 4


def test_a_best_checkpoint_that_is_gone_is_made_again(real_corpus, tmp_path, monkeypatch):
    validated(monkeypatch)
    config = tiny_config("base")
    run(real_corpus, config, tmp_path, steps=4)
    (tmp_path / "best.ckpt").unlink()
    run(real_corpus, config, tmp_path, steps=8)
    assert read_tensors(tmp_path / "best.ckpt")["global_step"] == 6


def test_older_runs_know_their_best():
    best, _ = pretrain._callbacks(Path("run"), PAPER_TRAINING)
    assert best.state_key == ModelCheckpoint(Path("run"), filename="best", monitor="val_share").state_key


def test_another_length_of_a_cosine_is_refused(config, real_corpus, tmp_path):
    run(real_corpus, config, tmp_path, steps=2, schedule="cosine")
    with pytest.raises(pretrain.TrainingError, match="another number of steps"):
        run(real_corpus, config, tmp_path, steps=4, schedule="cosine")
    with pytest.raises(pretrain.TrainingError, match="another recipe"):
        run(real_corpus, config, tmp_path, steps=2, schedule="cosine", learning_rate=0.5)


def test_a_finished_run_can_be_lengthened(config, real_corpus, tmp_path):
    """The average must not have taken the place of the weights; a constant schedule knows no end."""
    unbroken = run(real_corpus, config, tmp_path / "a", steps=6, schedule="constant")
    run(real_corpus, config, tmp_path / "b", steps=3, schedule="constant")
    continued = run(real_corpus, config, tmp_path / "b", steps=6, schedule="constant")
    assert_same_weights(unbroken, continued)
    loaded = read_tensors(continued)
    if config.family == "base":
        average, weights = loaded["state_dict"], loaded["current_model_state"]
        assert any(not torch.equal(average[name], weights[name]) for name in average)
    before = continued.read_bytes()
    assert run(real_corpus, config, tmp_path / "b", steps=6, schedule="constant") == continued
    assert continued.read_bytes() == before


def test_the_table_of_the_first_part_is_kept(config, real_corpus, tmp_path):
    run(real_corpus, config, tmp_path, steps=10)
    first = (tmp_path / "metrics.csv").read_text()
    assert "share" in first
    run(real_corpus, config, tmp_path, steps=20)
    assert (tmp_path / "metrics-before-step-10.csv").read_text() == first
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows} == {19}
    assert [bool(row["val_share"]) for row in rows] == [False, True]


def test_the_table_of_a_part_without_a_checkpoint_takes_no_earlier_ones_place(config, real_corpus, tmp_path):
    run(real_corpus, config, tmp_path, steps=10)
    first = (tmp_path / "metrics.csv").read_text()
    run_killed(real_corpus, config, tmp_path, at=25, steps=30)
    assert pretrain.steps_done(tmp_path) == 10
    run(real_corpus, config, tmp_path, steps=30)
    assert (tmp_path / "metrics-before-step-10.csv").read_text() == first
    assert [point["step"] for point in read_curve(tmp_path)] == [10, 20, 30]


def test_weights_alone_are_not_continued(config, real_corpus, tmp_path):
    last = run(real_corpus, config, tmp_path, steps=2)
    save_network(*load_network(last), last)
    with pytest.raises(
        pretrain.TrainingError, match=r"last\.ckpt: contains weights without the state of a run"
    ):
        run(real_corpus, config, tmp_path, steps=4)


def test_another_run_is_not_continued(real_corpus, config, tmp_path):
    run(real_corpus, config, tmp_path, steps=1)
    with pytest.raises(pretrain.TrainingError, match="another seed"):
        run(real_corpus, config, tmp_path, steps=2, seed=1)
    with pytest.raises(pretrain.TrainingError, match="another network"):
        run(real_corpus, replace(config, channels=16), tmp_path, steps=2)


def test_a_run_goes_on_with_as_many_processes(real_corpus, config, tmp_path):
    def go_on(steps, **machine):
        machine = pretrain.Machine(**machine)
        return pretrain.pretrain(
            real_corpus.path,
            config,
            TINY[config.family],
            tmp_path,
            steps=steps,
            machine=machine,
            progress=False,
        )

    last = go_on(1)
    for machine in ({"devices": 2}, {"nodes": 3}):
        with pytest.raises(pretrain.TrainingError, match=r"another number of processes \(devices by nodes\)"):
            go_on(2, **machine)
    go_on(2, workers=1)
    loaded = read_tensors(last)
    del loaded["hyper_parameters"]["record"]["machine"]  # as older runs
    torch.save(loaded, last)
    assert read_tensors(go_on(3))["global_step"] == 3
