"""`protemb quality`: a ranked table of models, their profiles, and copies with B-factors."""

from __future__ import annotations

import os
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table
from rich.text import Text

from protemb_sdk._base.console import console, note_replaced, out_console, say
from protemb_sdk._base.errors import OutputError, ProtembError, printable
from protemb_sdk._base.names import distinct
from protemb_sdk._base.output import (
    check_apart,
    check_ending,
    figures,
    files_in,
    picture_kind,
    writable_target,
    writing_csv,
    written_whole,
)
from protemb_sdk._cli.runs import check_chain, results_of
from protemb_sdk._cli.summary import SHOWN, nothing_done, report_notes, report_skipped, settings
from protemb_sdk._embed.picture import round_numbers
from protemb_sdk._model.heads import find_head
from protemb_sdk._predict.b_factors import has_structure_ending, write_b_factors
from protemb_sdk._predict.quality import QualityScore, QualityScorer
from protemb_sdk._structure.columns import RESIDUE, residues_of, source_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from protemb_sdk._structure.chain import Chain

COLUMNS = ("rank", "source", "chain", "residues", "missing", "gdt_ts", "lddt", "plddt")
RESIDUE_COLUMNS = (*RESIDUE, "lddt", "plddt")
BARS = " ▁▂▃▄▅▆▇█"
WIDTH = 30  # of a profile in the terminal
DRAWN = 8  # profiles in one picture


def score_files(
    files: list[Path],
    *,
    out: Path | None,
    residues: Path | None,
    plot: Path | None,
    structures: Path | None,
    head: str,
    device: str,
    threads: int | None,
    workers: int,
    quiet: bool,
    verbose: bool = False,
    chain: str | None = None,
    altloc: str = "highest",
    min_plddt: float | None = None,
) -> None:
    """Score every protein chain, print them best first, and write the requested files.

    Parameters
    ----------
    files : list of Path
        Structure files and folders.
    out, residues : Path or None
        CSV to write: one row for each chain, and one for each residue.
    plot : Path or None
        Picture of the profiles of the best chains.
    structures : Path or None
        Folder of copies of the files, lDDT as B-factors. A file that cannot be copied is told.
    head, device, threads, workers
        As in `QualityScorer` and `QualityScorer.score_many`.
    quiet : bool
        Say only what was skipped.
    verbose : bool
        Also print the settings.
    chain : str or None
        Only this chain, of exactly one file.
    altloc, min_plddt
        As in `Embedder`.

    Raises
    ------
    ProtembError
        If nothing could be scored, or something not be written; of `structures`, if no copy could.
    """
    targets = [writable_target(path) for path in (out, residues, plot) if path is not None]
    if plot is not None:
        picture_kind(plot)  # or say now what is wrong, not after the work
    check_chain(files, chain)
    copies = {} if structures is None else _copies(files_in(files), structures)
    check_apart([*targets, *copies.values()], [*files, find_head(head).path])
    for table in (out, residues):
        if table is not None:
            check_ending(table, ".csv")
    note_replaced([*targets, *copies.values()], quiet=quiet)
    scorer = QualityScorer(head, device, threads=threads, altloc=altloc, min_plddt=min_plddt)
    with results_of(files, chain, scorer.score, scorer.score_many, workers=workers, quiet=quiet) as (
        run,
        skipped,
    ):
        ranked = sorted(run, key=lambda score: -score.gdt_ts)
    if not ranked:
        raise nothing_done(skipped, "scored", None)
    if out is not None:
        _write_scores(ranked, out)
    if residues is not None:
        _write_residues(ranked, residues)
    if plot is not None:
        with written_whole(plot) as part:
            profiles(ranked[:DRAWN]).savefig(part, format=picture_kind(plot))
    if not quiet:
        _print(ranked)
        if verbose:
            say(out_console, settings(scorer.provenance))
        report_notes(score.chain for score in ranked)
    for sentence in _doubts(ranked):
        say(console, sentence)
    report_skipped(skipped)
    if structures is not None:
        _write_copies(ranked, copies, structures)


