"""Networks with random weights, real chains, and small data sets made of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from protemb_sdk._structure.chain import ALPHABET
from protemb_sdk._structure.reader import read_chains
from protemb_train.corpus.corpus import Corpus, Trace, write_corpus
from protemb_train.downstream.common.sequence import hugging_face
from protemb_train.downstream.sites.data import SiteChain, read_sites
from protemb_train.network.config import NetworkConfig
from protemb_train.network.network import ScoreNetwork
from protemb_train.pretrain.auxiliary import Damaged


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def traces(structures: Path) -> list[Trace]:
    """Real chains of 64 to 344 residues."""
    chains = [
        chain
        for name in ("1a8o.cif", "1orc.pdb", "3wup.json.gz", "4zhl.cif.gz")
        for chain in read_chains(structures / name).chains
    ]
    return [
        Trace(
            c.id,
            (c.ca_coords - c.ca_coords.mean(axis=0)).astype(np.float32),
            c.residue_type,
            c.residue_index,
        )
        for c in chains
    ]


def tiny_config(family: str, dilations: tuple[int, ...] = (1, 2)) -> NetworkConfig:
    return NetworkConfig(
        family=family,  # type: ignore[arg-type]
        channels=8,
        bottleneck=4,
        dilations=dilations,
        noise_levels=8,
    )


@pytest.fixture(params=["paper", "base"])
def config(request: pytest.FixtureRequest) -> NetworkConfig:
    return tiny_config(request.param)


@pytest.fixture(scope="session")
def randomised(fill_at_random: Callable[..., ScoreNetwork]) -> Callable[..., ScoreNetwork]:
    """Make a network with random weights and random normalisation statistics."""
    return lambda config: fill_at_random(config, lambda name: 0.2)


CorpusMaker = Callable[[list[tuple[str, np.ndarray, int]]], Corpus]


@pytest.fixture
def make_corpus(tmp_path: Path) -> CorpusMaker:
    """Write a corpus from (sequence, coordinates, cluster) and open it with all splits."""

    def make(chains: list[tuple[str, np.ndarray, int]]) -> Corpus:
        rows = [
            {
                "id": f"chain{i}",
                "sequence": sequence,
                "ca": coords.astype(np.float32).ravel(),
                "residue_index": np.arange(len(sequence), dtype=np.int32),
                "cluster": cluster,
            }
            for i, (sequence, coords, cluster) in enumerate(chains)
        ]
        write_corpus(pa.Table.from_pylist(rows), tmp_path / "corpus.arrow", seed=0)
        return Corpus(tmp_path / "corpus.arrow")

    return make


@pytest.fixture
def real_corpus(make_corpus: CorpusMaker, traces: list[Trace]) -> Corpus:
    letters = "ACDEFGHIKLMNPQRSTVWYX"
    return make_corpus(
        [("".join(letters[t] for t in x.residue_type), x.ca_coords, i) for i, x in enumerate(traces)]
    )


@pytest.fixture
def collection(tmp_path: Path, traces: list[Trace]) -> Path:
    """A collection in the documented layout: flat arrays, steps in 0.001 angstrom, two sources."""
    steps = []
    for trace in traces:
        milli = np.rint(trace.ca_coords.astype(np.float64) * 1000).astype(np.int64)
        steps.append(np.diff(milli - milli[0], axis=0, prepend=np.zeros((1, 3), dtype=np.int64)))
    sequence = "".join("".join(ALPHABET[t] for t in trace.residue_type) for trace in traces)
    path = tmp_path / "collection.npz"
    np.savez(
        path,
        ids=np.array([trace.id for trace in traces]),
        offsets=np.cumsum([0, *(len(trace.residue_type) for trace in traces)]),
        seq=np.frombuffer(sequence.encode(), dtype=np.uint8),
        dxyz_milliA=np.concatenate(steps).astype(np.int32),
        resnum=np.concatenate([trace.residue_index + 5 for trace in traces]).astype(np.int32),
        cluster30=np.arange(len(traces)) % 3,
        source=np.array([0] * (len(traces) - 1) + [1], dtype=np.uint8),
        source_names=np.array(["pdb", "demos"]),
    )
    return path


# --- labelled chains ---------------------------------------------------------------------------------------


def arrays_of(traces: list[Trace], copies: int = 3) -> dict[str, Any]:
    """Return real chains in DeepPPISP's layout; the 20% of residues farthest from the centre are sites."""
    rng = np.random.default_rng(0)
    found: dict[str, list[Any]] = {name: [] for name in ("seq", "label", "pssm", "ca", "dssp")}
    ids, split = [], []
    for copy in range(copies):
        for n, trace in enumerate(traces):
            length = len(trace.residue_type)
            types = rng.permutation(trace.residue_type) if copy else trace.residue_type
            found["seq"].append(np.frombuffer("".join(ALPHABET[t] for t in types).encode(), dtype=np.uint8))
            far = np.linalg.norm(trace.ca_coords - trace.ca_coords.mean(axis=0), axis=1)
            found["label"].append((far > np.quantile(far, 0.8)).astype(np.uint8))
            found["pssm"].append(rng.integers(-12, 14, (length, 20)).astype(np.int8))
            found["ca"].append(np.rint(trace.ca_coords * 100).astype(np.int16))
            found["dssp"].append(rng.integers(0, 9, length).astype(np.uint8))
            ids.append(f"{copy}abc_{n}")
            split.append("test" if copy == 0 else "train")
    offset = np.cumsum([0, *(len(s) for s in found["seq"])])
    flat = {name: np.concatenate(parts) for name, parts in found.items()}
    return flat | {
        "offset": offset,
        "dssp_offset": offset.copy(),
        "id": np.array(ids),
        "split": np.array(split),
    }


