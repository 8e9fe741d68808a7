"""What the command line says of a run: results on stdout, what was overlooked or skipped on stderr."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from protemb_sdk._base.console import console, out_console, say
from protemb_sdk._base.errors import ProtembError, StructureError
from protemb_sdk._base.names import distinct

if TYPE_CHECKING:
    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk._predict.sites import SitePrediction
    from protemb_sdk._structure.chain import Chain, Skipped

SHOWN = 20  # lines of one kind listed in full; beyond it, counts
NAMED = 3  # chains that are named in one note


class _Run:
    """What is remembered of the results of a run, which themselves do not stay in memory."""

    header: tuple[str, ...]

    def __init__(self) -> None:
        self.chains = self.residues = 0
        self.complexes = False
        self.sources: set[str] = set()
        self._rows: list[tuple[str, str, tuple[str, ...]]] = []  # identifier, file, cells
        self._notes: list[tuple[str, str, str]] = []  # identifier, file, note
        self._kinds: Counter[str] = Counter()

    def _count(self, chain: Chain, *row: str, notes: Sequence[str] | None = None) -> None:
        """Count one chain, with the cells of its row after name and length; by default with its own notes."""
        self.chains += 1
        self.residues += len(chain)
        self.complexes |= chain.is_complex
        self.sources.add(chain.source)
        if self.chains <= SHOWN:
            self._rows.append((chain.id, chain.source, (str(len(chain)), *row)))
        for note in chain.notes if notes is None else notes:
            self._kinds[note] += 1
            if len(self._notes) <= SHOWN:
                self._notes.append((chain.id, chain.source, note))

    def _report(self, provenance: Mapping[str, Any] | None, *last: str, notes_kept: bool) -> None:
        if self.chains <= SHOWN:
            table = Table("chain", "residues", *self.header, box=None)
            names = distinct((name, file) for name, file, _ in self._rows)
            for name, (_, _, row) in zip(names, self._rows, strict=True):
                table.add_row(*map(Text, (name, *row)))  # names may hold what Rich takes for markup
            out_console.print(table)
        self._say_notes(notes_kept)
        if provenance is not None:
            say(out_console, settings(provenance))
        files = number_of(len(self.sources), "file")
        chains = number_of(self.chains, "embedding" if self.complexes else "chain")
        residues = number_of(self.residues, "residue")
        say(out_console, f"{chains} of {files}, {residues}, {' -> '.join(last)}")

    def _say_notes(self, kept_in_file: bool) -> None:
        if len(self._notes) <= SHOWN:
            # The first chains, too: a name may be shared by one without a note.
            known = [(name, file) for name, file, _ in (*self._notes, *self._rows)]
            chains: dict[str, list[str]] = {}
            for name, (_, _, note) in zip(distinct(known), self._notes, strict=False):
                chains.setdefault(note, []).append(name)
            for note, names in chains.items():
                more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
                say(console, f"note: {', '.join(names[:NAMED])}{more}: {note}")
        else:
            kept = " (each is in the output file)" if kept_in_file else ""
            say(console, f"notes{kept}:")
            _counts(self._kinds.elements(), "chain")


def settings(provenance: Mapping[str, Any]) -> str:
    """Return what results were made with, in one line."""
    return "  ".join(f"{key}={value}" for key, value in provenance.items() if value is not None)


class Notes(_Run):
    """Notes on chains, for commands without a table of chains."""

    def add(self, chain: Chain) -> None:
        """Count one chain in."""
        self._count(chain)

    def report(self) -> None:
        """Print the notes, and of many how often each was met."""
        self._say_notes(kept_in_file=False)


class Tally(_Run):
    """What is remembered of embeddings."""

    header = ("gaps", "protein", "residue", "pair")

    def __init__(self) -> None:
        super().__init__()
        self.widths = 0, 0

    def add(self, embedding: Embedding) -> None:
        """Count one embedding in."""
        self.widths = embedding.residue.shape[1], embedding.protein.shape[0]
        arrays = (embedding.protein, embedding.residue, embedding.pair)
        shapes = ("-" if array is None else str(array.shape) for array in arrays)
        self._count(embedding.chain, str(int(embedding.gap_after.sum())), *shapes)

    def report(self, provenance: Mapping[str, Any] | None, out: Path) -> None:
        """Print what was embedded, with what (if given), and where it went."""
        residue, protein = self.widths
        same = residue == protein
        made = f"{residue} channels" if same else f"{residue} channels a residue, {protein} a protein"
        self._report(provenance, made, str(out), notes_kept=True)


class ProfileTally(_Run):
    """What is remembered of profiles."""

    header = ()

    def add(self, embedding: Embedding) -> None:
        """Count one chain in."""
        self._count(embedding.chain)

    def report(self, provenance: Mapping[str, Any] | None, out: Path) -> None:
        """Print what profiles were made of, with what (if given), and where they went."""
        self._report(provenance, "profiles", str(out), notes_kept=False)


class SiteTally(_Run):
    """What is remembered of predicted sites."""

    header = ("sites",)

    def __init__(self) -> None:
        super().__init__()
        self.sites = 0

    def add(self, prediction: SitePrediction) -> None:
        """Count the sites of one chain in."""
        sites = int(prediction.is_site.sum())
        self.sites += sites
        self._count(prediction.chain, str(sites), notes=prediction.notes)

    def report(self, provenance: Mapping[str, Any] | None, out: Path) -> None:
        """Print what was predicted, with what (if given), and where it went."""
        self._report(provenance, number_of(self.sites, "site"), str(out), notes_kept=False)


def report_notes(chains: Iterable[Chain]) -> None:
    """Print the notes on chains."""
    notes = Notes()
    for chain in chains:
        notes.add(chain)
    notes.report()


def report_skipped(skipped: Sequence[Skipped], *, kept_in: Path | None = None) -> None:
    """Print what was not embedded, each with its reason.

    Of many whose reasons are in the output file `kept_in`, how often each reason was met is printed instead.
    """
    if len(skipped) <= SHOWN or kept_in is None:
        for s in skipped:
            say(console, f"skipped: {s}")
        return
    files = [s.kind for s in skipped if not s.chain_id]
    chains = [s.kind for s in skipped if s.chain_id]
    say(console, f"{count_skipped(skipped)} skipped (details: {kept_in}):")
    _counts(files, "input")
    _counts(chains, "chain")


def count_skipped(skipped: Sequence[Skipped]) -> str:
    """Return how many inputs and how many chains of others are among what was skipped, in words."""
    chains = sum(bool(s.chain_id) for s in skipped)
    numbers = ((len(skipped) - chains, "input"), (chains, "chain"))
    return " and ".join(number_of(count, noun) for count, noun in numbers if count) or "nothing"


def nothing_done(skipped: Sequence[Skipped], done: str, out: Path | None) -> ProtembError:
    """Return the error of a run that gave nothing: the only failure there was, or that all failed.

    What that error does not say is printed.
    """
    failures = [s for s in skipped if s.error is not None]
    if len(failures) == 1 and (only := failures[0].error) is not None:
        if failures[0].chain_id:  # else the error says what the file's chains are
            report_skipped([s for s in skipped if s.error is None])
        return only
    report_skipped(skipped)
    inputs = {s.source for s in skipped}
    what = f"none of the {len(inputs)} inputs" if len(inputs) != 1 else f"nothing in {inputs.pop()}"
    unwritten = "" if out is None else f"; {out} was not written"
    return StructureError(f"{what} could be {done}{unwritten}")


def size_of(*files: Path) -> str:
    """Return how large files are together, in words."""
    size = sum(file.stat().st_size for file in files)
    return f"{size / 2**20:.1f} MiB" if size >= 2**20 else f"{size / 2**10:.1f} KiB"


def _counts(reasons: Iterable[str], noun: str) -> None:
    kinds = Counter(reasons).most_common()
    for kind, count in kinds[:SHOWN]:
        say(console, f"{number_of(count, noun):>14}  {kind}")
    rest = sum(count for _, count in kinds[SHOWN:])
    if rest:
        say(console, f"{number_of(rest, noun):>14}  for other reasons")


def number_of(count: int, noun: str) -> str:
    """Return a count with its noun, as in "1 chain" or "1,200 chains"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