def missing(score: QualityScore) -> int:
    """Return how many residues are missing inside a chain."""
    return int(score.chain.missing_after.sum())


def spark(score: QualityScore) -> str:
    """Return the profile of lDDT along a chain as bars, at most `WIDTH` of them."""
    length = len(score)
    parts = min(WIDTH, length)
    means = [score.residue_lddt[k * length // parts : (k + 1) * length // parts].mean() for k in range(parts)]
    return "".join(BARS[1 + min(int(mean * 8), 7)] for mean in means)


def profiles(scores: Sequence[QualityScore]) -> Figure:
    """Draw lDDT along the chains, one line each, over author residue numbers; lines are broken at gaps.

    Each residue with an insertion code has a place of its own.

    Raises
    ------
    OutputError
        If matplotlib is not installed.
    """
    figure = figures()(figsize=(9.6, 4.2), dpi=150, layout="constrained", facecolor="white")
    axes = figure.subplots()
    residues = [_residues(score.chain) for score in scores]
    inserted = sorted({(number, code) for own in residues for number, code in own if code})
    lines = []
    for score, own in zip(scores, residues, strict=True):
        number = np.array([_place(inserted, *residue) for residue in own], dtype=np.float64)
        value = score.residue_lddt.astype(np.float64)
        breaks = np.flatnonzero(~np.isin(np.diff(score.chain.auth_seq), (0, 1))) + 1
        number, value = np.insert(number, breaks, np.nan), np.insert(value, breaks, np.nan)
        there = np.concatenate([[False], np.isfinite(value), [False]])
        alone = np.flatnonzero(there[1:-1] & ~there[:-2] & ~there[2:]).tolist()  # no line leads to them
        marker = "." if alone else None
        lines += axes.plot(number, value, linewidth=1.2, marker=marker, markersize=3, markevery=alone)
    named = [number for own in residues for number, _ in own]
    ticks = [int(n) for n in round_numbers(min(named), max(named)) if min(named) <= n <= max(named)]
    axes.set_xticks([_place(inserted, number) for number in ticks], list(map(str, ticks)))
    axes.set(xlabel="author residue number", ylabel="expected lDDT (C-alpha)", ylim=(0, 1))
    # Names come last: a legend leaves out those with a leading underscore, and takes dollars for mathematics.
    legend = axes.legend(lines, [""] * len(lines), fontsize=7.5, frameon=False, ncols=2)
    names = distinct((score.id, score.chain.source) for score in scores)
    for text, name, score in zip(legend.get_texts(), names, scores, strict=True):
        text.set(text=f"{name}  GDT_TS {score.gdt_ts:.2f}", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _residues(chain: Chain) -> list[tuple[int, str]]:
    """Return author number and insertion code of each residue."""
    return list(zip(chain.auth_seq.tolist(), chain.insertion_code.tolist(), strict=True))


def _place(inserted: Sequence[tuple[int, str]], number: int, code: str = "") -> int:
    """Return the place of a residue on the axis; each inserted residue moves those after it by one."""
    return number + bisect_right(inserted, (number, code))


def _copies(files: Iterable[Path], folder: Path) -> dict[Path, Path]:
    """Return where a copy of each file goes that can be written; the folder is made when the first is.

    Raises
    ------
    OutputError
        If two files would have one name, or no folder can be there.
    """
    copies = {file: folder / file.name for file in files if has_structure_ending(file)}
    doubled = [name for name, count in Counter(copies.values()).items() if count > 1]
    if doubled:
        raise OutputError("several inputs have this name; score them folder by folder", doubled[0])
    there = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not os.path.isdir(there):
        raise OutputError(f"the folder cannot be made ({there} is not a folder)", folder)
    return copies


def _write_copies(ranked: Sequence[QualityScore], copies: Mapping[Path, Path], folder: Path) -> None:
    """Write a copy of each scored file, and report files that cannot be copied.

    Raises
    ------
    OutputError
        If there is no copy at all.
    """
    scores: dict[str, list[QualityScore]] = {}
    for score in ranked:
        scores.setdefault(score.chain.source, []).append(score)
    paths = {printable(str(path)): path for path in copies}
    new, written = not os.path.exists(folder), 0
    for source, of_source in scores.items():
        if source not in paths:
            say(console, f"no copy of {source}: copies are of .pdb and .cif, also .gz, outside archives")
            continue
        path = paths[source]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_b_factors(path, copies[path], of_source)
            written += 1
        except ProtembError as error:
            say(console, f"no copy of {source}: {error.problem}")
        except OSError as error:
            say(console, f"no copy of {source}: {error.strerror or error}")
    if not written:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise OutputError("no copy could be written; what was scored is said above", folder)


def _write_scores(ranked: Sequence[QualityScore], out: Path) -> None:
    with writing_csv(out, COLUMNS) as table:
        for rank, s in enumerate(ranked, start=1):
            where = (source_of(s.chain), s.chain.chain_id)
            plddt = _cell(s.plddt)
            table.writerow((rank, *where, len(s), missing(s), f"{s.gdt_ts:.4f}", f"{s.lddt:.4f}", plddt))


def _write_residues(ranked: Sequence[QualityScore], out: Path) -> None:
    with writing_csv(out, RESIDUE_COLUMNS) as table:
        for s in ranked:
            plddt = [None] * len(s) if s.residue_plddt is None else s.residue_plddt.tolist()
            for residue, value, own in zip(residues_of(s.chain), s.residue_lddt.tolist(), plddt, strict=True):
                table.writerow((*residue, f"{value:.4f}", _cell(own)))


def _cell(plddt: float | None) -> str:
    return "" if plddt is None or np.isnan(plddt) else f"{plddt:.2f}"


def _print(ranked: Sequence[QualityScore]) -> None:
    known = ["pLDDT"] if any(score.plddt is not None for score in ranked) else []
    table = Table("rank", "model", "residues", "GDT_TS", "lDDT", *known, "lDDT along the chain", box=None)
    names = distinct((score.id, score.chain.source) for score in ranked)
    for rank, (name, score) in enumerate(zip(names[:SHOWN], ranked, strict=False), start=1):
        plddt = [_cell(score.plddt)] if known else []
        cells = (str(len(score)), f"{score.gdt_ts:.3f}", f"{score.lddt:.3f}", *plddt, spark(score))
        table.add_row(*map(Text, (str(rank), name, *cells)))  # names may hold what Rich takes for markup
    out_console.print(table)
    if len(ranked) > SHOWN:
        say(out_console, f"and {len(ranked) - SHOWN} more; --out writes all of them")


def _doubts(ranked: Sequence[QualityScore]) -> list[str]:
    """Return what makes ranks doubtful: models of other sequences, with residues missing."""
    found = []
    (usual, count), *_ = Counter(score.chain.sequence for score in ranked).most_common(1)
    one = next(score.chain for score in ranked if score.chain.sequence == usual)
    others = [score for score in ranked if not _is_one_sequence(score.chain, one)]
    if others:
        number, problem = len(others) + 1, "have different sequences"
        if count > 1:
            number, problem = len(others), f"differ from the most frequent sequence (such as {others[0].id})"
        found.append(f"note: {number} of {len(ranked)} chains {problem}; ranks compare models of one target")
    if gaps := [score for score in ranked if missing(score)]:
        most = max(map(missing, gaps))
        found.append(
            f"note: {len(gaps)} of {len(ranked)} chains lack residues inside, up to {most}; scores are of "
            "the residues that are there"
        )
    return found


def _is_one_sequence(a: Chain, b: Chain) -> bool:
    """Tell whether chains have one sequence, of which residues may be missing."""
    if a.sequence in b.sequence or b.sequence in a.sequence:
        return True
    mine, theirs = (
        dict(zip(zip(c.auth_seq.tolist(), c.insertion_code.tolist(), strict=True), c.sequence, strict=True))
        for c in (a, b)
    )
    common = mine.keys() & theirs.keys()
    return bool(common) and all(mine[residue] == theirs[residue] for residue in common)
