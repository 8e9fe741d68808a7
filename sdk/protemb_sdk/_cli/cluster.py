"""`protemb cluster`: groups of chains of a store with similar protein vectors."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from protemb_sdk._base.console import note_replaced, out_console, say
from protemb_sdk._base.names import distinct
from protemb_sdk._cli.summary import number_of

COLUMNS = ("cluster", "size", "representative", "id", "chain", "source", "length", "similarity")
SHOWN = 10
"""Clusters that are printed."""


def cluster(
    store: Annotated[
        Path, typer.Argument(help="Store or .parquet file, made by protemb embed FOLDER -o STORE.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Table to write (.csv), one row for each chain.")],
    similarity: Annotated[
        float,
        typer.Option(
            min=-1, max=1, help="Mean cosine similarity of protein vectors down to which clusters are joined."
        ),
    ] = 0.5,
) -> None:
    """Group the chains of a store by the similarity of their protein vectors (average linkage).

    Prints the largest clusters. Columns of the table: cluster (number, the largest first), size,
    representative (1 or 0), id, chain, source, length, similarity (to the representative).
    """
    from protemb_sdk._base.output import check_apart, check_ending, writable_target, write_text_whole
    from protemb_sdk._search.clusters import cluster_store

    check_ending(writable_target(out), ".csv")
    check_apart([out], [store])
    note_replaced([out])
    members = cluster_store(store, similarity)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in members:
        writer.writerow(
            [
                one.cluster, one.size, int(one.representative), one.id, one.chain_id, one.source, one.length,
                f"{one.similarity:.4f}",
            ]
        )  # fmt: skip
    write_text_whole(out, text.getvalue())
    first = [one for one in members if one.representative]
    table = Table("cluster", "chains", "representative", "residues", box=None)
    names = distinct((one.id, one.source) for one in first[:SHOWN])
    for name, one in zip(names, first, strict=False):
        table.add_row(*map(Text, (str(one.cluster), str(one.size), name, str(one.length))))
    out_console.print(table)
    if len(first) > SHOWN:
        say(out_console, f"and {len(first) - SHOWN} more in {out}")
    alone = sum(one.size == 1 for one in first)
    chains, clusters = number_of(len(members), "chain"), number_of(len(first), "cluster")
    say(out_console, f"{chains} in {clusters}, {alone} of one chain -> {out}")
