"""Comparison of PyTorch with the exported file, through the SDK, on real chains of different lengths."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from protemb_export.errors import ExportError, ParityError
from protemb_sdk import ALPHABET, Chain, Embedder, Embedding, read_chain
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.network.network import ScoreNetwork
from protemb_train.network.single import four_means
from protemb_train.network.vectors import ChainVectors

LEVELS = ("pair", "residue", "protein", "profile")

TOLERANCE = 1e-4
"""Largest deviation allowed, relative to the embedding's scale (its largest magnitude on the chain)."""

SCORE_CHAINS, SCORE_LENGTH = 10, 300
"""Number of chains for the comparison of scores, and their largest length: the score has no strips."""


PADDED_LENGTH = 300
"""Largest length of the chains that are compared in padded batches."""


LEAST_COSINE = 0.999
"""Lowest allowed mean cosine between quantised and float32 embeddings."""


@dataclass(frozen=True, slots=True)
class Likeness:
    """Cosine similarities of two embeddings of the same chains: means, and the lowest of any chain.

    Parameters
    ----------
    protein, protein_least : float
        Of the protein embeddings.
    residue, residue_least : float
        Of the residue embeddings, averaged over each chain.
    chains : int
        Number of chains.
    """

    protein: float
    protein_least: float
    residue: float
    residue_least: float
    chains: int

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for metadata."""
        return {k: round(v, 6) for k, v in asdict(self).items()}


@dataclass(frozen=True, slots=True)
class Parity:
    """Largest deviations between two graphs, or PyTorch and ONNX Runtime, relative to the embedding's scale.

    Parameters
    ----------
    pair, residue, protein : float
        Deviation of each level.
    chains, shortest, longest : int
        Number of chains compared, and their range of lengths.
    profile : float, optional
        Deviation of the profile, if there is one.
    """

    pair: float
    residue: float
    protein: float
    chains: int
    shortest: int
    longest: int
    profile: float | None = None

    @property
    def worst(self) -> float:
        """Largest deviation of all levels."""
        return max(self.pair, self.residue, self.protein, self.profile or 0.0)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for metadata."""
        values = {k: v for k, v in asdict(self).items() if v is not None}
        return {k: float(f"{v:.2e}") if isinstance(v, float) else v for k, v in values.items()}


def chain_of(trace: Trace) -> Chain:
    """Return a corpus chain as a `Chain` of the SDK."""
    sequence = "".join(ALPHABET[k] for k in trace.residue_type)
    return read_chain((trace.ca_coords, sequence, trace.residue_index), name=trace.id)


def spread_over_lengths(corpus: Corpus, count: int, shortest: int = 30, longest: int = 1000) -> list[Chain]:
    """Return chains whose lengths are evenly spaced on a logarithmic scale over the range.

    Parameters
    ----------
    corpus : Corpus
        Source of the chains.
    count : int
        Number of chains; fewer are returned if the corpus has fewer in the range.
    shortest, longest : int
        The range, both ends included, in residues.

    Raises
    ------
    ExportError
        If no chain is in the range.
    """
    order = np.argsort(corpus.lengths, kind="stable")
    order = order[(corpus.lengths[order] >= shortest) & (corpus.lengths[order] <= longest)]
    if not order.size:
        raise ExportError(
            f"no chain of {shortest} to {longest} residues to verify on; use another corpus", corpus.path
        )
    lengths = corpus.lengths[order]
    wanted = np.geomspace(lengths[0], lengths[-1], min(count, len(order)))
    positions = np.searchsorted(lengths, np.rint(wanted))
    # If two targets select one chain, take the next, and leave room for those that follow.
    room = np.arange(len(positions))
    positions = np.maximum.accumulate(positions - room) + room
    positions = np.minimum(positions, len(order) - len(positions) + room)
    return [chain_of(corpus[int(order[p])]) for p in positions]


