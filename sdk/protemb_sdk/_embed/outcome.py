"""What becomes of inputs: embeddings and skips, of one input alone or of several in batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from protemb_sdk._base.errors import ProtembError
from protemb_sdk._base.limits import Limits
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._structure.chain import Chain, Skipped, no_protein_chain
from protemb_sdk._structure.inputs import Input, Kind
from protemb_sdk._structure.protein import StructureRead


class ChainEmbedder(Protocol):
    """What running over many inputs needs of an `Embedder`."""

    limits: Limits

    @property
    def provenance(self) -> dict[str, Any]:
        """Metadata of results."""
        ...

    @property
    def widths(self) -> dict[str, int]:
        """Width of each level."""
        ...

    def read(self, structure: object) -> StructureRead:
        """Return the protein chains of a structure and what was skipped."""
        ...

    def embed_chain(self, chain: Chain, *, pair: bool = False, readouts: Sequence[str] = ()) -> Embedding:
        """Embed a chain that was read before."""
        ...

    def embed_batch(
        self, structures: Sequence[object], *, pair: bool = False, readouts: Sequence[str] = ()
    ) -> list[Embedding]:
        """Embed several chains."""
        ...

    def length_in_batch(self, residues: int) -> int:
        """Return the length that a chain has in a batch."""
        ...

    def worker_arguments(self, workers: int) -> dict[str, Any]:
        """Return what makes an equal one in another process."""
        ...

    def stop(self) -> None:
        """End what is being embedded."""
        ...


@dataclass(slots=True)
class Outcome:
    """What became of one input; a failure is a skip that holds its error.

    `is_container` says that it is a folder or an archive that gave no, or no more, inputs.
    """

    source: str
    embeddings: list[Embedding] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    is_container: bool = False


def embed_one(embedder: ChainEmbedder, x: Input, wanted: Mapping[str, Any], source: str) -> Outcome:
    """Embed every protein chain of one input; an error becomes part of the outcome.

    `wanted` holds the options of `Embedder.embed_chain`.
    """
    outcome = Outcome(source)
    for chain in _read(embedder, x, source, outcome):
        _embed_into(outcome, embedder, chain, wanted, source)
    return outcome


def embed_together(
    embedder: ChainEmbedder, inputs: Sequence[tuple[Input, str]], wanted: Mapping[str, Any], batch: int
) -> Iterator[Outcome]:
    """Give what `embed_one` does of inputs and their sources, `batch` chains of one length in it at once."""
    outcomes = [Outcome(source) for _, source in inputs]
    # Chains in order, with the number of their input; the embedding of each comes later.
    chains = [
        (number, chain)
        for number, (x, source) in enumerate(inputs)
        for chain in _read(embedder, x, source, outcomes[number])
    ]
    alike: dict[int, list[int]] = {}
    for place, (_, chain) in enumerate(chains):
        alike.setdefault(embedder.length_in_batch(len(chain)), []).append(place)
    made: dict[int, Embedding] = {}
    for places in alike.values():
        for first in range(0, len(places), batch):
            some = places[first : first + batch]
            try:
                found = embedder.embed_batch([chains[place][1] for place in some], **wanted)
            except ProtembError:  # of which chain, is found below
                continue
            made.update(zip(some, found, strict=True))
    for place, (number, chain) in enumerate(chains):
        if place in made:
            outcomes[number].embeddings.append(made[place])
        else:
            _embed_into(outcomes[number], embedder, chain, wanted, inputs[number][1])
    yield from outcomes


def _read(embedder: ChainEmbedder, x: Input, source: str, outcome: Outcome) -> list[Chain]:
    """Return the chains of an input; what is skipped, and an error, go into its outcome."""
    outcome.is_container = x.kind is Kind.FAILED
    try:
        read = embedder.read(x)
        if not read.chains:  # one entry, whose error names the chains
            error = no_protein_chain(source, read.skipped)
            failed = replace(Skipped.of(error, source), error=error, kind="holds no protein chain to embed")
            outcome.skipped.append(failed)
            return []
    except ProtembError as error:
        outcome.skipped.append(Skipped.of(error, source))
        return []
    outcome.skipped.extend(read.skipped)
    return read.chains


def _embed_into(
    outcome: Outcome, embedder: ChainEmbedder, chain: Chain, wanted: Mapping[str, Any], source: str
) -> None:
    try:
        outcome.embeddings.append(embedder.embed_chain(chain, **wanted))
    except ProtembError as error:
        outcome.skipped.append(Skipped.of(error, source, chain.chain_id or " "))
