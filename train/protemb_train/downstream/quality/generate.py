"""Models generated from natives of the pre-training corpus, with errors typical of prediction servers.

The corpus contains no relative of a test target; hence neither natives nor templates are related to one.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cache
from itertools import takewhile
from pathlib import Path

import numpy as np

from protemb_sdk import ALPHABET, Embedder
from protemb_sdk._base.workers import WorkerPool
from protemb_train.corpus.alignment import aligned
from protemb_train.corpus.corpus import Corpus, Trace
from protemb_train.downstream.quality.decoys import KINDS, Decoy, DecoyError, labelled
from protemb_train.downstream.quality.perturb import (
    BOND,
    Coords,
    grafted,
    hinged,
    register_shifted,
    regularised,
    segment_moved,
    threaded,
)

WEIGHTS = {
    "homologs": 3.0,
    "foreign": 2.5,
    "mixed": 3.0,
    "grafts": 2.5,
    "hinges": 2.5,
    "shifts": 1.0,
    "denoised": 4.0,
    "segments": 1.5,
    "natives": 2.0,
    "noisy": 1.0,
    "coils": 1.0,
}
"""Relative frequencies of the kinds of models; many are good, as predictions are today."""
ORDINARY = KINDS[:9]
"""Kinds with errors typical of servers; the others are not realistic models, but useful for training."""
DENOISER = "small-1"
LENGTHS = (50, 220)
"""Range of lengths of natives, residues."""
JITTER = 0.3
"""Range of noise added to models, angstrom, so that smoothness is not informative."""
TEMPLATE = (0.9, 1.6)
"""Range of the length of a template relative to the native."""
BRIEFLY = 20  # sweeps between two modifications
LEAST_PLACED = 0.75
"""Lowest share of residues that an alignment must place; with longer loops the result is not a model."""
REPAIRED = 0.5
"""Share of modified models that the score network denoises: wrong, but packed like proteins."""


@dataclass(frozen=True, slots=True)
class Plan:
    """Number of natives, their split, and the number and kinds of models for each."""

    natives: int
    decoys: int
    split: str = "train"
    seed: int = 0
    kinds: tuple[str, ...] = ORDINARY


def _sequence(trace: Trace) -> str:
    return "".join(ALPHABET[t] for t in trace.residue_type)


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """Generates models of natives of one corpus.

    Parameters
    ----------
    corpus : Corpus
        Chains of one split; templates are from the same split.
    model : str
        Model whose score network denoises structures; not `base`, which is judged on the results.
    """

    corpus: Corpus
    model: str = DENOISER

    def one(self, position: int, kind: str, rng: np.random.Generator) -> Coords:
        """Return a model of a native with one kind of error and a closed chain."""
        native = self.corpus[position].ca_coords.astype(np.float64)
        return WAYS[kind](self, position, native, rng)

    def template(self, position: int, rng: np.random.Generator, *, related: bool) -> Trace:
        """Return a chain of similar length from the same cluster, or from another one."""
        clusters, lengths = self.corpus.clusters, self.corpus.lengths
        same = clusters == clusters[position]
        length = lengths[position]
        fits = (lengths >= TEMPLATE[0] * length) & (lengths <= TEMPLATE[1] * length)
        wanted = fits & (same if related else ~same)
        wanted[position] = False
        if not wanted.any():
            raise DecoyError(f"no template of about {length} residues", self.corpus.path)
        return self.corpus[int(rng.choice(np.flatnonzero(wanted)))]


def _hinges(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    size = float(np.exp(rng.uniform(np.log(10), np.log(150))))
    for _ in range(int(rng.integers(1, 5))):
        native = hinged(native, size * rng.choice([-1, 1]), rng)
    return regularised(native)


def _segments(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    for _ in range(int(rng.integers(1, 6))):
        native = regularised(
            segment_moved(native, float(np.exp(rng.uniform(0, 1.8))), rng.uniform(5, 90), rng), BRIEFLY
        )
    return regularised(native)


def _shifts(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    for _ in range(int(rng.integers(1, 4))):
        shift = int(rng.integers(1, 9) * rng.choice([-1, 1]))
        native = regularised(register_shifted(native, shift, rng), BRIEFLY)
    return regularised(native)


def _grafts(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    for _ in range(int(rng.integers(1, 9))):
        donor = maker.template(position, rng, related=False)
        native = grafted(native, donor.ca_coords.astype(np.float64), rng)
    return regularised(native)


def _homologs(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    try:
        template = maker.template(position, rng, related=True)
    except DecoyError:  # the only chain of its cluster
        return _foreign(maker, position, native, rng)
    positions = aligned(_sequence(maker.corpus[position]), _sequence(template))
    if (positions >= 0).mean() < LEAST_PLACED:
        return _foreign(maker, position, native, rng)
    return regularised(threaded(positions, template.ca_coords.astype(np.float64)))


def _foreign(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    """Place the residues on another fold, with a random offset, insertions and deletions."""
    template = maker.template(position, rng, related=False)
    steps = np.ones(len(native), dtype=np.int64)
    gaps = rng.choice(len(native), size=int(rng.integers(0, 5)), replace=False)
    steps[gaps] += rng.integers(-1, 3, size=len(gaps))
    spare = len(template.ca_coords) - int(steps.sum())
    positions = np.cumsum(steps) - steps[0] + (int(rng.integers(0, spare + 1)) if spare > 0 else 0)
    positions[positions >= len(template.ca_coords)] = -1
    positions[1:][np.diff(positions) == 0] = -1
    return regularised(threaded(positions, template.ca_coords.astype(np.float64)))


def _denoised(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    return _repaired(maker, position, native, float(np.exp(rng.uniform(np.log(0.7), np.log(9.9)))), rng)


def _repaired(maker: Maker, position: int, x: Coords, level: float, rng: np.random.Generator) -> Coords:
    """Add noise of a given level to a structure and denoise it with the score network."""
    sigmas = np.geomspace(level, 0.5, 7)
    x = x + level * rng.normal(size=x.shape)
    embedder = _embedder(maker.model)
    sequence, index = _sequence(maker.corpus[position]), maker.corpus[position].residue_index
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        # Probability flow: the denoised mean plus noise at a lower level.
        x = x + (sigma**2 - after * sigma) * embedder.denoising_gradient(
            (x, sequence, index), sigma=float(sigma)
        )
    return regularised(x)


def _natives(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    return native


def _noisy(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    return native + float(np.exp(rng.uniform(np.log(0.5), np.log(10.0)))) * rng.normal(size=native.shape)


def _coils(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    """Return a random walk, between an extended chain and one that reverses at every residue."""
    steps = rng.normal(size=native.shape) + rng.uniform(0, 2) * np.array([1.0, 0.0, 0.0])
    walk = (BOND * steps / np.linalg.norm(steps, axis=1, keepdims=True)).cumsum(axis=0)
    return regularised(walk)


def _mixed(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    """Combine several modifications, starting from a homolog if there is one."""
    x = _homologs(maker, position, native, rng) if rng.random() < 0.5 else native
    for kind in rng.choice(["hinges", "segments", "shifts", "grafts"], size=int(rng.integers(1, 4))):
        x = WAYS[str(kind)](maker, position, x, rng)
    return x


WAYS: dict[str, Callable[[Maker, int, Coords, np.random.Generator], Coords]] = {
    "homologs": _homologs,
    "foreign": _foreign,
    "mixed": _mixed,
    "grafts": _grafts,
    "hinges": _hinges,
    "shifts": _shifts,
    "denoised": _denoised,
    "segments": _segments,
    "natives": _natives,
    "noisy": _noisy,
    "coils": _coils,
}
"""Functions that modify a native, by name; the same names as `decoys.KINDS`."""
UNMODIFIED = ("natives", "denoised", "noisy", "coils")


@cache
def _embedder(model: str) -> Embedder:
    return Embedder(model, "cpu", threads=1)


def decoys_of(maker: Maker, position: int, plan: Plan) -> Iterator[Decoy]:
    """Yield models of one native, of different kinds where possible, drawn by weight."""
    trace = maker.corpus[position]
    rng = np.random.default_rng((plan.seed, position))
    weights = np.array([WEIGHTS[kind] for kind in plan.kinds])
    kinds = rng.choice(list(plan.kinds), size=plan.decoys, p=weights / weights.sum())
    native = trace.ca_coords.astype(np.float64)
    for n, kind in enumerate(kinds):
        model = maker.one(position, str(kind), rng)
        if kind not in UNMODIFIED and rng.random() < REPAIRED:
            model = _repaired(maker, position, model, float(rng.uniform(1.0, 4.0)), rng)
        model = model + rng.uniform(0, JITTER) * rng.normal(size=model.shape)
        if np.isfinite(model).all() and np.abs(model - model.mean(axis=0)).max() < 600:
            name = f"{kind}-{n}"
            yield labelled(name, trace.id, str(kind), plan.split, _sequence(trace), model, native)


def generate(path: Path, plan: Plan, workers: int = 1) -> Iterator[list[Decoy]]:
    """Yield the models of each native, with one native per cluster of one split of a corpus.

    Parameters
    ----------
    path : Path
        Corpus (.arrow).
    plan : Plan
        Numbers and kinds of models.
    workers : int, default 1
        Number of processes.

    Raises
    ------
    DecoyError
        If no native is suitable, a kind is unknown, or a worker process died.
    """
    if unknown := [kind for kind in plan.kinds if kind not in WAYS]:
        raise DecoyError(f"there is no kind of models {unknown[0]!r}; available are {', '.join(WAYS)}")
    positions = Corpus(path, [plan.split]).one_per_cluster(plan.natives, LENGTHS, plan.seed)
    if not positions:
        raise DecoyError(f"no chain of {LENGTHS[0]} to {LENGTHS[1]} residues in split {plan.split}", path)
    jobs = [(path, position, plan) for position in positions]
    if workers == 1:
        yield from map(_job, jobs)
        return
    with WorkerPool(workers, when_told=_stop) as pool:
        try:
            yield from pool.map(_job, jobs)
        except BrokenProcessPool as error:
            raise DecoyError(
                "a worker process died (possibly out of memory); use fewer workers", path
            ) from error
        finally:
            pool.stop()  # otherwise the exit waits for all queued natives


_stopped = threading.Event()  # set in a worker process


def _stop() -> None:
    _stopped.set()


def _job(job: tuple[Path, int, Plan]) -> list[Decoy]:
    path, position, plan = job
    made = decoys_of(_maker(path, plan.split), position, plan)
    return list(takewhile(lambda _: not _stopped.is_set(), made))


@cache
def _maker(path: Path, split: str) -> Maker:
    return Maker(Corpus(path, [split]))


def kinds_of(decoys: Sequence[Decoy]) -> dict[str, tuple[int, float]]:
    """Return the number of models of each kind and their mean GDT_TS."""
    return {
        kind: (len(own), float(np.mean([d.gdt_ts for d in own])))
        for kind in WAYS
        if (own := [d for d in decoys if d.source == kind])
    }
