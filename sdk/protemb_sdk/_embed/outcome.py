"""What becomes of inputs: embeddings and skips, of one input alone or of several in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol

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

    @property
    def reader(self) -> Callable[[object], StructureRead]:
        """What returns the protein chains of a structure and what was skipped; can be pickled."""
        ...

    def read(self, structure: object) -> StructureRead:
        """Return what `reader` does."""
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
    outcome, chains = read_input(embedder.read, x, source)
    for chain in chains:
        _embed_into(outcome, embedder, chain, wanted)
    return outcome


class InputRead(NamedTuple):
    """An input that was read: its outcome so far, and its chains."""

    outcome: Outcome
    chains: list[Chain]


def embed_together(
    embedder: ChainEmbedder, inputs: Sequence[InputRead], wanted: Mapping[str, Any], batch: int
) -> Iterator[Outcome]:
    """Give what `embed_one` does of inputs that were read, `batch` chains of one length in it at once."""
    # Chains in order, with the outcome of their input; the embedding of each comes later.
    chains = [(outcome, chain) for outcome, some in inputs for chain in some]
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
    for place, (outcome, chain) in enumerate(chains):
        if place in made:
            outcome.embeddings.append(made[place])
        else:
            _embed_into(outcome, embedder, chain, wanted)
    yield from (outcome for outcome, _ in inputs)


def read_input(reader: Callable[[object], StructureRead], x: Input, source: str) -> InputRead:
    """Return the chains of an input; what is skipped, and an error, go into its outcome."""
    outcome = Outcome(source, is_container=x.kind is Kind.FAILED)
    try:
        read = reader(x)
        if not read.chains:  # one entry, whose error names the chains
            error = no_protein_chain(source, read.skipped)
            failed = replace(Skipped.of(error, source), error=error, kind="holds no protein chain to embed")
            outcome.skipped.append(failed)
            return InputRead(outcome, [])
    except ProtembError as error:
        outcome.skipped.append(Skipped.of(error, source))
        return InputRead(outcome, [])
    outcome.skipped.extend(read.skipped)
    return InputRead(outcome, read.chains)


def _embed_into(outcome: Outcome, embedder: ChainEmbedder, chain: Chain, wanted: Mapping[str, Any]) -> None:
    try:
        outcome.embeddings.append(embedder.embed_chain(chain, **wanted))
    except ProtembError as error:
        outcome.skipped.append(Skipped.of(error, outcome.source, chain.chain_id or " "))
