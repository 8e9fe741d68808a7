"""Reads structure files with Biotite and Biopython, and says in what we differ, and why.

python tests/reference_readers.py              # writes tests/reference_readers.md
"""

from __future__ import annotations

import gzip
import io
import os
import sys
import tempfile
import warnings
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from protemb_sdk import ProtembError
from protemb_sdk._structure.formats import recognised
from protemb_sdk._structure.protein import StructureRead
from protemb_sdk._structure.reader import read_chains
from protemb_sdk._structure.residue_names import kind_of

TESTS = Path(__file__).resolve().parent
PAGE = TESTS / "reference_readers.md"


@dataclass(frozen=True)
class Residue:
    """A residue with a C-alpha, as some reader finds it."""

    chain: str
    number: int
    code: str
    letter: str
    place: tuple[float, ...]

    def away(self, other: Residue) -> float:
        return float(np.linalg.norm(np.subtract(self.place, other.place)))


@dataclass(frozen=True)
class Disagreement:
    """One residue set in which a reader differs from us."""

    file: str
    reader: str
    difference: str
    reason: str


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.name != "README.md")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


# --- readers --------------------------------------------------------------------------------------


def ours(data: bytes) -> tuple[list[Residue], StructureRead]:
    read = read_chains(data, min_residues=1)
    found = []
    for chain in read.chains:
        columns = (
            chain.auth_seq.tolist(),
            chain.insertion_code.tolist(),
            chain.sequence,
            chain.ca_coords.tolist(),
        )
        for number, code, letter, place in zip(*columns, strict=True):
            found.append(Residue(chain.chain_id, number, code, letter, tuple(place)))
    return found, read


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
    return [
        Residue(str(a.chain_id).strip(), int(a.res_id), str(a.ins_code).strip(), kind_of(a.res_name)[1],
                tuple(a.coord.tolist()))
        for a in array[(array.atom_name == "CA") & (array.element == "C")]
        if _is_amino(a.res_name, bool(a.hetero))
    ]  # fmt: skip


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
    return [
        Residue(chain.id.strip(), residue.id[1], residue.id[2].strip(), kind_of(residue.resname.strip())[1],
                tuple(residue["CA"].coord.tolist()))
        for chain in next(iter(structure))
        for residue in chain
        if "CA" in residue and residue["CA"].element == "C"
        and _is_amino(residue.resname, residue.id[0] != " ")
    ]  # fmt: skip


def _is_amino(name: str, het: bool) -> bool:
    return kind_of(name.strip())[0] == "amino" and not het


READERS: dict[str, Callable[[bytes, str], list[Residue]]] = {"Biotite": biotite, "Biopython": biopython}


# --- comparison -----------------------------------------------------------------------------------


def compared(path: Path) -> list[Disagreement]:
    """Return where readers differ; an empty list where all agree, or nothing can be compared."""
    data = _content(path)
    try:
        kind, _, _ = recognised(data, "x")
        mine, read = ours(data)
    except ProtembError:
        return []  # with the reasons that tests/sdk/test_structure_laws.py knows
    found = []
    for name, reader in READERS.items():
        if kind == "mmJSON":
            continue
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                theirs = reader(data, kind)
        except Exception as error:
            found.append(
                Disagreement(path.name, name, f"does not read it: {_line(error)}", "only we read it")
            )
            continue
        found += _differences(path.name, name, mine, theirs, read)
    return found


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:80]}"


SAME = 0.01  # angstrom; Biotite and Biopython keep float32


def _differences(
    file: str, reader: str, mine: list[Residue], theirs: list[Residue], read: StructureRead
) -> list[Disagreement]:
    found: Counter[tuple[str, str]] = Counter()
    left = _by_number(theirs)
    lone = []
    for residue in mine:
        others = left[residue.number, residue.code]
        same = [o for o in others if residue.away(o) < SAME]
        match = next((o for o in same if o.chain == residue.chain), same[0] if same else None)
        if match is None:
            lone.append(residue)
            continue
        others.remove(match)
        if match.chain != residue.chain:
            found[f"chain {residue.chain!r}, there {match.chain!r}", _why_named(residue, match, read)] += 1
        elif match.letter != residue.letter:
            found[f"{residue.letter}, there {match.letter}", _why_letter(match)] += 1
    others = [o for some in left.values() for o in some]
    for residue in lone:
        found["residues that it has not, or elsewhere", _why_more(residue, others)] += 1
    for other in others:
        found["residues that we have not, or elsewhere", _why_fewer(other, lone, read)] += 1
    return [
        Disagreement(file, reader, f"{count} {what}", why) for (what, why), count in sorted(found.items())
    ]