@pytest.fixture
def labelled(traces: list[Trace]) -> dict[str, Any]:
    """Arrays of labelled chains, which a test may modify."""
    return arrays_of(traces)


Written = Callable[..., Path]


@pytest.fixture
def written(tmp_path: Path, traces: list[Trace]) -> Written:
    """Write the labelled chains, with some arrays replaced."""

    def write(**changed: Any) -> Path:
        path = tmp_path / "deepppisp.npz"
        np.savez(path, **arrays_of(traces) | changed)
        return path

    return write


@pytest.fixture
def split(written: Written) -> tuple[list[SiteChain], list[SiteChain]]:
    """Training and test chains of the labelled chains."""
    sites = read_sites(written())
    return sites.of("train"), sites.of("test")


# --- language models --------------------------------------------------------------------------------------

SEQUENCE = "MKTAYIAKQRQISFVKSHFSRQ"


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Raise an error at any attempt to use the internet."""

    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr("socket.getaddrinfo", refuse)


def direct(folder: Path, sequence: str) -> np.ndarray:
    """Return the output of transformers, with token numbers looked up in the vocabulary file."""
    vocabulary = (folder / "vocab.txt").read_text().split()
    first, last = ("<cls>", "<eos>") if "<cls>" in vocabulary else ("[CLS]", "[SEP]")
    ids = torch.tensor([[vocabulary.index(token) for token in (first, *sequence, last)]])
    with hugging_face() as hf, torch.no_grad():
        model = hf.AutoModel.from_pretrained(folder).eval()
        return model(ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0, 1:-1].numpy()


@pytest.fixture
def damaged(traces: list[Trace]) -> list[Damaged]:
    """A native with lDDT 1, and a model with one half moved and one residue of unknown lDDT."""
    trace = traces[0]
    length = len(trace.residue_type)
    moved = trace.ca_coords.copy()
    moved[length // 2 :] += 4.0
    lddt = np.linspace(0.3, 1.0, length).astype(np.float32)
    lddt[3] = np.nan
    return [
        Damaged(trace.ca_coords, trace.residue_type, np.ones(length, dtype=np.float32)),
        Damaged(moved, trace.residue_type, lddt),
    ]
