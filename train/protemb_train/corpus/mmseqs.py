"""Alignments and clusters of sequences with MMseqs2."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

from protemb_train.corpus.alignment import LARGEST_E_VALUE, LEAST_IDENTITY, Hit, related
from protemb_train.corpus.corpus import CorpusError


def relatives(queries: Iterable[str], targets: list[str], identity: float = LEAST_IDENTITY) -> set[int]:
    """Return indices of the targets that MMseqs2 finds similar to any query.

    Alignments must have at least `identity` and cover half of the shorter sequence, so that a domain is found
    in a multi-domain chain.

    Parameters
    ----------
    queries : iterable of str
        One-letter sequences to avoid.
    targets : list of str
        One-letter sequences to check.
    identity : float, default 0.3
        Smallest share of identical residues in the alignment.

    Raises
    ------
    CorpusError
        If MMseqs2 is not installed or fails.
    """
    hits = search(queries, targets, identity=identity, e_value=LARGEST_E_VALUE)
    return {hit.target for hit in hits if related(hit, identity)}


def search(queries: Iterable[str], targets: list[str], *, identity: float, e_value: float) -> list[Hit]:
    """Return the alignments that MMseqs2 finds at its highest common sensitivity.

    Parameters
    ----------
    queries, targets : sequences of str
        One-letter sequences; repeated queries are searched once, and empty ones are ignored.
    identity : float
        Smallest share of identical residues.
    e_value : float
        Largest E-value.

    Raises
    ------
    CorpusError
        If MMseqs2 is not installed or fails.
    """
    program = _program("finding relatives", "build the corpus without --avoid")
    # Indices of the first occurrences, so that hits have the indices of the caller.
    first = {sequence: position for position, sequence in reversed(list(enumerate(queries))) if sequence}
    if not first or not targets:
        return []
    with tempfile.TemporaryDirectory() as folder:
        query, target, out = (Path(folder) / name for name in ("query.fa", "target.fa", "hits.tsv"))
        query.write_text("".join(f">{i}\n{s}\n" for s, i in sorted(first.items(), key=lambda item: item[1])))
        target.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(targets)))
        command = [program, "easy-search", query, target, out, Path(folder) / "tmp"]
        command += ["--min-seq-id", identity, "-e", e_value, "-s", 7.5, "--max-seqs", 100_000, "-v", 1]
        # Coverage of the shorter sequence is checked here: MMseqs2's --cov-mode 5 compares lengths only.
        _run([*command, "--format-output", "query,target,qlen,tlen,qcov,tcov,fident,evalue"])
        return [_hit(line) for line in out.read_text().splitlines()]


def _hit(line: str) -> Hit:
    query, target, query_length, target_length, *shares, identity, e_value = line.split("\t")
    coverage = shares[0] if int(query_length) <= int(target_length) else shares[1]
    return Hit(int(query), int(target), float(identity), float(coverage), float(e_value))


def cluster_sequences(sequences: list[str], identity: float, coverage: float = 0.8) -> list[int]:
    """Return the cluster of each sequence, numbered in order of first occurrence.

    Parameters
    ----------
    sequences : list of str
        One-letter sequences.
    identity : float
        Smallest share of identical residues with the representative of the cluster.
    coverage : float, default 0.8
        Share of both sequences covered by the alignment with the representative.

    Raises
    ------
    CorpusError
        If MMseqs2 is not installed or fails.
    """
    program = _program("clustering chains", "pass a cluster file with --clusters")
    unique = list(dict.fromkeys(sequences))
    with tempfile.TemporaryDirectory() as folder:
        fasta, out = Path(folder) / "all.fa", Path(folder) / "out"
        fasta.write_text("".join(f">{i}\n{s}\n" for i, s in enumerate(unique)))
        command = [program, "easy-cluster", fasta, out, Path(folder) / "tmp"]
        _run([*command, "--min-seq-id", identity, "-c", coverage, "--cov-mode", 0, "-v", 1])
        pairs = [line.split("\t") for line in (Path(folder) / "out_cluster.tsv").read_text().splitlines()]
    representative = {int(member): int(of) for of, member in pairs}
    # A sequence that MMseqs2 ignored (such as only X) is a cluster of its own.
    of_sequence = {s: representative.get(i, i) for i, s in enumerate(unique)}
    number: dict[int, int] = {}
    return [number.setdefault(of_sequence[s], len(number)) for s in sequences]


def _program(what: str, instead: str) -> str:
    program = shutil.which("mmseqs")
    if program is None:
        raise CorpusError(
            f"{what} requires MMseqs2, but there is no program mmseqs; install it (apt install mmseqs2), "
            f"or {instead}"
        )
    return program


def _run(command: list[object]) -> None:
    run = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if run.returncode:
        reason = (run.stderr.strip() or run.stdout.strip() or "no reason given").splitlines()[-1]
        raise CorpusError(f"MMseqs2 failed with status {run.returncode}: {reason}")
