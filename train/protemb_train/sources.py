"""What a corpus is made from: a collection of chains, structure files, and the sequences to avoid."""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa

from protemb_sdk._chain import index_with_gaps
from protemb_sdk._files import TAKEN
from protemb_sdk._folders import find_structures, is_structure_name
from protemb_train.arrays import read_arrays
from protemb_train.corpus import SCHEMA, CorpusError


def sequences_to_avoid(path: Path) -> list[str]:
    """Read sequences from a FASTA file, or from an npz with flat `seq` and `offset` (downstream data).

    Raises
    ------
    ArrayFileError, CorpusError
        If the file is missing or holds no sequence.
    """
    if path.suffix == ".npz":
        data = read_arrays(path, ("seq", "offset"), "an npz of sequences (seq, offset)")
        offset, seq = data["offset"], data["seq"]
        return [seq[a:b].tobytes().decode("ascii") for a, b in zip(offset[:-1], offset[1:], strict=True)]
    try:
        records = path.read_text(encoding="ascii").split(">")[1:]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{path}: cannot be read as FASTA ({error})") from error
    found = ["".join(record.split("\n")[1:]).replace(" ", "").strip() for record in records]
    if not any(found):
        raise CorpusError(f"{path}: holds no sequence; pass a FASTA file (>name, then the sequence)")
    return [sequence for sequence in found if sequence]


def find_files(source: str) -> list[Path]:
    """List the structure files that a source stands for, in an order that is always the same.

    Parameters
    ----------
    source : str
        A folder (searched recursively), a structure file, a glob (quoted, ``**`` goes into folders), or
        a text file with a path a line, taken from the list's own folder where it is relative.

    Raises
    ------
    CorpusError, StructureError
        If there is no such thing, or no file in it.
    """
    path = Path(source)
    if path.is_dir():
        return find_structures(path)
    if path.is_file():
        return [path] if is_structure_name(path) else _listed(path)
    if glob.has_magic(source):
        found = sorted(Path(name) for name in glob.glob(source, recursive=True))
        found = [file for file in found if file.is_file()]
        if not found:
            raise CorpusError(f"{source}: matches no file; check the pattern, and quote it")
        return found
    raise CorpusError(f"{source}: no such file or folder; pass a collection (npz), structures, or a list")


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"{path}: neither a structure file ({TAKEN}) nor a list with a path a line ({error})"
        ) from error
    files = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not any(file.exists() for file in files):
        raise CorpusError(
            f"{path}: none of the {len(files)} files that it lists exists; relative paths are taken from "
            "the list's own folder"
        )
    return files


def read_collection(path: Path, drop_sources: Iterable[str] = ()) -> pa.Table:
    """Read a collection of chains in the flat npz layout.

    Parameters
    ----------
    path : Path
        npz with `ids`, `source` and `cluster30` per chain, `offsets`, `source_names`, and per residue
        `seq` (ASCII), `dxyz_milliA` (steps, 0.001 angstrom) and `resnum`.
    drop_sources : iterable of str
        Names out of `source_names` to leave out.

    Returns
    -------
    pyarrow.Table
        With the columns of a corpus, except `split`.

    Raises
    ------
    ArrayFileError
        If the file is missing or holds other arrays.
    CorpusError
        If its arrays do not match, a source is unknown, or no chain is left.
    """
    names = ("ids", "offsets", "seq", "dxyz_milliA", "resnum", "cluster30", "source", "source_names")
    z = read_arrays(path, names, "a collection of chains")
    residues = len(z["seq"])
    if len(z["offsets"]) != len(z["ids"]) + 1 or z["offsets"][-1] != residues:
        raise CorpusError(f"{path}: its offsets do not match its {len(z['ids'])} chains; the file is damaged")
    if z["dxyz_milliA"].shape != (residues, 3) or len(z["resnum"]) != residues:
        raise CorpusError(f"{path}: coordinates and sequences differ in length; the file is damaged")
    dropped = list(drop_sources)
    unknown = set(dropped) - set(z["source_names"].tolist())
    if unknown:
        known = ", ".join(z["source_names"].tolist())
        raise CorpusError(f"{path}: has no source {', '.join(sorted(unknown))}; its sources are {known}")
    rows = []
    for i in np.flatnonzero(~np.isin(z["source_names"][z["source"]], dropped)):
        span = slice(z["offsets"][i], z["offsets"][i + 1])
        ca = np.cumsum(z["dxyz_milliA"][span].astype(np.int64), axis=0) / 1000.0
        ca -= ca.mean(axis=0)
        rows.append(
            {
                "id": str(z["ids"][i]),
                "sequence": z["seq"][span].tobytes().decode("ascii"),
                "ca": ca.astype(np.float32).ravel(),
                "residue_index": index_with_gaps(ca, z["resnum"][span]).astype(np.int32),
                "cluster": int(z["cluster30"][i]),
            }
        )
    if not rows:
        raise CorpusError(f"{path}: no chain is left; drop fewer sources")
    return pa.Table.from_pylist(rows, schema=SCHEMA)
