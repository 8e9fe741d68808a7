"""Chains embedded together and alone: contacts, interface residues, order, symmetry, time and memory.

    python benchmarks/complexes.py FOLDER... -o benchmarks/complexes.md

Folders of structure files: pairs `*_r_b.pdb.gz` and `*_l_b.pdb.gz` of the docking benchmark, with two chains
in all, and mmCIF files with two chains. Two minutes on one core.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.dimers import CONTACT, Dimer, dimers_of, embedded, same_residues
from benchmarks.machine import median_seconds, processor
from protemb_sdk import Embedder, join_chains, read_chains
from protemb_sdk._model.models import BUNDLED

SEPARATED = 6
"""Distance along the chain from which on contacts within a chain count."""
NEGATIVES = 20
"""Pairs without contact for each contact, of those that a probe is fitted to."""

PEAK = """
import json, re, sys
from pathlib import Path
import numpy as np
from protemb_sdk import Chain, Embedder, join_chains

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024

chains = []
for name, length in (("A", int(sys.argv[1])), ("B", int(sys.argv[2]))):
    turn = np.arange(length) * np.deg2rad(100.0)
    coords = np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], axis=1)
    chains.append(Chain.from_arrays(coords, "A" * length, chain_id=name))
embedder = Embedder(device="cpu", threads=1)
embedder.embed((chains[0].ca_coords[:30], "A" * 30))
before = peak()
for chain in [join_chains(chains)] if sys.argv[3] == "together" else chains:
    embedder.embed(chain, pair=True)
print(json.dumps(peak() - before))
"""


# --- linear probes --------------------------------------------------------------------------------

Rows = tuple[NDArray[np.float32], NDArray[np.bool_]]


def between_rows(dimer: Dimer) -> Rows:
    """Return vectors and contacts of all pairs of residues of two chains: the block between them."""
    assert dimer.together.pair is not None
    block = dimer.together.pair[: dimer.border, dimer.border :]
    return block.reshape(-1, block.shape[-1]), dimer.contacts.ravel()


def within_rows(dimer: Dimer) -> Rows:
    """Return vectors and contacts of pairs within each chain, embedded alone."""
    vectors, labels = [], []
    for embedding in dimer.alone:
        assert embedding.pair is not None
        index, coords = embedding.residue_index, embedding.chain.ca_coords
        far = np.triu(np.abs(index[:, None] - index) >= SEPARATED)
        vectors.append(embedding.pair[far])
        labels.append((np.linalg.norm(coords[:, None] - coords, axis=-1) < CONTACT)[far])
    return np.concatenate(vectors), np.concatenate(labels)


def residue_pair_rows(dimer: Dimer) -> Rows:
    """Return vectors of residues i and j of the chains alone, put together, and contacts."""
    one, other = (embedding.residue for embedding in dimer.alone)
    left, right = np.repeat(one, len(other), axis=0), np.tile(other, (len(one), 1))
    return np.concatenate([left, right], axis=1), dimer.contacts.ravel()


def interface_rows(dimer: Dimer, together: bool) -> Rows:
    """Return vectors of residues and whether they are in contact with the other chain."""
    touching = np.concatenate([dimer.contacts.any(axis=1), dimer.contacts.any(axis=0)])
    alone = np.concatenate([embedding.residue for embedding in dimer.alone])
    return (dimer.together.residue if together else alone), touching


def fitted(dimers: Sequence[Dimer], rows: Callable[[Dimer], Rows], most: int = 0) -> object:
    """Fit a logistic regression on rows of some dimers, with `most` negatives for each positive if given."""
    rng = np.random.default_rng(0)
    vectors, labels = [], []
    for dimer in dimers:
        x, y = rows(dimer)
        kept = np.flatnonzero(~y)
        if most:
            kept = rng.permutation(kept)[: most * int(y.sum())]
        kept = np.concatenate([np.flatnonzero(y), kept])
        vectors.append(x[kept])
        labels.append(y[kept])
    probe = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return probe.fit(np.concatenate(vectors), np.concatenate(labels))


def tested(
    probe: object, dimers: Sequence[Dimer], rows: Callable[[Dimer], Rows]
) -> list[tuple[float, float]]:
    """Return average precision and share of positives of each dimer."""
    found = []
    for dimer in dimers:
        x, y = rows(dimer)
        found.append((average_precision_score(y, probe.decision_function(x)), y.mean()))  # type: ignore[attr-defined]
    return found


def probed(
    dimers: Sequence[Dimer],
    rows: Callable[[Dimer], Rows],
    *,
    most: int = 0,
    fitted_on: Callable[[Dimer], Rows] | None = None,
) -> tuple[float, float]:
    """Fit on each half of the dimers, test on the other; return mean average precision and prevalence."""
    halves = dimers[::2], dimers[1::2]
    found = []
    for train, test in (halves, halves[::-1]):
        found += tested(fitted(train, fitted_on or rows, most), test, rows)
    precision, share = np.mean(found, axis=0)
    return float(precision), float(share)


# --- order, symmetry, cost ------------------------------------------------------------------------


def difference(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the distance of each row from that of another, as a share of its length."""
    return np.asarray(np.linalg.norm(one - other, axis=-1) / np.linalg.norm(one, axis=-1))