def _by_number(residues: list[Residue]) -> defaultdict[tuple[int, str], list[Residue]]:
    found: defaultdict[tuple[int, str], list[Residue]] = defaultdict(list)
    for residue in residues:
        found[residue.number, residue.code].append(residue)
    return found


CONFORMER = "another conformer of the same occupancy, or another type of a site, is taken"


def _has_conformer(residue: Residue, others: list[Residue]) -> bool:
    return any((o.number, o.code) == (residue.number, residue.code) and o.away(residue) < 5 for o in others)


def _why_more(residue: Residue, others: list[Residue]) -> str:
    if _has_conformer(residue, others):
        return CONFORMER
    return "a modified residue of the chain (HETATM), which is not compared there"


def _why_fewer(other: Residue, mine: list[Residue], read: StructureRead) -> str:
    if _has_conformer(other, mine):
        return CONFORMER
    place = np.array(other.place)
    if not np.isfinite(place).all() or (place == 0).all() or (abs(place) >= 999).any():
        return "it has no position: we leave it out, with a note"
    if any("outside of MODEL and ENDMDL" in s.reason for s in read.skipped):
        return "it stands outside of MODEL and ENDMDL: we count it as a model of its own, with a note"
    if any(other.chain == s.chain_id.strip() for s in read.skipped):
        return "its chain is skipped, with the reason"
    return ""


def _why_named(residue: Residue, match: Residue, read: StructureRead) -> str:
    chain = next(c for c in read.chains if c.chain_id == residue.chain)
    if any("they are named" in note for note in chain.notes):
        return "molecules that share a name, or have none, have names of their own with us, and a note"
    if not match.chain:
        return "a segment name (columns 73 to 76) names a chain without a letter"
    return ""


def _why_letter(match: Residue) -> str:
    return "the file names the parent of a modified residue" if match.letter == "X" else ""


# --- the page -------------------------------------------------------------------------------------


def write_page() -> None:
    named = os.environ.get("PROTEMB_SHARED_DATA")
    shared = Path(named) if named else TESTS.parent.parent / "shared" / "data"
    own, others = files_of(TESTS / "structures"), files_of(shared / "structures")
    found = [d for path in (*own, *others) for d in compared(path)]
    whys: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for d in found:
        whys[d.reader, d.reason or "UNEXPLAINED"].add(d.file)
    unexplained = sum(not d.reason for d in found)
    agree = len(own) + len(others) - len({d.file for d in found})
    rows = [
        "# Other readers",
        "",
        "Written by `python tests/reference_readers.py`. Chains, one-letter sequences and C-alphas of the",
        f"first model, as protemb, Biotite and Biopython read them: {len(own)} files of `tests/structures`",
        f"and {len(others):,} shared files. Compared are amino acids in ATOM records; a C-alpha is the same",
        f"within {SAME} angstrom. {agree:,} files agree in everything, or are refused by us with a reason.",
        "",
        "| reader | reason | files |",
        "|---|---|---|",
        *(f"| {reader} | {why} | {len(files):,} |" for (reader, why), files in sorted(whys.items())),
        "",
        "| | disagreements |",
        "|---|---|",
        f"| all | {len(found):,} |",
        f"| unexplained | {unexplained} |",
        "",
        "## Each of them",
        "",
        "| file | reader | what differs | why |",
        "|---|---|---|---|",
    ]
    for d in found:
        what = d.difference.replace("|", "/")
        rows.append(f"| {d.file} | {d.reader} | {what} | {d.reason or 'UNEXPLAINED'} |")
    PAGE.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{PAGE}: {len(found)} disagreements, {unexplained} unexplained")
    sys.exit(bool(unexplained))


if __name__ == "__main__":
    write_page()
