"""Encoders of a probe: trained and untrained networks, ONNX models, and descriptors without a network.

Residue types are masked (shown as X), so that every row of a probe's table depends on coordinates and residue
indices only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from protemb_sdk import ALPHABET, Embedder, ModelError, ProtembError, mean_over_columns
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.encoders.network import NetworkVectors
from protemb_train.encoders.vectors import RIVALS, VectorEncoder, find_vector_encoder, side_by_side
from protemb_train.network.checkpoint import load_network
from protemb_train.network.config import NetworkConfig
from protemb_train.network.features import UNKNOWN, BaseFeatures
from protemb_train.network.network import ScoreNetwork
from protemb_train.pretrain.crops import WholeChains
from protemb_train.pretrain.recalibrate import recalibrate
from protemb_train.probe.labels import NEIGHBOUR_RADIUS

READOUTS = ("mean", "neighbours", "both")

PairMap = Callable[[Trace], NDArray[np.float32]]


@dataclass(frozen=True)
class Encoder:
    """One row of a probe's table.

    Parameters
    ----------
    name : str
        Name in the table.
    pair : callable or None
        Returns the pair map of a chain, float32, shape (C, L, L).
    sigma : float or None
        Noise level in angstrom; None if not applicable.
    twin : str or None
        Name of the untrained network for comparison.
    record : dict
        Plain values: file, steps, corpus.
    residue : callable, optional
        Returns residue vectors instead of a map, float32, shape (L, C).
    vectors : str
        Name of these vectors, used in place of the readout.
    """

    name: str
    pair: PairMap | None
    sigma: float | None = None
    twin: str | None = None
    record: dict[str, Any] = field(default_factory=dict)
    residue: Callable[[Trace], NDArray[np.float32]] | None = None
    vectors: str = ""

    def features(self, trace: Trace) -> NDArray[np.float32]:
        """Return the features of a chain: both readouts of the map, (L, 2 C), or the vectors, (L, C)."""
        if self.residue is not None:
            return self.residue(trace)
        assert self.pair is not None  # one of the two is given
        return readouts(self.pair(trace), trace.ca_coords)

    def columns(self, width: int) -> dict[str, slice]:
        """Return the columns of `features` for each readout, by its name."""
        if self.residue is not None:
            return {self.vectors: slice(0, width)}
        return {readout: readout_columns(readout, width // 2) for readout in READOUTS}


def readouts(pair_CLL: NDArray[np.float32], ca_coords: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return the row mean over all columns and that over neighbours, concatenated, shape (L, 2 C).

    The first half is the paper's 1D average pooling. Neighbours are C-alphas within 10 angstrom, including
    the residue itself. All rows of the table use this function.
    """
    near_LL = (cdist(ca_coords, ca_coords) < NEIGHBOUR_RADIUS).astype(np.float32)
    near_LL /= near_LL.sum(axis=1, keepdims=True)
    near_CL = np.einsum("cij,ij->ci", pair_CLL, near_LL)
    return np.concatenate([mean_over_columns(pair_CLL, threads=1), near_CL.T], axis=1)


def readout_columns(readout: str, channels: int) -> slice:
    """Return the columns of `readouts` for a readout."""
    return {
        "mean": slice(0, channels),
        "neighbours": slice(channels, 2 * channels),
        "both": slice(0, 2 * channels),
    }[readout]


def untrained(config: NetworkConfig, seed: int, training: Corpus | None = None) -> ScoreNetwork:
    """Return the initial network of a pre-training run with this configuration and seed, in eval mode.

    Batch statistics (`paper`) are calculated on chains of `training`, if given: the initial ones (mean 0,
    variance 1) would be an unfair control.
    """
    torch.manual_seed(seed)
    network = ScoreNetwork(config).eval()
    if config.family == "paper" and training is not None:
        recalibrate(network, WholeChains(training, config))
    return network


def _inputs(trace: Trace, sigma: float) -> tuple[torch.Tensor, ...]:
    coords = torch.from_numpy(np.array(trace.ca_coords))[None]
    types = torch.full((1, len(trace.residue_type)), UNKNOWN)
    return coords, types, torch.from_numpy(trace.residue_index)[None], torch.tensor([sigma])


