"""`protemb search`: the chains of an index that fold like a structure."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from protemb_sdk._base.console import check_there, out_console, say
from protemb_sdk._base.errors import ModelError, StructureError
from protemb_sdk._base.output import check_apart, check_ending, writable_target, write_text_whole
from protemb_sdk._cli.options import Altloc, ChainId, Device, File, Threads
from protemb_sdk._cli.summary import nothing_done, report_skipped
from protemb_sdk._structure.archives import is_archive_name

if TYPE_CHECKING:
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk.search import Hit, Index

COLUMNS = (
    "query", "rank", "id", "chain", "source", "length", "score", "tm_score", "cosine", "aligned", "identity",
    "query_first", "query_last", "hit_first", "hit_last",
)  # fmt: skip


def search(
    query: File,
    index: Annotated[Path, typer.Option("--index", help="Folder made by protemb index.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits of each chain of the query.")] = 20,
    chain: ChainId = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also a table of the hits, CSV.")] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Chains whose residues are aligned with the query's.")
    ] = 200,
    model: Annotated[str | None, typer.Option(help="Model of the index, if it is not bundled.")] = None,
    device: Device = "auto",
    threads: Threads = None,
    altloc: Altloc = "highest",
) -> None:
    """Find the chains of an index that fold like the chains of a structure.

    Ranked by the alignment of their residues (score, 1 for the query itself). Beside it the TM-score after
    superposition, by the length of the query, how many residues are aligned and how many of those are equal.
    """
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._model.models import find_model
    from protemb_sdk.search import open_index

    check_there([query])
    if os.path.isdir(query) or is_archive_name(query.name):
        what = "a folder" if os.path.isdir(query) else "an archive"
        raise StructureError(f"is {what}; search takes one structure file, so call it for each", query)
    opened = open_index(index)
    if out is not None:
        own = [] if model is None else [find_model(model).path]
        check_apart([writable_target(out)], [query, *index.iterdir(), *own])
        check_ending(out, ".csv")
    embedder = Embedder(model or _model_of(opened), device, threads=threads, altloc=altloc)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for embedding in _queries(embedder, query, chain):
        hits = opened.search(embedding, k, candidates)
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
    report_skipped(run.skipped, kept=False)
    return found


def _show(query: Embedding, hits: list[Hit]) -> None:
    say(out_console, f"{query.id}, {len(query)} residues")
    table = Table("rank", "hit", "residues", "cosine", "score", "TM-score", "aligned", "identity", box=None)
    for rank, hit in enumerate(hits, start=1):
        identity = f"{hit.identity:.0%}" if len(hit.pairs) else "-"
        # An index of proteins alone has no alignments.
        numbers = (f"{n:.3f}" if n == n else "-" for n in (hit.cosine, hit.score, hit.tm_score))
        cells = (str(rank), hit.id, str(hit.length), *numbers, str(len(hit.pairs)), identity)
        table.add_row(*map(Text, cells))  # names may hold what Rich takes for markup
    out_console.print(table)


def _row(query: Embedding, rank: int, hit: Hit) -> list[object]:
    ends = [""] * 4
    if len(hit.pairs):  # residues that were seen, counted from 1
        ends = [str(hit.pairs[end, side] + 1) for side in (0, 1) for end in (0, -1)]
    numbers = (hit.score, hit.tm_score, hit.cosine)
    return [
        query.id, rank, hit.id, hit.chain_id, hit.source, hit.length, *(f"{n:.4f}" for n in numbers),
        len(hit.pairs), f"{hit.identity:.4f}", *ends,
    ]  # fmt: skip
