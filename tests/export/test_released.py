import sys

import numpy as np
import pytest
import torch

from protemb_export import cli
from protemb_export.released import differences, load_released, read_published
from protemb_export.verify import torch_pair
from protemb_sdk._base.errors import ModelError, ProtembError
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._structure.reader import read_chain
from protemb_train.network.presets import PAPER, authors_release

THEIRS = {"gain": "embed_gamma.weight", "bias": "embed_beta.weight"}


def in_their_names(network):
    state = {}
    for name, value in network.state_dict().items():
        theirs = name.replace("blocks.", "blocks_hid.").replace("stem.conv.", "conv_in.")
        stem, _, last = theirs.rpartition(".")
        state[f"{stem}.{THEIRS[last]}" if "norm" in stem and last in THEIRS else theirs] = value
    return state


@pytest.fixture(scope="module")
def their_file(randomised, tmp_path_factory):
    network = randomised(authors_release(noise_levels=5))
    path = tmp_path_factory.mktemp("theirs") / "model.pth"
    torch.save(in_their_names(network), path)
    return network, path


def test_a_checkpoint_with_parameter_names_of_the_authors_is_read(their_file):
    network, path = their_file
    found = load_released(path)
    assert found.config.noise_levels == 5 and not found.training
    assert found.config.dilations == PAPER.dilations
    for name, value in network.state_dict().items():
        assert torch.equal(value, found.state_dict()[name]), name


def test_other_checkpoints_are_refused(their_file, tmp_path):
    network, path = their_file

    def saved(content):
        torch.save(content, tmp_path / "x.pth")
        return tmp_path / "x.pth"

    with pytest.raises(ModelError, match="no such checkpoint"):
        load_released(tmp_path / "missing.pth")
    with pytest.raises(ModelError, match="not a checkpoint of the paper's authors"):
        load_released(saved(network.state_dict() | {"stem.conv.weight": None}))
    with pytest.raises(ModelError, match="not a checkpoint of the paper's authors"):
        load_released(saved({"weight": torch.zeros(3)}))
    with pytest.raises(ModelError, match="holds a list"):
        load_released(saved([1, 2]))
    with pytest.raises(ModelError, match="holds a dict"):
        load_released(saved({1: 2}))
    state = in_their_names(network)
    with pytest.raises(ModelError, match="do not fit the paper network"):
        load_released(saved({k: v for k, v in state.items() if k != "conv_out.bias"}))
    with pytest.raises(ModelError, match="do not fit the paper network"):
        load_released(saved(state | {"conv_in.weight": torch.zeros(64, 3, 3, 3)}))
    with pytest.raises(ModelError, match="not finite"):
        load_released(saved(state | {"conv_out.bias": torch.full((1,), float("nan"))}))


def run_cli(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["protemb-export", *map(str, arguments)])
    with pytest.raises(SystemExit) as done:
        cli.main()
    return done.value.code, capsys.readouterr().err


def test_invalid_input_is_refused_with_one_line(their_file, structures, tmp_path, monkeypatch, capsys):
    _, path = their_file
    published, out = tmp_path / "published.npz", tmp_path / "x.onnx"
    np.savez(published, pair=np.zeros((64, 2, 2)))
    usual = ["--structure", structures / "1a8o.cif", "--embedding", published]
    for arguments, sentence in [
        (["released", tmp_path / "no.pth", *usual, "-o", out], "no such checkpoint"),
        (["released", path, *usual, "-o", tmp_path / "no" / "x.onnx"], "does not exist"),
        (["released", path, *usual, "-o", out, "--level", 5], "noise level 5 does not exist"),
        (["released", path, *usual, "-o", out, "--level", 0], "not a published embedding"),
        (["model", path, "-o", out, "--verify", published], "not a checkpoint of protemb-train"),
        (["model", path, "-o", out, "--verify", published, "--bundle", "mine"], "can be bundled"),
    ]:
        status, output = run_cli(monkeypatch, capsys, *arguments)
        assert status == 1 and output.startswith("error: ") and sentence in output, output
        assert output.count("\n") == 1 and "Traceback" not in output
        assert not out.exists()


def test_an_embedding_of_another_structure_is_refused(base_small, structures, tmp_path):
    found = base_small.embedder.embed(structures / "1a8o.cif", pair=True)
    other = {"pair": np.zeros((64, 2, 2)), "residue": np.zeros((64, 2)), "protein": np.zeros(64)}
    np.savez(tmp_path / "p.npz", **other)
    with pytest.raises(ProtembError, match="pass the structure that it was made from"):
        differences(found, read_published(tmp_path / "p.npz"), tmp_path / "p.npz")


@pytest.fixture(scope="module")
def release(shared_data):
    return shared_data / "golden" / "authors_release"


def test_the_published_embedding_is_reproduced_at_level_20(release, tmp_path, monkeypatch, capsys):
    arguments = ["--structure", release / "A0AEI5.pdb", "--embedding", release / "A0AEI5_embedding.npz"]
    out = tmp_path / "authors.onnx"
    status, output = run_cli(monkeypatch, capsys, "released", release / "model.pth", *arguments, "-o", out)
    assert status == 0, output
    found = Embedder(out, "cpu", threads=1).embed(release / "A0AEI5.pdb", pair=True)
    published = read_published(release / "A0AEI5_embedding.npz")
    assert max(differences(found, published, out).values()) < 1e-4


def test_the_published_embedding_is_not_reproduced_at_level_21(release):
    network = load_released(release / "model.pth")
    published = read_published(release / "A0AEI5_embedding.npz")
    here, there = (
        np.moveaxis(torch_pair(network, read_chain(release / "A0AEI5.pdb"), network.levels_K[k].item()), 2, 0)
        for k in (20, 21)
    )
    assert np.abs(here - published["pair"]).max() < 1e-4
    assert np.abs(there - published["pair"]).max() > 0.01