def order_lines(dimers: Sequence[Dimer]) -> list[str]:
    """Return lines on what another order of the chains, and the partner itself, change."""
    near, far, context, proteins, blocks = [], [], [], [], []
    for dimer in dimers:
        border, length = dimer.border, len(dimer.together)
        order = np.r_[length - border : length, 0 : length - border]
        moved = difference(dimer.together.residue, dimer.swapped.residue[order])
        ends = [0, border, length]
        place = np.arange(length)
        from_end = np.min([np.abs(place - end + 0.5) for end in ends], axis=0)
        near.append(moved[from_end < 15])
        far.append(moved[from_end >= 15])
        alone = np.concatenate([embedding.residue for embedding in dimer.alone])
        context.append(difference(alone, dimer.together.residue))
        proteins.append(float(dimer.together.protein @ dimer.swapped.protein))
        assert dimer.together.pair is not None and dimer.swapped.pair is not None
        other = dimer.swapped.pair[order][:, order]
        block = np.s_[:border, border:]
        change = np.linalg.norm((dimer.together.pair - other)[block])
        blocks.append(change / np.linalg.norm(dimer.together.pair[block]))
    shown = [np.concatenate(values) for values in (context, near, far)]
    names = (
        "with and without the partner",
        "other order of the chains, within 15 residues of an end",
        "other order of the chains, other residues",
    )
    return [
        "| residue vectors, relative difference | median | 95th percentile |",
        "|---|---|---|",
        *(
            f"| {name} | {np.median(values):.3f} | {np.percentile(values, 95):.3f} |"
            for name, values in zip(names, shown, strict=True)
        ),
        "",
        f"Another order changes the block between the chains by {np.mean(blocks):.0%} (relative norm). It "
        f"changes the protein vector, which describes parts of the chain in order: the mean cosine of both "
        f"orders is {np.mean(proteins):.2f} ({min(proteins):.2f} to {max(proteins):.2f}).",
    ]


def copy_lines(embedder: Embedder, dimers: Sequence[Dimer]) -> list[str]:
    """Return how much two copies of a protein differ, alone and together."""
    lines = [
        "| homodimer | residues | distance of copies, angstrom | alone | together |",
        "|---|---|---|---|---|",
    ]
    exact = read_chains(BUNDLED / "1a8o.cif", assembly="1").chains
    equal = embedded(embedder, "1a8o, assembly 1", (exact[0], exact[1]))
    every = [equal, *dimers]
    for dimer in every:
        rows = same_residues(dimer.chains)
        assert rows is not None
        one, other = rows
        inner = [
            np.linalg.norm(chain.ca_coords[at, None] - chain.ca_coords[at], axis=-1)
            for chain, at in zip(dimer.chains, rows, strict=True)
        ]
        alone = difference(dimer.alone[0].residue[one], dimer.alone[1].residue[other])
        together = difference(dimer.together.residue[one], dimer.together.residue[dimer.border + other])
        apart = float(np.sqrt(np.square(inner[0] - inner[1]).mean()))
        medians = f"{np.median(alone):.3f} | {np.median(together):.3f}"
        lines.append(f"| {dimer.name} | {len(one)} | {apart:.2f} | {medians} |")
    copies, pair = np.split(equal.together.residue, [equal.border]), equal.together.pair
    assert pair is not None
    between, border = difference(*copies), equal.border
    first, second = pair[:border, :border], pair[border:, border:]
    blocks = np.linalg.norm(first - second) / np.linalg.norm(first)
    return [
        "Two copies of a protein, median relative difference of the vectors of equal residues. *Distance of "
        "copies* is the root mean square difference of their C-alpha distances. The copies of 1A8O are "
        f"equal. Together they differ (95th percentile {np.percentile(between, 95):.3f}, largest "
        f"{between.max():.3f} at residue {np.argmax(between) + 1}; diagonal blocks of the pair map, relative "
        f"norm {blocks:.0%}), because convolutions cross the border of the chains: one copy has it at its "
        "end, the other at its start.",
        "",
        *lines,
    ]


