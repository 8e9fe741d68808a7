"""Sources of a corpus: a collection of chains, structure files, and the sequences to avoid."""

from __future__ import annotations

import glob
import itertools
import string
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from protemb_sdk._base.folders import find_structures, is_structure_name
from protemb_sdk._structure.chain import index_with_gaps
from protemb_sdk._structure.files import TAKEN
from protemb_train.base.arrays import read_arrays
from protemb_train.corpus.corpus import SCHEMA, CorpusError

_LETTERS = frozenset(string.ascii_uppercase + "*")
_NO_GAPS = str.maketrans("", "", "-.")


def file_to_avoid(source: Path) -> tuple[Path, tuple[str, ...]]:
    """Return the file in `FILE` or `FILE.npz:SPLIT,SPLIT`, and the splits (may be empty)."""
    before, colon, splits = source.name.rpartition(":")
    if not colon or not before.endswith(".npz"):
        return source, ()
    return source.with_name(before), tuple(split for split in splits.split(",") if split)


def sequences_to_avoid(source: Path) -> list[str]:
    """Read sequences from a FASTA file, or from an npz with flat `seq` and `offset` (downstream data).

    Either the whole file is read or an error raised. Spaces and gaps (``-`` and ``.``) are removed.

    Parameters
    ----------
    source : Path
        The file. ``FILE.npz:SPLIT,SPLIT`` reads only the sequences of some splits, by the array `split` of
        the file.

    Raises
    ------
    ArrayFileError, CorpusError
        If the file is missing, has no sequence or no such split, or contains anything but sequences.
    """
    path, splits = file_to_avoid(source)
    found = _of_arrays(path, splits) if path.suffix == ".npz" else _of_fasta(path)
    if not found:
        raise CorpusError("contains no sequence; pass FASTA (>name, then the sequence) or an npz", path)
    for name, sequence in found:
        if strange := sorted(set(sequence) - _LETTERS):
            raise CorpusError(
                f"{name} contains {''.join(strange[:9])!r}, which cannot be searched; use "
                "sequences in one-letter codes",
                path,
            )
        if not sequence:
            raise CorpusError(f"{name} has no residues; add its sequence, or remove it", path)
    return [sequence for _, sequence in found]


def _of_arrays(path: Path, splits: tuple[str, ...]) -> list[tuple[str, str]]:
    names = ("seq", "offset", "split") if splits else ("seq", "offset")
    data = read_arrays(path, names, f"an npz of sequences ({', '.join(names)})")
    _check_flat(path, data["seq"], data["offset"])
    letters, ends = data["seq"].tobytes().decode("ascii").upper(), data["offset"].tolist()
    found = [(f"sequence {n}", letters[a:b]) for n, (a, b) in enumerate(itertools.pairwise(ends))]
    if not splits:
        return found
    if data["split"].shape != (len(found),):
        raise CorpusError(f"{path}: its array split has no entry for each sequence; the file is damaged")
    of_each = [str(split) for split in data["split"]]
    if unknown := sorted(set(splits) - set(of_each)):
        known = ", ".join(sorted(set(of_each)))
        raise CorpusError(f"{path}: has no split {', '.join(unknown)}; its splits are {known}")
    return [sequence for sequence, split in zip(found, of_each, strict=True) if split in splits]


def _of_fasta(path: Path) -> list[tuple[str, str]]:
    try:
        before, *records = f"\n{path.read_text(encoding='utf-8-sig')}".split("\n>")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"cannot be read as FASTA ({error})", path) from error
    if before.strip():
        raise CorpusError(
            f"has text before its first name ({before.split()[0][:20]}); start it with >name", path
        )
    found = []
    for number, record in enumerate(records):
        name, *lines = record.split("\n")
        label = f"sequence {number} ({name.strip()[:40]})"
        found.append((label, "".join("".join(lines).split()).translate(_NO_GAPS).upper()))
    return found


def _check_flat(path: Path, seq: NDArray[Any], offset: NDArray[Any]) -> None:
    """Check that letters are single ASCII bytes, and that the offsets divide them into sequences."""
    if seq.ndim != 1 or seq.dtype.kind not in "uS" or seq.dtype.itemsize != 1:
        raise CorpusError(f"seq has type {seq.dtype}; it must be a flat array of ASCII bytes (uint8)", path)
    if (seq.view(np.uint8) > 127).any():
        raise CorpusError("seq contains bytes that are not ASCII; the file is damaged", path)
    if offset.ndim != 1 or offset.dtype.kind not in "iu" or not len(offset):
        raise CorpusError(f"offsets have type {offset.dtype}; they must be a flat array of integers", path)
    ends = offset.astype(np.int64)
    if ends[0] != 0 or ends[-1] != len(seq) or (np.diff(ends) < 1).any():
        raise CorpusError(
            f"its offsets do not divide its {len(seq)} residues into sequences; they must increase from 0 "
            "to that number",
            path,
        )