def chain_tensors(chain: Chain) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return coordinates, residue types and residue indices of a chain, as a batch of one."""
    coords = torch.from_numpy(chain.centred_coords.astype(np.float32))[None]
    return coords, torch.from_numpy(chain.residue_type)[None], torch.from_numpy(chain.residue_index)[None]


Levels = dict[str, NDArray[np.floating]]
"""Embeddings of a chain by level."""


@torch.no_grad()
def torch_pair(network: ScoreNetwork, chain: Chain, sigma: float) -> NDArray[np.float32]:
    """Return the pair embedding computed by PyTorch, unfolded, shape (L, L, C)."""
    pair = network.eval().embed(*chain_tensors(chain), torch.tensor([sigma]))[0]
    return pair.permute(1, 2, 0).numpy()


@torch.no_grad()
def torch_levels(
    network: ScoreNetwork, chain: Chain, sigma: float, vectors: ChainVectors | None = None
) -> Levels:
    """Return all embeddings of a chain computed by PyTorch, unfolded.

    Parameters
    ----------
    network : ScoreNetwork
        The network before export.
    chain : Chain
        Real chain.
    sigma : float
        Noise level in angstrom.
    vectors : ChainVectors, optional
        Contents of the embeddings of a network with a single representation.
    """
    if network.single is None or vectors is None:
        return _pooled(torch_pair(network, chain, sigma))
    tensors = chain_tensors(chain)
    pair, states = network.eval().embed_all(*tensors, torch.tensor([sigma]))
    found = {
        "residue": vectors.residue(
            states, four_means(pair, tensors[0]), network.surroundings(tensors[0], tensors[2])
        ),
        "protein": vectors.protein(states.structure, tensors[0]),
        "profile": network.single.log_profile(states.structure),
    }
    return {"pair": pair[0].permute(1, 2, 0).numpy(), **{name: x[0].numpy() for name, x in found.items()}}


def _pooled(pair_LLC: NDArray[np.float32]) -> Levels:
    # In float64: NumPy's float32 sum of a million entries has an error of 1e-4.
    residue = pair_LLC.mean(axis=1, dtype=np.float64)
    return {"pair": pair_LLC, "residue": residue, "protein": residue.mean(axis=0)}


@torch.no_grad()
def torch_score(network: ScoreNetwork, chain: Chain, sigma: float) -> NDArray[np.float32]:
    """Return the gradient of log p computed by PyTorch in 1/angstrom, shape (L, 3)."""
    return network.eval()(*chain_tensors(chain), torch.tensor([sigma]))[0].numpy()  # type: ignore[no-any-return]


def _deviation(found: NDArray[np.float32], wanted: NDArray[np.floating], where: str) -> float:
    """Return the largest difference relative to the scale of `wanted`, which may be zero."""
    difference, scale = float(np.abs(found - wanted).max()), float(np.abs(wanted).max())
    if not np.isfinite([difference, scale]).all():
        raise ParityError("one of the two returns values that are not finite", where)
    return difference / max(scale, float(np.finfo(np.float32).tiny))


def measure_parity(
    network: ScoreNetwork, embedder: Embedder, chains: Iterable[Chain], vectors: ChainVectors | None = None
) -> Parity:
    """Compare a network with its exported file on all levels.

    Parameters
    ----------
    network : ScoreNetwork
        The network before export.
    embedder : Embedder
        Embedder of the exported file.
    chains : iterable of Chain
        Real chains.
    vectors : ChainVectors, optional
        As in `torch_levels`.

    Raises
    ------
    ParityError
        If there is no chain, or a value is not finite.
    """
    return _compare(
        lambda chain: torch_levels(network, chain, embedder.noise_level, vectors),
        lambda chain: _levels_of(embedder, chain),
        chains,
    )


def measure_equality(exact: Embedder, embedder: Embedder, chains: Iterable[Chain]) -> Parity:
    """Compare two graphs that should be equivalent.

    Raises
    ------
    ParityError
        If there is no chain, or a value is not finite.
    """
    return _compare(lambda chain: _levels_of(exact, chain), lambda chain: _levels_of(embedder, chain), chains)


def measure_padding(exact: Embedder, embedder: Embedder, chains: Iterable[Chain]) -> Parity:
    """Compare chains in padded batches, each with a chain of one residue less, with those of another graph.

    Parameters
    ----------
    exact : Embedder
        Embedder of the graph that computes each chain alone.
    embedder : Embedder
        Embedder of a graph with the input `lengths`.
    chains : iterable of Chain
        Real chains; those of at most `PADDED_LENGTH` residues are used, or a longer one.

    Raises
    ------
    ParityError
        If there is no chain, or a value is not finite.
    """
    padded = [
        chain
        for chain in sorted(chains, key=len)
        if embedder.length_in_batch(len(chain) - 1) == embedder.length_in_batch(len(chain))
    ]

    def found_of(chain: Chain) -> Levels:
        arrays = (chain.ca_coords[:-1], chain.sequence[:-1], chain.residue_index[:-1])
        both = [chain, Chain.from_arrays(*arrays)]  # chains of one length would not be padded
        return _as_levels(embedder.embed_batch(both, pair=True, profile=embedder.has_profile)[0])

    used = [chain for chain in padded if len(chain) <= PADDED_LENGTH] or padded[:1]
    return _compare(lambda chain: _levels_of(exact, chain), found_of, used)


def _levels_of(embedder: Embedder, chain: Chain) -> Levels:
    return _as_levels(embedder.embed_chain(chain, pair=True, profile=embedder.has_profile))


def _as_levels(embedding: Embedding) -> Levels:
    levels = {name: getattr(embedding, name) for name in LEVELS}
    return {name: array for name, array in levels.items() if array is not None}


def _compare(
    levels_of: Callable[[Chain], Levels], found_of: Callable[[Chain], Levels], chains: Iterable[Chain]
) -> Parity:
    worst: dict[str, float] = {}
    lengths = []
    for chain in chains:
        found = found_of(chain)
        for level, wanted in levels_of(chain).items():
            deviation = _deviation(found[level], wanted, f"{chain.id}, {level} level")
            worst[level] = max(worst.get(level, 0.0), deviation)
        lengths.append(len(chain))
    if not lengths:
        raise ParityError("no chain to verify on; pass at least one")
    return Parity(**worst, chains=len(lengths), shortest=min(lengths), longest=max(lengths))


def _cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the cosine of vectors along the last axis, averaged over the others."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    return float(np.mean((x * y).sum(-1) / np.sqrt((x * x).sum(-1) * (y * y).sum(-1))))


def measure_likeness(one: Embedder, other: Embedder, chains: Iterable[Chain]) -> Likeness:
    """Compare the embeddings of two models that should agree approximately.

    Raises
    ------
    ParityError
        If there is no chain.
    """
    pairs = [(one.embed_chain(chain), other.embed_chain(chain)) for chain in chains]
    if not pairs:
        raise ParityError("no chain to compare on; pass at least one")
    protein = [_cosine(a.protein, b.protein) for a, b in pairs]
    residue = [_cosine(a.residue, b.residue) for a, b in pairs]
    return Likeness(float(np.mean(protein)), min(protein), float(np.mean(residue)), min(residue), len(pairs))


def measure_score_parity(network: ScoreNetwork, embedder: Embedder, chains: Iterable[Chain]) -> float:
    """Return the largest deviation of the score graph, relative to the score's largest magnitude.

    It is compared at the largest, the middle and the smallest noise level.

    Parameters
    ----------
    network : ScoreNetwork
        The network before export.
    embedder : Embedder
        Embedder of the exported files.
    chains : iterable of Chain
        Real chains; a few of at most `SCORE_LENGTH` residues are used.

    Raises
    ------
    ParityError
        If a value is not finite.
    """
    ordered = sorted(chains, key=len)
    used = [chain for chain in ordered if len(chain) <= SCORE_LENGTH][-SCORE_CHAINS:] or ordered[:1]
    low, high = network.config.sigma_min, network.config.sigma_max
    return max(
        _deviation(
            embedder.denoising_gradient(chain, sigma=sigma),
            torch_score(network, chain, sigma),
            f"{chain.id}, score at {sigma:g}",
        )
        for chain in used
        for sigma in (high, (low * high) ** 0.5, low)
    )