def cost_lines(embedder: Embedder, dimers: Sequence[Dimer]) -> list[str]:
    """Return a table of time and memory of two chains together and one after the other."""
    sizes = sorted(dimers, key=lambda dimer: len(dimer.together))
    lines = [
        "| dimer | residues | separate, s | together, s | separate, MiB | together, MiB |",
        "|---|---|---|---|---|---|",
    ]
    for dimer in (sizes[0], sizes[-1]):
        joined = join_chains(dimer.chains)
        apart = median_seconds(lambda d=dimer: [embedder.embed(c, pair=True) for c in d.chains], 3)  # type: ignore[misc]
        whole = median_seconds(lambda c=joined: embedder.embed(c, pair=True), 3)  # type: ignore[misc]
        first, second = map(len, dimer.chains)
        memory = " | ".join(f"{peak_memory(first, second, how):.0f}" for how in ("apart", "together"))
        lines.append(f"| {dimer.name} | {first} + {second} | {apart:.2f} | {whole:.2f} | {memory} |")
    return lines


def peak_memory(first: int, second: int, how: str) -> float:
    """Return the additional peak memory of two chains of these lengths in a new process, in MiB."""
    command = [sys.executable, "-c", PEAK, str(first), str(second), how]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


def main(
    folders: Annotated[list[Path], typer.Argument(help="Folders of structure files.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Page to write.")],
    dimers: Annotated[int, typer.Option(min=4, help="Dimers of different proteins.")] = 10,
    copies: Annotated[int, typer.Option(min=1, help="Homodimers.")] = 4,
    model: Annotated[str, typer.Option(help="Model.")] = "base",
) -> None:
    """Embed, measure, and write the page."""
    embedder = Embedder(model, device="cpu", threads=1)
    different: list[Dimer] = []
    equal: list[Dimer] = []
    for name, chains in dimers_of(folders):
        kind, most = (different, dimers) if same_residues(chains) is None else (equal, copies)
        if len(kind) < most and name[:4] not in {dimer.name[:4] for dimer in kind}:
            print(name, *map(len, chains), file=sys.stderr)
            kind.append(embedded(embedder, name, chains))
        if len(different) == dimers and len(equal) == copies:
            break
    lines = page(embedder, different, equal)
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def page(embedder: Embedder, different: Sequence[Dimer], equal: Sequence[Dimer]) -> list[str]:
    """Return the lines of the page."""
    between = probed(different, between_rows, most=NEGATIVES)
    transferred = probed(different, between_rows, most=NEGATIVES, fitted_on=within_rows)
    within = probed(different, within_rows, most=NEGATIVES)
    blind = probed(different, residue_pair_rows, most=NEGATIVES)
    alone = probed(different, lambda dimer: interface_rows(dimer, False))
    context = probed(different, lambda dimer: interface_rows(dimer, True))

    def row(task: str, vectors: str, found: tuple[float, float]) -> str:
        return f"| {task} | {vectors} | {found[0]:.3f} | {found[1]:.3f} |"

    contacts, interface = "contacts between chains", "interface residues"
    names = ", ".join(dimer.name for dimer in different)
    return [
        "# Complexes",
        "",
        f"Written by `python benchmarks/complexes.py` ({processor()}, one thread; model "
        f"`{embedder.model.name}`).",
        "",
        f"{len(different)} dimers of different proteins ({names}). C-alphas below {CONTACT:g} angstrom are "
        "in contact; a residue in contact with the other chain is in the interface. Logistic regression, "
        "fitted on half of the dimers, tested on the other half, both ways; mean average precision of "
        "dimers, which were not checked for relatives. Distances are an input of the network: these "
        "rows show that its vectors hold contacts between chains, and predict nothing of unknown complexes.",
        "",
        "| task | vectors | average precision | share of positives |",
        "|---|---|---|---|",
        row(contacts, "pair, together", between),
        row(contacts, "pair, together; fitted within chains alone", transferred),
        row(contacts, "both residues, alone", blind),
        row(f"contacts within a chain, {SEPARATED} or more apart", "pair, alone", within),
        row(interface, "residue, alone", alone),
        row(interface, "residue, together", context),
        "",
        *order_lines(different),
        "",
        *copy_lines(embedder, equal),
        "",
        "Time and additional memory, with pair embeddings:",
        "",
        *cost_lines(embedder, different),
    ]


if __name__ == "__main__":
    typer.run(main)