def network_map(network: ScoreNetwork, sigma: float) -> PairMap:
    """Return a function that computes the pair embedding of a network at one noise level."""

    @torch.inference_mode()
    def pair(trace: Trace) -> NDArray[np.float32]:
        found: NDArray[np.float32] = network.embed(*_inputs(trace, sigma))[0].numpy()
        return found

    return pair


def input_map(network: ScoreNetwork, sigma: float) -> PairMap:
    """Return a function that computes the input of a network: pair features, and residue features."""

    @torch.inference_mode()
    def pair(trace: Trace) -> NDArray[np.float32]:
        coords, types, index, level = _inputs(trace, sigma)
        length = coords.shape[1]
        rows, features = torch.arange(length), network.stem.features
        if not isinstance(features, BaseFeatures):
            found: NDArray[np.float32] = features(coords, types, index, rows)[0].numpy()
            return found
        pair_CLL, residue_LC = (part[0] for part in features(coords, types, index, level, rows))
        residue_CL = residue_LC[:, len(ALPHABET) :].T  # without the masked types
        row = residue_CL[:, :, None].expand(-1, -1, length)
        column = residue_CL[:, None, :].expand(-1, length, -1)
        stacked: NDArray[np.float32] = torch.cat([pair_CLL, row, column]).numpy()
        return stacked

    return pair


def onnx_map(embedder: Embedder) -> PairMap:
    """Return a function that computes the pair embedding of an exported model at its fixed noise level."""

    def pair(trace: Trace) -> NDArray[np.float32]:
        hidden = "X" * len(trace.residue_type)
        found = embedder.embed((trace.ca_coords, hidden, trace.residue_index), pair=True).pair
        assert found is not None  # pair=True
        return np.ascontiguousarray(np.moveaxis(found, 2, 0))

    return pair


HISTOGRAM_EDGES = np.concatenate([np.arange(1.0, 33.0), np.arange(36.0, 65.0, 4.0)])


def histogram_map(*, counts: bool) -> PairMap:
    """Return a function that computes 41 one-hot distance bins: 1 angstrom wide to 32, 4 to 64, and the rest.

    Their row mean is the histogram of distances from a residue to all others, as fractions of the chain, or
    as numbers of residues if `counts`.
    """

    def pair(trace: Trace) -> NDArray[np.float32]:
        bins = np.digitize(cdist(trace.ca_coords, trace.ca_coords), HISTOGRAM_EDGES)
        scale = len(bins) if counts else 1
        one_hot = bins[None] == np.arange(len(HISTOGRAM_EDGES) + 1)[:, None, None]
        return np.asarray(one_hot.astype(np.float32) * np.float32(scale))

    return pair


def residue_vectors(encoder: VectorEncoder, name: str) -> Callable[[Trace], NDArray[np.float32]]:
    """Return a function that computes vectors of a frozen encoder, with residue types masked.

    `name` is one of the encoder's vectors, or several joined by "+".
    """
    names = name.split("+")

    def residue(trace: Trace) -> NDArray[np.float32]:
        hidden = np.full(len(trace.residue_type), UNKNOWN, dtype=np.int64)
        return side_by_side(encoder.encode(trace.ca_coords, hidden, trace.residue_index, names), names)

    return residue


def named_files(named: Iterable[str]) -> dict[str, Path]:
    """Return files by name from NAME=FILE.

    Raises
    ------
    ProtembError
        If there is no `=`, or a name is repeated.
    """
    found: dict[str, Path] = {}
    for pair in named:
        name, equals, path = pair.partition("=")
        if not (name and equals and path):
            raise ProtembError(
                f"--encoder {pair!r}: use NAME=FILE with a checkpoint or .onnx file, or NAME=ENCODER with "
                f"one of {', '.join(RIVALS)}"
            )
        if name in found:
            raise ProtembError(f"--encoder {pair!r}: the name {name} is already used; use another name")
        found[name] = Path(path)
    return found


