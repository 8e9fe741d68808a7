"""The scripts that wrote `train/results`: they start and run with few steps and a small network."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import typer

from protemb_train.corpus.corpus import Corpus
from protemb_train.network import network, presets
from protemb_train.network.checkpoint import load_network
from protemb_train.network.features import BaseFeatures

RESULTS = Path(presets.__file__).parents[2] / "results"
SCRIPTS = sorted(RESULTS.glob("*.py"))
TINY = {"channels": 8, "bottleneck": 4, "dilations": (1,), "noise_levels": 8}


def loaded(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return a script as a module, with tiny presets."""
    spec = importlib.util.spec_from_file_location(name, RESULTS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)  # required by dataclasses
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_starts(script: Path) -> None:
    help_ = subprocess.run([sys.executable, script, "--help"], capture_output=True, text=True, check=True)
    assert "--out" in help_.stdout and not help_.stderr


def test_throughput(real_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shape = replace(presets.BASE_1, **TINY), replace(presets.BASE_1_TRAINING, batch=2, crops=(16,))
    monkeypatch.setitem(presets.PRESETS, "base", shape)
    script = loaded("throughput", monkeypatch)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    script.main(real_corpus.path, tmp_path / "throughput.md", steps=8, rounds=1)
    text = (tmp_path / "throughput.md").read_text()
    assert text.startswith("Preset base, 2 chains and 512 residue pairs per step, 1 thread(s), 1 x 8 steps")
    assert "| plain loop |" in text and "| protemb-train |" in text and text.count("| 1.00 |") >= 1


def test_trials(real_corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = loaded("trials", monkeypatch)
    monkeypatch.setattr(network, "BaseFeatures", network.BaseFeatures)  # restored after a trial replaces it
    monkeypatch.setattr(script, "BASE_1", replace(presets.BASE_1, **TINY))
    monkeypatch.setattr(script, "BASE_1_TRAINING", replace(presets.BASE_1_TRAINING, batch=2, crops=(16,)))
    tried = [t for t in script.TRIALS["ablation"] if t.what == "base" or t.features is not BaseFeatures]
    monkeypatch.setitem(script.TRIALS, "ablation", tried)
    script.main(real_corpus.path, tmp_path / "runs", tmp_path, steps=2, sets="ablation")
    rows = (tmp_path / "ablation.md").read_text().splitlines()
    assert rows[2] == "| change | share |" and len(rows) == 4 + len(tried) > 7
    assert all(0.5 < float(row.split("|")[2]) < 2 for row in rows[4:])
    with pytest.raises(typer.BadParameter, match="there is no set 'paper2'; available are ablation"):
        script.main(real_corpus.path, tmp_path / "runs", tmp_path, sets="paper2")


def test_spread(written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script, out = loaded("sites_spread", monkeypatch), tmp_path / "spread.md"
    arguments = ["sites_spread.py", str(written()), "--encoder", "base", "--epochs", "1", "-o", str(out)]
    monkeypatch.setattr(sys, "argv", arguments)
    script.main()
    assert "| base |" in out.read_text(encoding="utf-8")
    # Points on a line have one dimension; white noise has as many as there are channels.
    rng = np.random.default_rng(0)
    line = rng.normal(size=(500, 1)) * np.ones(8)
    assert script.dimensions(line.astype(np.float32)) == pytest.approx(1, abs=1e-3)
    assert script.dimensions(rng.normal(size=(20000, 8)).astype(np.float32)) == pytest.approx(8, abs=0.1)


def test_every_trial_changes_existing_fields() -> None:
    """A renamed field would otherwise cause an error after hours of training."""
    with pytest.MonkeyPatch.context() as patch:
        trials = loaded("trials", patch).TRIALS
    for trial in (trial for group in trials.values() for trial in group):
        replace(presets.BASE_1, **trial.network)
        replace(presets.BASE_1_TRAINING, **trial.training)
    names = [trial.what for group in trials.values() for trial in group]
    assert len(names) == len({"".join(c if c.isalnum() else "-" for c in name) for name in names})


def test_the_untrained_network_has_the_shape_of_the_trained_one(tmp_path: Path) -> None:
    out = tmp_path / "untrained.ckpt"
    command = [sys.executable, "-m", "protemb_train.cli", "untrained", "-o", str(out)]
    subprocess.run([*command, "--config", RESULTS / "small.toml"], check=True, capture_output=True)
    twin, record = load_network(out)
    small, _ = load_network(RESULTS / "small.ckpt")
    assert twin.config == small.config and record["steps"] == 0
    assert twin.config.channels == 16
    wrong = subprocess.run([*command, "--preset", "huge"], capture_output=True, text=True)
    assert wrong.returncode == 1 and "there is no preset 'huge'" in wrong.stderr