def find_files(source: str) -> list[Path]:
    """Return the structure files of a source, in a reproducible order.

    Parameters
    ----------
    source : str
        A folder (searched recursively), a structure file, a glob (quoted, ``**`` includes subfolders), or
        a text file with one path per line, relative to the folder of the list.

    Raises
    ------
    CorpusError, StructureError
        If the source does not exist or contains no file.
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
            raise CorpusError("matches no file; check the pattern, and quote it", source)
        return found
    raise CorpusError(
        "the file or folder does not exist; pass a collection (npz), structures, or a list", source
    )


def _listed(path: Path) -> list[Path]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(
            f"neither a structure file ({TAKEN}) nor a list with one path per line ({error})", path
        ) from error
    files = [path.parent / line for line in lines if line and not line.startswith("#")]
    if not any(file.exists() for file in files):
        raise CorpusError(
            f"none of the {len(files)} files in the list exists; paths are relative to "
            "the folder of the list",
            path,
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
        Names in `source_names` to exclude.

    Returns
    -------
    pyarrow.Table
        With the columns of a corpus, except `split`.

    Raises
    ------
    ArrayFileError
        If the file is missing or has other arrays.
    CorpusError
        If its arrays do not match, an id is repeated, a letter is not a residue, a source is unknown, or
        no chain remains.
    """
    names = ("ids", "offsets", "seq", "dxyz_milliA", "resnum", "cluster30", "source", "source_names")
    z = read_arrays(path, names, "a collection of chains")
    if z["ids"].ndim != 1 or z["offsets"].shape != (len(z["ids"]) + 1,):
        raise CorpusError(f"its offsets do not match its {z['ids'].size} chains; the file is damaged", path)
    _check_flat(path, z["seq"], z["offsets"])
    chains, residues = len(z["ids"]), len(z["seq"])
    for name, shape in {
        "cluster30": (chains,),
        "source": (chains,),
        "dxyz_milliA": (residues, 3),
        "resnum": (residues,),
    }.items():
        if z[name].shape != shape or z[name].dtype.kind not in "iu":
            raise CorpusError(
                f"{name} has type {z[name].dtype} and shape {z[name].shape}; it must contain integers of "
                f"shape {shape}; the file is damaged",
                path,
            )
    if z["source_names"].ndim != 1 or not np.isin(z["source"], np.arange(z["source_names"].size)).all():
        raise CorpusError(
            f"a source is not among its {z['source_names'].size} names; the file is damaged", path
        )
    dropped = list(drop_sources)
    unknown = set(dropped) - set(z["source_names"].tolist())
    if unknown:
        known = ", ".join(z["source_names"].tolist())
        raise CorpusError(f"has no source {', '.join(sorted(unknown))}; its sources are {known}", path)
    kept = np.flatnonzero(~np.isin(z["source_names"][z["source"]], dropped))
    found, times = np.unique(z["ids"][kept], return_counts=True)
    if (times > 1).any():
        raise CorpusError(f"the id {found[times > 1][0]} is repeated; use one id per chain", path)
    rows = []
    for i in kept:
        span = slice(z["offsets"][i], z["offsets"][i + 1])
        ca = np.cumsum(z["dxyz_milliA"][span].astype(np.int64), axis=0) / 1000.0
        ca -= ca.mean(axis=0)
        sequence = z["seq"][span].tobytes().decode("ascii")
        if strange := sorted(set(sequence) - _LETTERS):
            raise CorpusError(
                f"{z['ids'][i]} contains {''.join(strange[:9])!r}; residues must be one-letter codes in "
                "upper case, X where unknown",
                path,
            )
        rows.append(
            {
                "id": str(z["ids"][i]),
                "sequence": sequence,
                "ca": ca.astype(np.float32).ravel(),
                "residue_index": index_with_gaps(ca, z["resnum"][span]).astype(np.int32),
                "cluster": int(z["cluster30"][i]),
            }
        )
    if not rows:
        raise CorpusError("no chain remains; exclude fewer sources", path)
    return pa.Table.from_pylist(rows, schema=SCHEMA)