def encoders(
    files: Mapping[str, Path],
    sigmas: Sequence[float],
    *,
    training: Corpus | None = None,
    untrained_seeds: int = 1,
) -> list[Encoder]:
    """Return trained networks, untrained ones, input features, and descriptors without a network.

    Parameters
    ----------
    files : mapping of str to Path
        Checkpoints of `protemb-train pretrain`, exported `.onnx` models, or published encoders (`RIVALS`), by
        name. An exported model has a single noise level. For checkpoints with a single representation, its
        vectors are included.
    sigmas : sequence of float
        Noise levels in angstrom.
    training : Corpus, optional
        Chains for the batch statistics of untrained networks.
    untrained_seeds : int, default 1
        Number of untrained networks of each shape: the initial one of the run, and others.

    Raises
    ------
    ModelError
        If a file cannot be read, or does not describe its network.
    """
    rows: list[Encoder] = []
    twins: dict[tuple[NetworkConfig, int], str] = {}  # shared by networks of the same shape and seed
    for name, path in files.items():
        if str(path) in RIVALS:
            rival = find_vector_encoder(str(path))
            rows += [
                Encoder(name, None, record=dict(rival.about), residue=residue_vectors(rival, v), vectors=v)
                for v in rival.structural
            ]
            continue
        config, record, maps = _read(path, sigmas)
        seed = int(record["seed"])
        origin = {
            "file": path.name,
            "steps": record.get("steps"),
            **{
                name: record.get("record", {}).get(name)
                for name in ("corpus_sha256", "corpus_clusters_sha256")
            },
        }
        owner = twins.setdefault((config, seed), name)
        twin = f"{owner}, untrained"
        controls = {twin: seed} | {f"{twin}, seed {seed + k}": seed + k for k in range(1, untrained_seeds)}
        networks = {label: untrained(config, s, training) for label, s in controls.items()}
        for sigma, pair in maps.items():
            rows.append(Encoder(name, pair, sigma, twin=twin, record=origin))
            if any(row.name == twin and row.sigma == sigma for row in rows):
                continue
            for label, network in networks.items():
                rows.append(
                    Encoder(label, network_map(network, sigma), sigma, record={"seed": controls[label]})
                )
            rows.append(Encoder(f"{owner}, input features", input_map(networks[twin], sigma), sigma))
        if config.exchanges is not None and path.suffix != ".onnx":
            trained = {name: load_network(path)[0]} | networks
            rows += [
                row
                for sigma in sigmas
                for label, network in trained.items()
                for row in _states(label, network, sigma, twin if label == name else None, origin)
                if label == name or owner == name
            ]
    return [
        *rows,
        Encoder("distance histogram, shares", histogram_map(counts=False)),
        Encoder("distance histogram, counts", histogram_map(counts=True)),
    ]


def _states(
    label: str, network: ScoreNetwork, sigma: float, twin: str | None, record: dict[str, Any]
) -> list[Encoder]:
    """Return rows for the residue vector of exported graphs, and for the state with and without types."""
    vectors = NetworkVectors(network, sigma)
    return [
        Encoder(label, None, sigma, twin, record if twin else {}, residue_vectors(vectors, v), v)
        for v in ("+".join(vectors.usual), "state", "structure")
    ]


def _read(path: Path, sigmas: Sequence[float]) -> tuple[NetworkConfig, dict[str, Any], dict[float, PairMap]]:
    """Return configuration, training record and pair maps by noise level from a checkpoint or a model."""
    if path.suffix != ".onnx":
        network, record = load_network(path)
        maps = {sigma: network_map(network, sigma) for sigma in sigmas}
        return network.config, {"seed": 0, **record}, maps
    embedder = Embedder(path, device="cpu", threads=torch.get_num_threads())
    try:
        record = dict(embedder.card["training"])
        config = NetworkConfig.from_dict(embedder.card["network"])
        int(record["seed"])
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(
            f"its card does not describe its training (at {error}); export it again", path
        ) from error
    return config, record, {embedder.noise_level: onnx_map(embedder)}
