"""Networks with random weights, exported once per session because an export takes 10 to 30 s."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from protemb_export.pack import pack
from protemb_export.verify import Parity
from protemb_sdk._embed.embedder import Embedder
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.reader import read_chains
from protemb_train.corpus.corpus import write_corpus
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.presets import BASE_1, PAPER

RECORD = {"steps": 7, "record": {"preset": "test", "corpus_sha256": "0" * 64}}
SIGMA = {"base": 0.03, "paper": 0.01}
Run = Callable[..., tuple[int, str, str]]


def written(path: Path, header: str, rows: list[tuple[object, ...]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header.split(), *rows])
    return path


def corpus_of(chains: Sequence[Chain], path: Path) -> Path:
    """Write a corpus in which every chain is a cluster."""
    rows = [
        {
            "id": chain.id,
            "sequence": chain.sequence,
            "ca": chain.ca_coords.astype(np.float32).ravel(),
            "residue_index": chain.residue_index.astype(np.int32),
            "cluster": cluster,
        }
        for cluster, chain in enumerate(chains)
    ]
    write_corpus(pa.Table.from_pylist(rows), path, seed=0)
    return path


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    def run(module: object, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            module.main()  # type: ignore[attr-defined]
        return int(done.value.code or 0), *capsys.readouterr()

    return run


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Exported:
    network: ScoreNetwork
    sigma: float
    path: Path
    embedder: Embedder
    parity: Parity


@pytest.fixture(scope="session")
def chains(structures: Path) -> list[Chain]:
    """Real chains, and the first 1, 2 and 3 residues of one."""
    whole = [
        chain
        for name in ("1a8o.cif", "1orc.pdb", "3wup.json.gz", "2beg.pdb.gz")
        for chain in read_chains(structures / name).chains[:1]
    ]
    first = whole[0]
    short = [
        replace(
            first,
            name=f"{first.name}-{n}",
            ca_coords=first.ca_coords[:n],
            sequence=first.sequence[:n],
            **{
                field: getattr(first, field)[:n]
                for field in ("residue_index", "auth_seq", "insertion_code", "label_seq", "residue_name")
            },
        )
        for n in (1, 2, 3)
    ]
    return [*short, *whole]


@pytest.fixture(scope="session")
def randomised(fill_at_random: Callable[..., ScoreNetwork]) -> Callable[..., ScoreNetwork]:
    """Make a network with random gains, biases, normalisation statistics and output layer."""

    def size(name: str) -> float:
        return 0.1 if name.endswith((".gain", ".bias")) or name.startswith("conv_out") else 0.02

    return lambda config: fill_at_random(config, size)


def _export(network: ScoreNetwork, out: Path, chains: list[Chain], score: bool) -> Exported:
    sigma = SIGMA[network.config.family]
    parity = pack(
        network, out, name=out.stem, sigma=sigma, record=RECORD, licence="MIT", chains=chains, score=score
    )
    return Exported(network, sigma, out, Embedder(out, "cpu", threads=1), parity)


CONFIGS = {"base": BASE_1, "paper": PAPER}
THREE_BLOCKS = (1, 2, 3)  # a receptive field shorter than the chains


def _preset_of(family: str) -> object:
    @pytest.fixture(scope="session", name=f"{family}_preset")
    def fixture(randomised, chains, tmp_path_factory) -> Exported:
        out = tmp_path_factory.mktemp("preset") / f"{family}.onnx"
        return _export(randomised(CONFIGS[family]), out, chains, score=False)

    return fixture


def _small_of(family: str) -> object:
    @pytest.fixture(scope="session", name=f"{family}_small")
    def fixture(randomised, chains, tmp_path_factory) -> Exported:
        out = tmp_path_factory.mktemp("small") / f"{family}.onnx"
        return _export(randomised(replace(CONFIGS[family], dilations=THREE_BLOCKS)), out, chains, score=True)

    return fixture


base_preset, paper_preset = _preset_of("base"), _preset_of("paper")
base_small, paper_small = _small_of("base"), _small_of("paper")


@pytest.fixture(params=["base", "paper"])
def preset(request) -> Exported:
    """The embedding graph of each preset."""
    return request.getfixturevalue(f"{request.param}_preset")


@pytest.fixture(params=["base", "paper"])
def small(request) -> Exported:
    """Both graphs of each family with three blocks."""
    return request.getfixturevalue(f"{request.param}_small")


@pytest.fixture(params=["base_preset", "paper_preset", "base_small", "paper_small"])
def exported(request) -> Exported:
    """All exported models."""
    return request.getfixturevalue(request.param)
