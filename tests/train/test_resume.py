"""Runs that are resumed: after a kill, in another folder, with more steps; and runs that are refused."""

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


def test_a_resumed_run_equals_an_uninterrupted_run_exactly(config, real_corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(pretrain, "CHECKPOINT_EVERY", 3)
    unbroken = run(real_corpus, config, tmp_path / "a", steps=6)

    run_killed(real_corpus, config, tmp_path / "b", at=5, steps=6)
    assert pretrain.steps_done(tmp_path / "b") in (3, 4, 5)
    (tmp_path / "b" / ".last.ckpt.x1").mkdir()  # as after a kill while a checkpoint is written
    (tmp_path / "b" / ".last.ckpt.x1" / "part").write_bytes(b"half")
    (tmp_path / "b" / ".last.ckpt.swp").write_text("an editor's")
    (tmp_path / "b" / ".my.ckpt.kept").mkdir()
    torch.manual_seed(99)
    assert_same_weights(unbroken, run(real_corpus, config, tmp_path / "b", steps=6))
    assert {path.name for path in (tmp_path / "b").glob(".*")} == {".last.ckpt.swp", ".my.ckpt.kept"}


def test_the_last_checkpoint_is_kept_when_the_disk_is_full(config, real_corpus, tmp_path, monkeypatch):
    """Checkpoints are not moved from another file system, where a failed copy would damage the last one."""
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


def test_a_validation_is_repeated_after_a_kill(config, real_corpus, tmp_path, monkeypatch):
    """A checkpoint of the same step would be from before the validation and lack the best loss."""
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
    """Make the validation loss lowest at step 2 and higher at later steps."""
    monkeypatch.setattr(pretrain, "VALIDATE_EVERY", 2)
    monkeypatch.setattr(
        Pretraining,
        "validation_step",
        lambda self, batch, at: self.log("val_share", 0.1 * self.global_step, batch_size=1),
    )


@pytest.mark.parametrize("move", [shutil.move, shutil.copytree], ids=["moved", "copied"])
def test_a_run_in_another_folder_keeps_its_best_checkpoint(real_corpus, tmp_path, monkeypatch, move):
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


def test_a_missing_best_checkpoint_is_written_again(real_corpus, tmp_path, monkeypatch):
    validated(monkeypatch)
    config = tiny_config("base")
    run(real_corpus, config, tmp_path, steps=4)
    (tmp_path / "best.ckpt").unlink()
    run(real_corpus, config, tmp_path, steps=8)
    assert read_tensors(tmp_path / "best.ckpt")["global_step"] == 6


def test_the_best_checkpoint_of_older_runs_is_recognised():
    best, _ = pretrain._callbacks(Path("run"), PAPER_TRAINING)
    assert best.state_key == ModelCheckpoint(Path("run"), filename="best", monitor="val_share").state_key


def test_a_cosine_schedule_of_another_length_is_refused(config, real_corpus, tmp_path):
    run(real_corpus, config, tmp_path, steps=2, schedule="cosine")
    with pytest.raises(pretrain.TrainingError, match="another number of steps"):
        run(real_corpus, config, tmp_path, steps=4, schedule="cosine")
    with pytest.raises(pretrain.TrainingError, match="another recipe"):
        run(real_corpus, config, tmp_path, steps=2, schedule="cosine", learning_rate=0.5)


def test_a_finished_run_can_be_continued(config, real_corpus, tmp_path):
    """Training continues from the weights, not from their average. A constant schedule has no end."""
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


def test_metrics_of_the_first_part_are_kept(config, real_corpus, tmp_path):
    run(real_corpus, config, tmp_path, steps=10)
    first = (tmp_path / "metrics.csv").read_text()
    assert "share" in first
    run(real_corpus, config, tmp_path, steps=20)
    assert (tmp_path / "metrics-before-step-10.csv").read_text() == first
    with (tmp_path / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {int(row["step"]) for row in rows} == {19}
    assert [bool(row["val_share"]) for row in rows] == [False, True]


def test_metrics_of_a_part_without_a_checkpoint_replace_no_earlier_file(config, real_corpus, tmp_path):
    run(real_corpus, config, tmp_path, steps=10)
    first = (tmp_path / "metrics.csv").read_text()
    run_killed(real_corpus, config, tmp_path, at=25, steps=30)
    assert pretrain.steps_done(tmp_path) == 10
    run(real_corpus, config, tmp_path, steps=30)
    assert (tmp_path / "metrics-before-step-10.csv").read_text() == first
    assert [point["step"] for point in read_curve(tmp_path)] == [10, 20, 30]


def test_a_file_with_weights_only_cannot_be_resumed(config, real_corpus, tmp_path):
    last = run(real_corpus, config, tmp_path, steps=2)
    save_network(*load_network(last), last)
    with pytest.raises(
        pretrain.TrainingError, match=r"last\.ckpt: contains weights without the state of a run"
    ):
        run(real_corpus, config, tmp_path, steps=4)


def test_a_run_with_other_settings_is_not_resumed(real_corpus, config, tmp_path):
    run(real_corpus, config, tmp_path, steps=1)
    with pytest.raises(pretrain.TrainingError, match="another seed"):
        run(real_corpus, config, tmp_path, steps=2, seed=1)
    with pytest.raises(pretrain.TrainingError, match="another network"):
        run(real_corpus, replace(config, channels=16), tmp_path, steps=2)


def test_a_run_is_resumed_only_with_the_same_number_of_processes(real_corpus, config, tmp_path):
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
    del loaded["hyper_parameters"]["record"]["machine"]  # as in older runs
    torch.save(loaded, last)
    assert read_tensors(go_on(3))["global_step"] == 3
