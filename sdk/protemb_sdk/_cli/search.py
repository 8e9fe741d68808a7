"""What `protemb index`, `protemb search` and `protemb verify` do: commands about stores."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from protemb_sdk._base.console import check_there, console, out_console, say
from protemb_sdk._base.errors import ModelError, OutputError, StructureError
from protemb_sdk._base.output import check_apart, writable_target, write_text_whole
from protemb_sdk._cli.summary import nothing_done, report_skipped, size_of
from protemb_sdk._structure.archives import is_archive_name

if TYPE_CHECKING:
    from protemb_sdk._embed.embedder import Embedder
    from protemb_sdk._embed.embedding import Embedding
    from protemb_sdk.search import Hit, Index

COLUMNS = (
    "query", "rank", "id", "chain", "source", "length", "score", "tm_score", "cosine", "aligned", "identity",
    "query_first", "query_last", "hit_first", "hit_last",
)  # fmt: skip


def index(
    store: Annotated[
        Path, typer.Argument(help="Store or .parquet file, made by protemb embed FOLDER -o STORE.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder to make.")],
) -> None:
    """Make an index of a store or of a .parquet file, to search it with `protemb search`."""
    from protemb_sdk.search import build_index

    count = build_index(store, out)
    say(out_console, f"{count} chains -> {out}, {size_of(*out.iterdir())}")


def search(
    query: Annotated[Path, typer.Argument(help="Structure file (PDB, mmCIF, mmJSON, .gz).")],
    index: Annotated[Path, typer.Option("--index", help="Folder made by protemb index.")],
    k: Annotated[int, typer.Option("-k", min=1, help="Hits of each chain of the query.")] = 20,
    chain: Annotated[str | None, typer.Option(help="Only this chain (author or label name).")] = None,
    out: Annotated[Path | None, typer.Option("-o", "--out", help="Also a table of the hits, CSV.")] = None,
    candidates: Annotated[
        int, typer.Option(min=1, help="Chains whose residues are aligned with the query's.")
    ] = 200,
    model: Annotated[
        str | None, typer.Option(help="Model of the index, where it is none of the bundled.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads in all.")] = None,
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
    embedder = Embedder(model or _model_of(opened), device, threads=threads)
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


def verify(
    store: Annotated[Path, typer.Argument(help="Store, made by protemb embed FOLDER -o STORE.")],
    sample: Annotated[int, typer.Option(min=1, help="Rows to draw at random.")] = 20,
    seed: Annotated[int, typer.Option(help="Same seed, same rows.")] = 0,
    model: Annotated[
        str | None, typer.Option(help="Model of the store, where it is none of the bundled.")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "cpu",
) -> None:
    """Embed the files of some rows of a store again, and compare; exit status 1 if any differs."""
    from protemb_sdk._store.verify import verify_store

    found = verify_store(store, sample, seed, model=model, device=device)
    for skipped in found.missing:
        say(console, f"not compared: {skipped}")
    say(
        out_console,
        f"{found.rows} rows computed again, largest deviation {found.worst:.1e} of a vector's largest value",
    )
    if found.wrong:
        raise OutputError(
            f"{len(found.wrong)} rows are not what their files give: {', '.join(found.wrong[:5])}", store
        )
    if not found.rows:
        raise OutputError(f"none of the {len(found.missing)} files of the sample could be read", store)


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
