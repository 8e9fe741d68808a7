"""Fixtures of the SDK tests: one embedder on the CPU, and synthetic chains."""

from __future__ import annotations

import csv
import gzip
import json
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from protemb_sdk import ALPHABET, Chain, Embedder, Embedding, read_chain
from protemb_sdk._base import download

from .local_server import Server


@pytest.fixture(scope="session")
def embedder() -> Embedder:
    return Embedder(device="cpu")


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster of two cores. Ray allows one at a time in a process."""
    ray = pytest.importorskip("ray", reason="needs Ray")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def chain_1a8o() -> Chain:
    return read_chain(Path(__file__).resolve().parent.parent / "structures" / "1a8o.cif")


def walk(length: int, seed: int = 0) -> tuple[np.ndarray, str]:
    """Return a random walk of 3.8 angstrom steps and a random sequence."""
    rng = np.random.default_rng(seed)
    steps = rng.normal(size=(length, 3)) + np.array([0.6, 0, 0])
    steps *= 3.8 / np.linalg.norm(steps, axis=1, keepdims=True)
    return steps.cumsum(axis=0), "".join(rng.choice(list(ALPHABET), size=length))


@pytest.fixture(scope="session")
def random_walk() -> Callable[..., tuple[np.ndarray, str]]:
    return walk


@pytest.fixture
def make_embedding() -> Callable[..., Embedding]:
    """Return a function that makes embeddings of random numbers, without a network."""

    def make(length: int = 5, name: str = "made", chain: str = "A", pair: bool = False) -> Embedding:
        rng = np.random.default_rng(length)
        coords, sequence = walk(length)
        structure = Chain(
            name=name,
            chain_id=chain,
            label_chain="Ä",
            ca_coords=coords,
            sequence=sequence,
            residue_index=np.arange(length) * 2,
            auth_seq=np.arange(length, dtype=np.int32) - 3,
            insertion_code=np.array(["", "A"] * length)[:length],
            label_seq=np.full(length, -1, dtype=np.int32),
            residue_name=np.array(["MSE", "LONGNAME"][: 1 + length % 2] * length)[:length],
            notes=("one", "two | três"),
            source=f"folder/{name}.cif",
        )
        return Embedding(
            chain=structure,
            protein=rng.normal(size=4).astype(np.float32),
            residue=rng.normal(size=(length, 4)).astype(np.float32),
            pair=np.moveaxis(rng.normal(size=(4, length, length)).astype(np.float32), 0, 2) if pair else None,
            provenance={"model": "none", "options": {"model": 1}},
        )

    return make


READOUTS_OF_HEAD = ["contact", "mean", "shell-6-10"]


def write_head(
    path: Path, embedder: Embedder, *, metadata: Any = None, scale: float = 1.0, **card: Any
) -> Path:
    """Write a head whose probability is scale * sigmoid(mean of the features of a residue).

    `card` replaces entries of the card, `metadata` replaces all metadata.
    """
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto
    nodes = [
        helper.make_node("ReduceMean", ["features"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("Sigmoid", ["mean"], ["unscaled"]),
        helper.make_node("Mul", ["unscaled", "scale"], ["probability"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny_head",
        [
            helper.make_tensor_value_info("features", kind.FLOAT, ["L", "K", "C"]),
            helper.make_tensor_value_info("residue_type", kind.INT64, ["L"]),
            helper.make_tensor_value_info("ca_coords", kind.FLOAT, ["L", 3]),
        ],
        [helper.make_tensor_value_info("probability", kind.FLOAT, ["L"])],
        [helper.make_tensor("scale", kind.FLOAT, [], [scale])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    whole = {
        "name": "tiny",
        "kind": "sites",
        "encoder": {
            "name": embedder.model.name,
            "weights_sha256": embedder.card["weights_sha256"],
            "sigma": embedder.noise_level,
        },
        "readouts": READOUTS_OF_HEAD,
        "threshold": 0.5,
        "quality": {"made up": {"auprc": 0.5}},
        "licence": "MIT",
        "golden": {"structure": "1a8o.cif", "probability": [0.5]},
    } | card
    if metadata is None:
        metadata = {"protemb.head": "1", "protemb.card": json.dumps(whole)}
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture(scope="session")
def make_head(embedder: Embedder) -> Callable[..., Path]:
    """Return a function that writes small heads for the bundled model."""
    return lambda path, **changes: write_head(path, embedder, **changes)


@pytest.fixture(scope="session")
def head(make_head: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_head(tmp_path_factory.mktemp("heads") / "tiny.onnx")


# Columns of a table of sites.
COLUMNS = [
    "source",
    "chain",
    "auth_seq",
    "insertion_code",
    "label_seq",
    "residue_name",
    "probability",
    "site",
]


def table_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


class Result:
    """Result of a command: exit status, standard output, standard error, and the error lines."""

    def __init__(self, status: object, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err
        self.errors = [line for line in err.splitlines() if line.startswith("error:")]


Run = Callable[..., Result]


@pytest.fixture(scope="session")
def chains(structures: Path) -> list[Chain]:
    return [read_chain(structures / name, chain) for name, chain in (("1orc.pdb", None), ("1a8o.cif", None))]


def turned(coords: np.ndarray, seed: int) -> np.ndarray:
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return coords @ (rotation * np.sign(np.linalg.det(rotation))) + 50


@pytest.fixture
def model(structures: Path, tmp_path: Path) -> Path:
    """Return a copy of a structure file that no command may overwrite."""
    return Path(shutil.copy(structures / "1a8o.pdb", tmp_path / "1a8o.pdb"))


@pytest.fixture
def protemb(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `protemb` in this process, as from the command line."""
    from protemb_sdk import cli

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["protemb", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        return Result(exit_.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """The folder of fetched structures, which is not there yet."""
    return tmp_path / "cache" / "structures"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server that stands for both databases, an empty cache, and short pauses."""
    running = Server()
    thread = threading.Thread(target=running.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("PROTEMB_RCSB_URL", running.url + "/")
    monkeypatch.setenv("PROTEMB_AFDB_URL", running.url)
    monkeypatch.setenv("PROTEMB_CACHE", str(cache.parent))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "BACKOFF", 0.001)
    yield running
    running.over.set()
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def zipped(structures: Path) -> bytes:
    """What the server may send for an entry."""
    return gzip.compress((structures / "1a8o.cif").read_bytes(), 1)
