"""PyTorch against the exported file, through the SDK itself, on real chains of many lengths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_sdk._chain import Chain
from protemb_sdk._embedder import Embedder
from protemb_sdk._errors import ProtembError
from protemb_train.corpus import Corpus, Trace
from protemb_train.network import ScoreNetwork

TOLERANCE = 1e-4
"""Largest deviation allowed, as a share of the embedding's scale (its largest magnitude on the chain)."""


class ParityError(ProtembError):
    """An exported graph does not give what the network gives."""


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest deviations between PyTorch and ONNX Runtime, as shares of the embedding's scale."""

    pair: float
    residue: float
    protein: float
    chains: int
    shortest: int
    longest: int

    @property
    def worst(self) -> float:
        """The largest of the three levels."""
        return max(self.pair, self.residue, self.protein)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for metadata."""
        return {k: float(f"{v:.2e}") if isinstance(v, float) else v for k, v in asdict(self).items()}


def chain_of(trace: Trace) -> Chain:
    """Return a corpus chain as the SDK takes it."""
    length = len(trace.residue_type)
    letters = np.array(list("ACDEFGHIKLMNPQRSTVWYX"))
    return Chain(
        name=trace.id,
        chain="",
        label_chain="",
        ca_coords=trace.ca_coords.astype(np.float64),
        sequence="".join(letters[trace.residue_type]),
        residue_index=trace.residue_index,
        auth_seq=(trace.residue_index + 1).astype(np.int32),
        insertion_code=np.full(length, "", dtype="<U1"),
        label_seq=np.full(length, -1, dtype=np.int32),
        residue_name=np.full(length, "UNK", dtype="<U3"),
    )


def spread_over_lengths(corpus: Corpus, count: int, shortest: int = 30, longest: int = 1000) -> list[Chain]:
    """Return chains whose lengths are spread evenly, on a logarithmic scale, over the range."""
    order = np.argsort(corpus.lengths, kind="stable")
    lengths = corpus.lengths[order]
    wanted = np.geomspace(max(shortest, lengths[0]), min(longest, lengths[-1]), count)
    positions = np.clip(np.searchsorted(lengths, wanted), 0, len(lengths) - 1)
    for k in range(1, count):  # where two wishes meet on one chain, take the next
        positions[k] = min(max(positions[k], positions[k - 1] + 1), len(lengths) - 1)
    return [chain_of(corpus[int(order[p])]) for p in dict.fromkeys(positions.tolist())]


@torch.no_grad()
def torch_pair(network: ScoreNetwork, chain: Chain, sigma: float) -> NDArray[np.float32]:
    """Return the pair embedding by PyTorch, unfolded, shape (L, L, C)."""
    coords = torch.from_numpy((chain.ca_coords - chain.ca_coords.mean(axis=0)).astype(np.float32))[None]
    types, index = torch.from_numpy(chain.residue_type)[None], torch.from_numpy(chain.residue_index)[None]
    pair = network.eval().embed(coords, types, index, torch.tensor([sigma]))[0]
    return pair.permute(1, 2, 0).numpy()


def _deviation(found: NDArray[np.float32], wanted: NDArray[np.float32]) -> float:
    return float(np.abs(found - wanted).max() / np.abs(wanted).max())


def measure_parity(network: ScoreNetwork, embedder: Embedder, chains: Iterable[Chain]) -> Parity:
    """Compare a network with its exported file on all three levels.

    Parameters
    ----------
    network : ScoreNetwork
        The network before export.
    embedder : Embedder
        Holding the exported file.
    chains : iterable of Chain
        Real chains.
    """
    worst = {"pair": 0.0, "residue": 0.0, "protein": 0.0}
    lengths = []
    for chain in chains:
        wanted = torch_pair(network, chain, embedder.noise_level)
        found = embedder.embed_chain(chain, pair=True)
        assert found.pair is not None  # asked for
        worst["pair"] = max(worst["pair"], _deviation(found.pair, wanted))
        worst["residue"] = max(worst["residue"], _deviation(found.residue, wanted.mean(axis=1)))
        worst["protein"] = max(worst["protein"], _deviation(found.protein, wanted.mean(axis=(0, 1))))
        lengths.append(len(chain))
    if not lengths:
        raise ParityError("there is no chain to verify on")
    return Parity(**worst, chains=len(lengths), shortest=min(lengths), longest=max(lengths))
