"""HTML report of a set of structures: map, table, neighbours and three-dimensional view."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.names import distinct
from protemb_sdk._base.output import write_text_whole
from protemb_sdk._embed.embedding import Embedding
from protemb_sdk._model.models import BUNDLED, CONTRACT
from protemb_sdk._search.clusters import cluster_vectors, compared_vectors
from protemb_sdk._structure.chain import Skipped
from protemb_sdk._structure.fold import fold_of
from protemb_sdk.plot import principal_colours

__all__ = ["write_report"]

TEMPLATE = BUNDLED / "report.html"
NEIGHBOURS = 5
# Cosine similarity of protein embeddings below which a chain is not shown as a neighbour.
SIMILAR = 0.3
# Residues of a set beyond which structures are left out of the page: 20 MB.
SHOWN_RESIDUES = 500_000
# Names of what was skipped for one reason, beyond which they are counted.
SKIPPED_SHOWN = 50


def write_report(
    embeddings: Iterable[Embedding],
    out: str | PathLike[str],
    *,
    skipped: Sequence[Skipped] = (),
    provenance: Mapping[str, Any] | None = None,
    cluster_similarity: float | None = None,
) -> int:
    """Write the HTML report, completely or not at all.

    Parameters
    ----------
    embeddings : iterable of Embedding
        Of one model; residues and C-alphas of all are held in memory.
    out : path
        HTML file.
    skipped : sequence of Skipped
        What was skipped; read after the last embedding.
    provenance : mapping, optional
        Of the Embedder.
    cluster_similarity : float, optional
        Also show clusters: joined down to this mean cosine similarity, as by `search.cluster_store`.

    Returns
    -------
    int
        Chains on the page.

    Raises
    ------
    StructureError
        If there is no embedding.
    EmbeddingError
        If `cluster_similarity` is not between -1 and 1, or SciPy is not installed.
    OutputError
        If the file cannot be written.

    Examples
    --------
    >>> from protemb_sdk import Embedder
    >>> from protemb_sdk.report import write_report
    >>> write_report(Embedder(device="cpu").embed_many(["1a8o.cif"]), "report.html")
    1
    """
    found = list(embeddings)
    if not found:
        raise StructureError("there is no chain to report on; nothing was written", out)
    proteins = np.stack([embedding.protein for embedding in found])
    compared = compared_vectors(proteins, found[0].provenance.get("contract", CONTRACT))
    at, explained = _map(proteins)
    residues = sum(map(len, found))
    colours = _colours(found) if residues <= SHOWN_RESIDUES else None
    clusters = None if cluster_similarity is None else cluster_vectors(compared, cluster_similarity)
    cosines = compared @ compared.T
    np.fill_diagonal(cosines, -np.inf)
    chains = [_row(e, at[n], cosines[n], colours[n] if colours else None) for n, e in enumerate(found)]
    for row, name in zip(chains, distinct((e.id, e.chain.source) for e in found), strict=True):
        row["id"] = name
    if clusters is not None:
        for row, number in zip(chains, clusters.tolist(), strict=True):
            row["cluster"] = number + 1
    noun = "embedding" if any(embedding.chain.is_complex for embedding in found) else "chain"
    about = f"{len(found):,} {noun}{'s' * (len(found) != 1)}, {residues:,} residues."
    if provenance is not None:
        about += f" Model {provenance['model']}, protemb-sdk {provenance['sdk_version']}."
    data = json.dumps(
        {
            "about": about,
            "explained": f"{explained:.0%}",
            "similar": SIMILAR,
            "skipped": _grouped(skipped),
            "chains": chains,
        },
        separators=(",", ":"),
    )
    # Names come from files: nothing in them may end the element that holds the data.
    safe = data.replace("<", "\\u003c")
    write_text_whole(Path(out), TEMPLATE.read_text(encoding="utf-8").replace("/*DATA*/", safe))
    return len(found)


def _map(protein_NC: NDArray[np.float32]) -> tuple[NDArray[np.float64], float]:
    """Return two principal components and the share of the variance that they hold."""
    centred = protein_NC.astype(np.float64) - protein_NC.mean(axis=0)
    values, axes = np.linalg.eigh(centred.T @ centred)
    total = values.sum()
    return centred @ axes[:, :-3:-1], float(values[-2:].sum() / total) if total > 0 else 0.0


def _grouped(skipped: Sequence[Skipped]) -> list[dict[str, Any]]:
    """Return what was skipped by reason, the most frequent first.

    A file is left out where its reason repeats those of its chains, which are there too.
    """
    chains: dict[str, list[str]] = {}
    for s in skipped:
        if s.chain_id:
            chains.setdefault(s.source, []).append(s.reason)
    groups: dict[str, list[str]] = {}
    for s in skipped:
        own = [] if s.chain_id else chains.get(s.source, [])
        if not own or any(reason not in s.reason for reason in own[:5]):
            name = str(s) if s.reason != s.kind else str(s).removesuffix(f": {s.reason}")
            groups.setdefault(s.kind, []).append(name)
    most_first = sorted(groups.items(), key=lambda group: -len(group[1]))
    return [{"reason": kind, "count": len(of), "names": of[:SKIPPED_SHOWN]} for kind, of in most_first]


def _colours(found: Sequence[Embedding]) -> list[str]:
    """Return one colour (six hexadecimal digits) for each residue, comparable between chains."""
    every = principal_colours(np.concatenate([embedding.readout("residue") for embedding in found]))
    ends = np.cumsum([len(embedding) for embedding in found])[:-1]
    return [np.rint(255 * part).astype(np.uint8).tobytes().hex() for part in np.split(every, ends)]


def _row(
    embedding: Embedding, at: NDArray[np.float64], cosine: NDArray[np.float32], colours: str | None
) -> dict[str, Any]:
    near = np.argsort(-cosine, kind="stable")[: min(NEIGHBOURS, len(cosine) - 1)]
    row: dict[str, Any] = {
        "id": embedding.id,
        "source": embedding.chain.source,
        "length": len(embedding),
        "missing": int(embedding.chain.missing_after.sum()),
        "at": [round(float(x), 4) for x in at],
        "near": [[int(n), round(float(cosine[n]), 4)] for n in near if cosine[n] >= SIMILAR],
    }
    if colours is not None:
        broken = np.append(np.diff(embedding.residue_index) > 1, False)  # at gaps and ends of chains
        row |= {
            "xyz": np.round(embedding.chain.centred_coords, 1).tolist(),
            "colours": colours,
            "sequence": embedding.sequence,
            "fold": fold_of(embedding.chain.ca_coords, broken),
            "gap": np.flatnonzero(broken).tolist(),
            "numbers": embedding.chain.residue_labels,
        }
    return row
