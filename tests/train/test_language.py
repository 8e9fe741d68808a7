"""The small language model: batches, masking and a few training steps."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

from protemb_sdk._base.errors import OutputError
from protemb_train import cli
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.downstream.common.sequence import SequenceEncoder
from protemb_train.experiments.language import train_language
from protemb_train.experiments.masking import MASK, RESIDUES, VOCABULARY, LanguageConfig, MaskedBatches, X
from protemb_train.pretrain.objective import TrainingError

from .conftest import SEQUENCE, CorpusMaker, direct

pytestmark = pytest.mark.usefixtures("offline")
TINY = LanguageConfig(layers=1, channels=32, heads=2, crop=48, batch=8, learning_rate=1e-2, warmup_steps=5)


@pytest.fixture
def repetitive(make_corpus: CorpusMaker) -> Corpus:
    """Forty clusters of chains that repeat three letters, so that the context predicts each residue."""
    rng = np.random.default_rng(0)
    chains = ["".join(rng.choice(list("ACDEFGHIKLMNPQRSTVWY"), 3)) * 20 for _ in range(40)]
    return make_corpus([(sequence, np.zeros((60, 3)), i) for i, sequence in enumerate(chains)])


def test_batches_depend_only_on_seed_and_step(repetitive):
    def stream(seed=0):
        return MaskedBatches(repetitive, TINY, seed)

    for step, batch in zip((0, 1, 2), stream(), strict=False):
        for name, tensor in stream().batch(step).items():
            assert torch.equal(tensor, batch[name])
    assert not torch.equal(stream().batch(0)["input_ids"], stream(1).batch(0)["input_ids"])


def test_masking_follows_esm(make_corpus):
    letters = "ACDEFGHIKLMNPQRSTVWY" * 10
    corpus = make_corpus(
        [(letters + "X" * 40 + "A" * (i % 2), np.zeros((240 + i % 2, 3)), i) for i in range(40)]
    )
    stream = MaskedBatches(corpus, LanguageConfig(batch=40), seed=0)
    masked = kept = chosen = known = 0
    for step in range(5):
        batch = {name: tensor.numpy() for name, tensor in stream.batch(step).items()}
        ids, labels = batch["input_ids"], batch["labels"]
        assert ids.shape == (40, 243)
        lengths = batch["attention_mask"].sum(axis=1)
        assert set(lengths) == {242, 243}
        assert (ids[:, 0] == 0).all() and (ids[np.arange(40), lengths - 1] == 2).all()
        named = labels >= 0
        assert np.isin(labels[named], RESIDUES).all()  # not X, start or end tokens
        chosen, known = chosen + named.sum(), known + np.isin(ids, RESIDUES).sum() + (ids == MASK).sum()
        masked, kept = masked + (ids[named] == MASK).sum(), kept + (ids[named] == labels[named]).sum()
        assert (ids[~named] != MASK).all() and (ids == X).sum() == 1600
    assert chosen / known == pytest.approx(0.15, abs=0.003)
    assert masked / chosen == pytest.approx(0.8, abs=0.02)
    assert kept / chosen == pytest.approx(0.1 + 0.1 / 20, abs=0.02)


def test_sampling_is_by_cluster(make_corpus):
    """A cluster of 100 chains is sampled as often as a cluster of one chain."""
    rows = [("A" * 30, np.zeros((30, 3)), 0)] * 100 + [("C" * 30, np.zeros((30, 3)), 1)]
    stream = MaskedBatches(make_corpus(rows), LanguageConfig(batch=2), seed=0)
    for step in range(5):
        ids = stream.batch(step)["labels"]
        assert {int(row[row >= 0][0]) for row in ids} == {VOCABULARY.index("A"), VOCABULARY.index("C")}


def test_training_is_reproducible_reduces_perplexity_and_is_recorded(repetitive, tmp_path):
    def run(name, steps=60, seed=0):
        path = tmp_path / name
        return train_language(repetitive.path, path, steps=steps, seed=seed, config=TINY, progress=False)

    record = run("a")
    assert record["validation_perplexity"] < run("start", steps=1)["validation_perplexity"] - 2
    assert run("b")["sha256"] == record["sha256"] != run("other", seed=1)["sha256"]

    folder = tmp_path / "a"
    assert json.loads((folder / "protemb.json").read_text()) == record
    training = Corpus(repetitive.path, ["train"])
    assert record["what"] == (
        f"a small masked language model trained on {len(training)} sequences of corpus SHA-256 "
        f"{training.sha256}, 60 steps: not ESM-2, not TAPE"
    )
    assert record["seed"] == 0 and record["recipe"]["crop"] == 48 and record["origin"]["version"]
    assert 15 < record["unigram_perplexity"] < 25
    assert record["validation_residues"] == 48 * len(Corpus(repetitive.path, ["val"]))

    encoder = SequenceEncoder(folder)
    assert (encoder.window, encoder.channels, encoder.sha256) == (48, 32, record["sha256"])
    assert encoder.embed(SEQUENCE * 5).shape == (110, 32)
    np.testing.assert_allclose(encoder.embed(SEQUENCE), direct(folder, SEQUENCE), atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "start", "other", "corpus.arrow"}


def test_a_corpus_without_validation_is_refused(make_corpus, tmp_path, monkeypatch):
    monkeypatch.delattr(MaskedBatches, "batch")  # before the first step
    corpus = make_corpus([("ACDEF" * 8, np.zeros((40, 3)), 0)])
    with pytest.raises(CorpusError, match="no chain of val to evaluate on"):
        train_language(corpus.path, tmp_path / "out", steps=1, config=TINY, progress=False)


def test_an_invalid_output_folder_is_refused_before_training(repetitive, tmp_path, monkeypatch):
    monkeypatch.delattr(MaskedBatches, "batch")
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputError, match="out: exists already"):
        train_language(repetitive.path, tmp_path / "out", steps=1, config=TINY)
    with pytest.raises(OutputError, match="does not exist"):
        train_language(repetitive.path, tmp_path / "no" / "out", steps=1, config=TINY)


def test_a_failed_run_leaves_no_files(repetitive, tmp_path, monkeypatch):
    draw = MaskedBatches.batch

    def broken(self, step):
        batch = draw(self, step)
        return batch if step < 1 else batch | {"labels": torch.full_like(batch["labels"], -100)}

    monkeypatch.setattr(MaskedBatches, "batch", broken)
    with pytest.raises(TrainingError, match="step 1: the loss is nan"):
        train_language(repetitive.path, tmp_path / "run", steps=2, config=TINY, progress=False)
    monkeypatch.setattr(MaskedBatches, "batch", draw)
    monkeypatch.setattr(
        "json.dumps", lambda *arguments, **options: 1 / 0
    )  # fails when half of the output is written
    with pytest.raises(ZeroDivisionError):
        train_language(repetitive.path, tmp_path / "run", steps=1, config=TINY, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.arrow"]


def test_training_from_the_command_line(repetitive, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("protemb_train.experiments.language.LanguageConfig", lambda: TINY)
    out = tmp_path / "language"

    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["protemb-train", "language", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            cli.main()
        return done.value.code, capsys.readouterr().err

    asked = ("--corpus", repetitive.path, "-o", out, "--steps", 2, "--threads", 1, "--no-progress")
    status, output = command(*asked)
    assert status == 0 and "validation perplexity" in output and "with frequencies alone" in output
    assert SequenceEncoder(out).channels == 32
    status, output = command(*asked)
    assert status == 1 and "exists already; use another folder" in output
