"""Read structure files with Biotite and Biopython, and list differences from the SDK with reasons.

python tests/reference_readers.py              # writes tests/reference_readers.md
"""

from __future__ import annotations

import csv
import gzip
import io
import os
import sys
import tempfile
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from reference_reasons import SAME, Facts, Residue

from protemb_sdk import ProtembError
from protemb_sdk._structure.formats import recognised
from protemb_sdk._structure.reader import read_chains
from protemb_sdk._structure.residue_names import kind_of

TESTS = Path(__file__).resolve().parent
PAGE = TESTS / "reference_readers.md"

CONFORMER = "another C-alpha of the site"
MORE = "it has one residue more"


@dataclass(frozen=True)
class Disagreement:
    """One kind of difference between another reader and the SDK in a file."""

    file: str
    reader: str
    what: str
    reason: str
    count: int
    example: str


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "README.md")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


# --- readers --------------------------------------------------------------------------------------


def ours(data: bytes) -> list[Residue]:
    found = []
    for chain in read_chains(data, min_residues=1).chains:
        columns = (
            chain.auth_seq.tolist(),
            chain.insertion_code.tolist(),
            chain.residue_name.tolist(),
            map(tuple, chain.ca_coords.tolist()),
            chain.sequence,
        )
        found += [Residue(chain.chain_id, *values) for values in zip(*columns, strict=True)]
    return found


def biotite(data: bytes, kind: str) -> list[Residue]:
    from biotite.structure.io import pdb, pdbx

    if kind == "PDB":
        file = pdb.PDBFile.read(io.StringIO(data.decode("ascii", "replace")))
        array = file.get_structure(model=1, altloc="occupancy")
    else:
        if kind == "BinaryCIF":
            file = pdbx.BinaryCIFFile.read(io.BytesIO(data))
        else:
            file = pdbx.CIFFile.read(io.StringIO(data.decode("utf-8", "replace")))
        array = pdbx.get_structure(file, model=1, altloc="occupancy", use_author_fields=True)
    alphas = array[array.atom_name == "CA"]
    columns = (
        alphas.chain_id.tolist(), alphas.res_id.tolist(), alphas.ins_code.tolist(),
        alphas.res_name.tolist(), alphas.coord.tolist(),
    )  # fmt: skip
    return _amino(zip(*columns, strict=True))


def biopython(data: bytes, kind: str) -> list[Residue]:
    from Bio.PDB import MMCIFParser, PDBParser
    from Bio.PDB.binary_cif import BinaryCIFParser

    if kind == "BinaryCIF":
        with tempfile.NamedTemporaryFile(suffix=".bcif") as file:
            file.write(data)
            file.flush()
            structure = BinaryCIFParser().get_structure("x", file.name)
    else:
        parser = PDBParser(QUIET=True) if kind == "PDB" else MMCIFParser(QUIET=True)
        structure = parser.get_structure("x", io.StringIO(data.decode("utf-8", "replace")))
    return _amino(
        (chain.id, residue.id[1], residue.id[2], residue.resname, residue["CA"].coord.tolist())
        for chain in next(iter(structure))
        for residue in chain
        if "CA" in residue
    )


def _amino(rows: Iterable[tuple[str, int, str, str, list[float]]]) -> list[Residue]:
    """Keep residues that may be amino acids. Calcium and known ligands are not compared."""
    found = []
    for chain, number, code, name, place in rows:
        kind, letter = kind_of(name.strip())
        if kind in ("amino", "unknown"):
            found.append(Residue(chain.strip(), number, code.strip(), name.strip(), tuple(place), letter))
    return found


READERS: dict[str, Callable[[bytes, str], list[Residue]]] = {"Biotite": biotite, "Biopython": biopython}


# --- comparison -----------------------------------------------------------------------------------


def compared(path: Path) -> list[Disagreement]:
    """Return the differences between readers; empty if they agree or cannot be compared."""
    data = _content(path)
    try:
        kind, _, _ = recognised(data, "x")
        mine = ours(data)
    except ProtembError:
        return []  # for the reasons in tests/sdk/test_structure_laws.py
    found: list[Disagreement] = []
    facts = Facts(data, kind)
    for name, reader in READERS.items():
        if kind == "mmJSON":
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = reader(data, kind)
        except Exception as error:
            said = f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"
            found.append(
                Disagreement(path.name, name, "it does not read the file", facts.why_not_read(error), 1, said)
            )
            continue
        examples: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for what, reason, residue in differences(mine, theirs, facts):
            examples[what, reason].append(residue.shown)
        for (what, reason), some in sorted(examples.items()):
            found.append(Disagreement(path.name, name, what, reason, len(some), some[0]))
    return found


