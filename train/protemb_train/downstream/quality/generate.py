"""Models to learn from, made of natives of the pre-training corpus: what servers get wrong, by design.

The corpus holds no relative of a test target, so neither do the natives, nor the templates.
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
    "denoised": 2.0,
    "segments": 1.0,
    "natives": 0.5,
    "noisy": 1.0,
    "coils": 1.0,
}
"""How often a kind is made, of those that are wanted."""
ORDINARY = KINDS[:9]
"""What servers get wrong; the others are no models at all, and a judge must know that too."""
LENGTHS = (50, 220)
"""Residues of a native."""
JITTER = 0.3
"""Angstrom of noise that a model may carry, so that polish tells nothing."""
TEMPLATE = (0.9, 1.6)
"""Length of a template over that of the native."""
BRIEFLY = 20  # sweeps, between one mistake and the next
LEAST_PLACED = 0.75
"""Share of the residues that an alignment must place: more loops than that are no model."""
REPAIRED = 0.5
"""Share of the models made by hand that the score network repairs after: wrong, but packed like proteins."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How many natives of which split, how many models of each, and of which kinds."""

    natives: int
    decoys: int
    split: str = "train"
    seed: int = 0
    kinds: tuple[str, ...] = ORDINARY


def _sequence(trace: Trace) -> str:
    return "".join(ALPHABET[t] for t in trace.residue_type)


@dataclass(frozen=True, slots=True, eq=False)
class Maker:
    """Makes models of natives of one corpus.

    Parameters
    ----------
    corpus : Corpus
        Shows the split wanted; templates are of the same split.
    model : str
        Whose score network repairs noisy natives.
    """

    corpus: Corpus
    model: str = "base"

    def one(self, position: int, kind: str, rng: np.random.Generator) -> Coords:
        """Return a model of a native, chain closed, by one way of going wrong."""
        native = self.corpus[position].ca_coords.astype(np.float64)
        return WAYS[kind](self, position, native, rng)

    def template(self, position: int, rng: np.random.Generator, *, related: bool) -> Trace:
        """Return a chain of the same cluster, or of another one, of fitting length."""
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
    except DecoyError:  # alone in its cluster
        return _foreign(maker, position, native, rng)
    positions = aligned(_sequence(maker.corpus[position]), _sequence(template))
    if (positions >= 0).mean() < LEAST_PLACED:
        return _foreign(maker, position, native, rng)
    return regularised(threaded(positions, template.ca_coords.astype(np.float64)))


def _foreign(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    """Put the residues on another fold, from its start or a little after, skipping or looping out some."""
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
    return _repaired(maker, position, native, float(np.exp(rng.uniform(np.log(1.5), np.log(9.9)))), rng)


def _repaired(maker: Maker, position: int, x: Coords, level: float, rng: np.random.Generator) -> Coords:
    """Drown a structure in noise of a level, and let the score network take the noise away."""
    sigmas = np.geomspace(level, 0.5, 7)
    x = x + level * rng.normal(size=x.shape)
    embedder = _embedder(maker.model)
    sequence, index = _sequence(maker.corpus[position]), maker.corpus[position].residue_index
    for sigma, after in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
        # Probability flow: the mean of what the noise hides, and as much noise of the same kind kept.
        x = x + (sigma**2 - after * sigma) * embedder.denoising_gradient(
            (x, sequence, index), sigma=float(sigma)
        )
    return regularised(x)


def _natives(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    return native


def _noisy(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    return native + float(np.exp(rng.uniform(np.log(0.5), np.log(10.0)))) * rng.normal(size=native.shape)


def _coils(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    """Walk at random, from a stretched chain to one that turns back at every residue."""
    steps = rng.normal(size=native.shape) + rng.uniform(0, 2) * np.array([1.0, 0.0, 0.0])
    walk = (BOND * steps / np.linalg.norm(steps, axis=1, keepdims=True)).cumsum(axis=0)
    return regularised(walk)


def _mixed(maker: Maker, position: int, native: Coords, rng: np.random.Generator) -> Coords:
    """Do several things at once, the first to a homolog where there is one."""
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
"""Ways of going wrong, by name; as `decoys.KINDS`."""
AS_THEY_ARE = ("natives", "denoised", "noisy", "coils")


@cache
def _embedder(model: str) -> Embedder:
    return Embedder(model, "cpu", threads=1)


def decoys_of(maker: Maker, position: int, plan: Plan) -> Iterator[Decoy]:
    """Yield models of one native: each of another kind as far as they go, kinds drawn by weight."""
    trace = maker.corpus[position]
    rng = np.random.default_rng((plan.seed, position))
    weights = np.array([WEIGHTS[kind] for kind in plan.kinds])
    kinds = rng.choice(list(plan.kinds), size=plan.decoys, p=weights / weights.sum())
    native = trace.ca_coords.astype(np.float64)
    for n, kind in enumerate(kinds):
        model = maker.one(position, str(kind), rng)
        if kind not in AS_THEY_ARE and rng.random() < REPAIRED:
            model = _repaired(maker, position, model, float(rng.uniform(1.0, 4.0)), rng)
        model = model + rng.uniform(0, JITTER) * rng.normal(size=model.shape)
        if np.isfinite(model).all() and np.abs(model - model.mean(axis=0)).max() < 600:
            name = f"{kind}-{n}"
            yield labelled(name, trace.id, str(kind), plan.split, _sequence(trace), model, native)


def generate(path: Path, plan: Plan, workers: int = 1) -> Iterator[list[Decoy]]:
    """Yield the models of each native, natives one a cluster of one split of a corpus.

    Parameters
    ----------
    path : Path
        Corpus (.arrow).
    plan : Plan
        How many.
    workers : int, default 1
        Processes.

    Raises
    ------
    DecoyError
        If no native fits, there is no such kind, or a worker process died.
    """
    if unknown := [kind for kind in plan.kinds if kind not in WAYS]:
        raise DecoyError(f"no kind of models named {unknown[0]!r}; there are {', '.join(WAYS)}")
    positions = Corpus(path, [plan.split]).one_a_cluster(plan.natives, LENGTHS, plan.seed)
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
                "a worker process died while it made models (out of memory?); try fewer workers", path
            ) from error
        finally:
            pool.stop()  # natives at work, and those that wait in the pipe, would be waited for


_stopped = threading.Event()  # of a worker process


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
    """Return how many models of each kind there are, and their mean GDT_TS."""
    return {
        kind: (len(own), float(np.mean([d.gdt_ts for d in own])))
        for kind in WAYS
        if (own := [d for d in decoys if d.source == kind])
    }
