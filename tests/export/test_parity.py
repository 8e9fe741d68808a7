"""Comparison of PyTorch and ONNX Runtime on 50 real chains of 30 to 1,000 residues. Takes minutes."""

import numpy as np
import pytest

from protemb_export.pack import pack
from protemb_export.released import load_released
from protemb_export.verify import TOLERANCE, spread_over_lengths
from protemb_train.corpus.corpus import Corpus, write_corpus
from protemb_train.corpus.sources import read_collection
from protemb_train.network.presets import BASE_1

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def real_chains(shared_data, tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "native.arrow"
    write_corpus(read_collection(shared_data / "native" / "corpus.npz"), path, seed=0)
    chains = spread_over_lengths(Corpus(path), 50)
    lengths = [len(chain) for chain in chains]
    assert len(chains) == 50 and lengths[0] == 30 and lengths[-1] > 950
    assert (np.diff(np.log(lengths)) < 0.2).all()
    return chains


@pytest.mark.parametrize("family", ["base", "paper"])
def test_50_real_chains(family, real_chains, shared_data, randomised, tmp_path, capsys):
    if family == "paper":
        network = load_released(shared_data / "golden" / "authors_release" / "model.pth")
    else:
        network = randomised(BASE_1)
    parity = pack(
        network,
        tmp_path / "x.onnx",
        name=family,
        sigma=0.01,
        record={},
        licence="",
        chains=real_chains,
        score=False,
    )
    with capsys.disabled():
        print(f"\n{family}: {parity.as_dict()}")
    assert parity.chains == 50 and parity.worst < TOLERANCE
