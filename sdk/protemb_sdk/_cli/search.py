"""`protemb search`: the chains of an index that fold like a structure."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table
from rich.text import Text

from protemb_sdk._base.console import console, note_replaced, out_console, say
from protemb_sdk._base.errors import ModelError, StructureError
from protemb_sdk._base.limits import DEFAULT_TIMEOUT
from protemb_sdk._base.names import distinct
from protemb_sdk._base.output import check_apart, check_ending, writable_target, write_text_whole
from protemb_sdk._cli.fetch import present
from protemb_sdk._cli.options import (
    Altloc,
    Assembly,
    Chains,
    Complex,
    Device,
    Fetch,
    File,
    MinPlddt,
    Threads,
    Timeout,
    chosen,
)
from protemb_sdk._cli.summary import nothing_done, report_notes, report_skipped
from protemb_sdk._search.hits import note_on_short
from protemb_sdk._structure.archives import is_archive
from protemb_sdk.search import CANDIDATES, open_index

if TYPE_CHECKING:
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk.search import Hit, Index

COLUMNS = (
    "query", "rank", "id", "chain", "source", "length", "tm_score", "tm_query", "tm_target", "e_value",
    "rmsd", "aligned", "identity", "similarity", "query_first", "query_last", "hit_first", "hit_last",
)  # fmt: skip
Sort = Literal["tm", "tm-query", "tm-target", "similarity"]


def search(
    query: File,
    index: Annotated[Path, typer.Option("--index", help="Folder made by protemb index.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits of each chain of the query.")] = 20,
    chain: Chains = None,
    together: Complex = False,
    assembly: Assembly = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also a table of the hits, CSV.")] = None,
    sort: Annotated[
        Sort | None,
        typer.Option(
            help="Order of the hits: tm (mean of both TM-scores, default), tm-query or tm-target (divided by "
            "the length of the query or of the hit), similarity (of protein vectors)."
        ),
    ] = None,
    candidates: Annotated[
        int,
        typer.Option(min=1, help="Chains with the most similar protein vectors that are compared."),
    ] = CANDIDATES,
    model: Annotated[str | None, typer.Option(help="Model of the index, if it is not bundled.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    altloc: Altloc = "highest",
    fetch: Fetch = False,
    timeout: Timeout = DEFAULT_TIMEOUT,
    min_plddt: MinPlddt = None,
) -> None:
    """Find the chains of an index with a fold similar to that of a structure.

    Candidates are the chains with the most similar protein vectors. Each is superposed on the query, and the
    hits are sorted by TM-score. TM-scores, RMSD, number of aligned residues and identity belong to this
    superposition.

    Columns of the table: query, rank, id, chain, source, length, tm_score (mean of the next two),
    tm_query and tm_target (divided by the length of the query and of the hit), e_value (number of
    unrelated chains expected with such a score), rmsd (angstrom), aligned, identity (fraction of these),
    similarity (cosine of protein vectors), first and last aligned residue of query and hit (counted from 1
    along the residues with coordinates).
    """
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._model.models import find_model

    (query,) = present([query], fetch, timeout)
    one, several = chosen(chain, together, assembly)
    if os.path.isdir(query) or is_archive(str(query)):
        what = "a folder" if os.path.isdir(query) else "an archive"
        raise StructureError(f"is {what}; search takes one structure file, so call it for each", query)
    opened = open_index(index)
    if out is not None:
        own = [] if model is None else [find_model(model).path]
        check_apart([writable_target(out)], [query, *index.iterdir(), *own])
        check_ending(out, ".csv")
        note_replaced([out])
    embedder = Embedder(
        model or _model_of(opened), device, threads=threads, altloc=altloc, min_plddt=min_plddt,
        **several,
    )  # fmt: skip
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for embedding in _queries(embedder, query, one):
        report_notes([embedding.chain])
        hits = opened.search(embedding, k, candidates, sort)
        _show(embedding, hits)
        for rank, hit in enumerate(hits, start=1):
            writer.writerow(_row(embedding, rank, hit))
    if out is not None:
        write_text_whole(out, text.getvalue())


def _model_of(index: Index) -> str:
    from protemb_sdk._model.models import list_models

    provenance = index.header["provenance"]
    for model in list_models():
        if provenance["model_sha256"] in model.sha256.values():
            return model.name
    raise ModelError(
        f"made with {provenance['model']!r}, which is no model of this version; pass its file with --model",
        index.path,
    )


def _queries(embedder: Embedder, query: Path, chain: str | None) -> list[Embedding]:
    if chain is not None:
        return [embedder.embed(query, chain)]
    run = embedder.embed_many([query], on_error="skip")
    found = list(run)
    if not found:
        raise nothing_done(run.skipped, "embedded", None)
    report_skipped(run.skipped)
    return found


def _show(query: Embedding, hits: list[Hit]) -> None:
    say(out_console, f"{query.id}, {len(query)} residues")
    superposed = not hits or hits[0].tm_score == hits[0].tm_score
    scores = ("TM-score", "TM/\nquery", "TM/\nhit", "E-value", "RMSD", "aligned", "identity")
    columns = ("rank", "hit", "residues", *(scores if superposed else ("similarity",)))
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in columns:  # long names are continued in the next line, numbers are never cut
        table.add_column(column, overflow="fold", no_wrap=column != "hit")
    names = distinct((hit.id, hit.source) for hit in hits)
    for rank, (name, hit) in enumerate(zip(names, hits, strict=True), start=1):
        cells = [str(rank), name, str(hit.length)]
        if superposed:
            cells += [f"{score:.3f}" for score in (hit.tm_score, hit.tm_query, hit.tm_target)]
            cells.append(f"{hit.e_value:.1e}")
            cells += [f"{hit.rmsd:.1f}", str(len(hit.pairs)), f"{hit.identity:.0%}"] if len(hit.pairs) else []
        else:
            cells.append(f"{hit.similarity:.3f}")
        table.add_row(*map(Text, cells))  # names may hold what Rich takes for markup
    out_console.print(table)
    if not superposed:
        say(console, "note: the index has only protein vectors; hits have no TM-score, sorted by similarity")
    elif note := note_on_short(hits, len(query)):
        say(console, note)


def _row(query: Embedding, rank: int, hit: Hit) -> list[object]:
    ends = [""] * 4
    if len(hit.pairs):  # residues with coordinates, counted from 1
        ends = [str(hit.pairs[end, side] + 1) for side in (0, 1) for end in (0, -1)]
    scores = [f"{n:.4f}" for n in (hit.tm_score, hit.tm_query, hit.tm_target)]
    return [
        query.id, rank, hit.id, hit.chain_id, hit.source, hit.length, *scores, f"{hit.e_value:.2e}",
        f"{hit.rmsd:.4f}", len(hit.pairs), f"{hit.identity:.4f}", f"{hit.similarity:.4f}", *ends,
    ]  # fmt: skip