def differences(
    mine: list[Residue], theirs: list[Residue], facts: Facts
) -> Iterator[tuple[str, str, Residue]]:
    """Yield the difference, the reason and the residue."""
    left: defaultdict[tuple[int, str], list[Residue]] = defaultdict(list)
    for residue in theirs:
        left[residue.number, residue.code].append(residue)
    lone, matched = [], []
    for residue in mine:
        others = left[residue.number, residue.code]
        same = [o for o in others if _apart(residue, o) < SAME]
        match = next((o for o in same if o.chain == residue.chain), same[0] if same else None)
        if match is None:
            lone.append(residue)
            continue
        matched.append(residue)
        others.remove(match)
        if match.chain != residue.chain:
            what = f"chain {residue.chain} is {match.chain or '(no name)'} there"
            yield what, facts.why_named(residue, match), residue
        elif match.letter != residue.letter:
            yield "another letter", facts.why_letter(residue, match), residue
    for residue in lone:
        near = [o for o in left[residue.number, residue.code] if _apart(o, residue) < 5]
        if near:
            left[residue.number, residue.code].remove(near[0])
            yield CONFORMER, facts.why_other_conformer(residue, near[0]), residue
        else:
            yield "it lacks a residue", facts.why_only_ours(residue, matched), residue
    for others in left.values():
        for other in others:
            yield MORE, facts.why_only_theirs(other), other


def _apart(a: Residue, b: Residue) -> float:
    return float(np.linalg.norm(np.subtract(a.place, b.place)))


# --- the page -------------------------------------------------------------------------------------


def write_page() -> None:
    named = os.environ.get("PROTEMB_SHARED_DATA")
    shared = Path(named) if named else TESTS.parent.parent / "shared" / "data"
    own, others = files_of(TESTS / "structures"), files_of(shared / "structures")
    found = [d for path in (*own, *others) for d in compared(path)]
    groups: defaultdict[tuple[str, str, str], list[Disagreement]] = defaultdict(list)
    for d in found:
        kind = "a chain has another name" if d.what.startswith("chain ") else d.what
        groups[kind, d.reason or "UNEXPLAINED", d.reader].append(d)
    unexplained = sum(d.count for d in found if not d.reason)
    agree = len(own) + len(others) - len({d.file for d in found})
    rows = [
        "# Other readers",
        "",
        "Written by `python tests/reference_readers.py`. Chain names, one-letter sequences and C-alphas of",
        f"the first model, as protemb, Biotite and Biopython read them: {len(own)} files of",
        f"`tests/structures` and {len(others):,} shared files. Compared are residues with an atom CA and the",
        "name of an amino acid or an unknown name, in ATOM and HETATM records; a C-alpha is the same within",
        f"{SAME} angstrom. {agree:,} files agree in everything, or are refused by us. Each reason is",
        'concluded for each residue from the text of its file (`tests/reference_reasons.py`). "It" is the',
        "other reader. Files: `reference_readers.csv`.",
        "",
        "| what differs | why | reader | files | residues | example |",
        "|---|---|---|---|---|---|",
    ]
    for (kind, why, reader), some in sorted(groups.items()):
        files, count = len({d.file for d in some}), sum(d.count for d in some)
        example = f"{some[0].file}: {some[0].example}".replace("|", "/")
        rows.append(f"| {kind} | {why} | {reader} | {files:,} | {count:,} | {example} |")
    rows += [
        "",
        "| | residues, or files that are not read |",
        "|---|---|",
        f"| all | {sum(d.count for d in found):,} |",
        f"| unexplained | {unexplained} |",
    ]
    PAGE.write_text("\n".join(rows) + "\n", encoding="utf-8")
    with PAGE.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["file", "reader", "what differs", "residues"])
        # Not listed: files that differ in ligands and in letters of modified residues only.
        listed = [d for d in found if d.what not in (MORE, "another letter") or "MODEL" in d.reason]
        table.writerows([d.file, d.reader, d.what, d.count] for d in listed)
    print(f"{PAGE}: {sum(d.count for d in found)} residues differ, {unexplained} unexplained")
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    write_page()
