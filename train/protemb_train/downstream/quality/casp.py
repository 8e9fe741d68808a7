"""Models and their native structures: GraphQA's folders of CASP, tarballs of servers, and plain folders.

CASP13/native/T0950.pdb
CASP13/decoys/T0950/server_TS1.pdb ...      or
CASP13/decoys/T0950.3D.srv.tar.gz           as from the Prediction Center (server_predictions/ too)
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import Chain, ProtembError, read_chain
from protemb_train.corpus.alignment import aligned
from protemb_train.downstream.quality.decoys import GLOBAL, Decoy, DecoyError, labelled

LEAST_IDENTITY = 0.9
"""Minimum identity of shared residues; below it a model is of another protein."""
LARGEST = 50_000_000
"""Largest size of a model in a tarball, bytes."""
TARBALLS = (".3D.srv.tar.gz", ".tar.gz", ".tgz", ".tar")


def paired(model: Chain, native: Chain) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return indices of the shared residues, matched by number if the numbers fit, else by alignment.

    Raises
    ------
    DecoyError
        If fewer than 3 residues are shared, or more than a tenth of them differ in type.
    """
    places = enumerate(zip(native.auth_seq.tolist(), native.insertion_code, strict=True))
    numbers = {key: i for i, key in places}
    keys = list(zip(model.auth_seq.tolist(), model.insertion_code, strict=True))
    by_number = np.array([numbers.get(key, -1) for key in keys], dtype=np.int64)
    best, same = by_number, _identity(model, native, by_number)
    if same < LEAST_IDENTITY:
        by_sequence = aligned(model.sequence, native.sequence)
        if _identity(model, native, by_sequence) > same:
            best, same = by_sequence, _identity(model, native, by_sequence)
    shared = np.flatnonzero(best >= 0)
    if len(shared) < 3 or same < LEAST_IDENTITY:
        raise DecoyError(
            f"shares {len(shared)} residues with its native {native.id}, {same:.0%} of them of "
            "the same type; is it a model of another protein?",
            model.id,
        )
    return shared, best[shared]


def _identity(model: Chain, native: Chain, positions: NDArray[np.int64]) -> float:
    there = np.flatnonzero(positions >= 0)
    if len(there) < 3:
        return 0.0
    return float(np.mean([model.sequence[i] == native.sequence[positions[i]] for i in there]))


def compared(model: Chain, native: Chain, target: str, source: str, split: str = "train") -> Decoy:
    """Return a model with its scores.

    Residues absent from the native have no scores; native residues absent from the model count as wrong.

    Parameters
    ----------
    model, native : Chain
    target, source, split : str
        As in `Decoy`.

    Raises
    ------
    DecoyError
        As `paired`.
    """
    mine, theirs = paired(model, native)
    found = labelled(
        model.name,
        target,
        source,
        split,
        "".join(model.sequence[i] for i in mine),
        model.ca_coords[mine],
        native.ca_coords[theirs],
        native_length=len(native),
    )
    local = np.full((len(model), found.residue_quality.shape[1]), np.nan, dtype=np.float32)
    local[mine] = found.residue_quality
    quality = found.quality.copy()
    # The lDDT of the chain counts missing residues as wrong, as GDT_TS does.
    quality[GLOBAL.index("lddt")] *= len(mine) / len(native)
    return replace(
        found,
        sequence=model.sequence,
        ca_coords=model.ca_coords,
        quality=quality,
        residue_quality=local,
        features=np.zeros((len(model), 0), dtype=np.float32),
    )


def read_models(path: Path) -> Iterator[Chain | ProtembError]:
    """Yield the chain of every model of a folder or a tarball, or the error if it cannot be read."""
    if path.is_dir():
        for file in sorted(p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")):
            yield _read(file, file.stem)
        return
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                if member.isfile():
                    name = PurePosixPath(member.name).name
                    if member.size > LARGEST:
                        yield DecoyError(
                            f"{member.size:,} bytes are too large for a model of one protein",
                            f"{path}, {name}",
                        )
                        continue
                    opened = archive.extractfile(member)
                    yield _read(opened.read() if opened else b"", name.removesuffix(".pdb"))
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DecoyError(f"not a tarball of models ({error})", path) from error


def _read(source: Path | bytes, name: str) -> Chain | ProtembError:
    try:
        return replace(read_chain(source), name=name)
    except ProtembError as error:
        return error.at(name)


def read_target(
    models: Path, native: Path, target: str, source: str, split: str = "train"
) -> tuple[list[Decoy], list[str]]:
    """Return the models of one target with their scores, and the reasons for excluded ones.

    Parameters
    ----------
    models : Path
        Folder or tarball.
    native : Path
        Structure file of one protein chain.
    target, source, split : str
        As in `Decoy`.

    Raises
    ------
    ProtembError
        If the native or the tarball cannot be read.
    """
    truth = read_chain(native)
    found, left_out = list[Decoy](), list[str]()
    for model in read_models(models):
        if isinstance(model, ProtembError):
            left_out.append(str(model))
            continue
        try:
            found.append(compared(model, truth, target, source, split))
        except ProtembError as error:
            left_out.append(str(error))
    return found, left_out


def read_casp(folder: Path, split: str = "train") -> tuple[list[Decoy], list[str]]:
    """Return the models of all targets of a CASP edition in GraphQA's layout, and what was excluded.

    Raises
    ------
    DecoyError
        If there is no native, or no model of any native.
    """
    natives = sorted(folder.glob("native/*.pdb"))
    if not natives:
        raise DecoyError(
            "contains no native/TARGET.pdb; use GraphQA's layout, or pass another folder", folder
        )
    found, left_out = list[Decoy](), list[str]()
    for native in natives:
        places = [
            place
            for room in ("decoys", "server_predictions")
            for place in (folder / room / f"{native.stem}{ending}" for ending in ("", *TARBALLS))
            if place.exists()
        ]
        if not places:
            left_out.append(f"{native.stem}: has no models")
            continue
        try:
            some, out = read_target(places[0], native, f"{folder.name}/{native.stem}", folder.name, split)
        except ProtembError as error:
            left_out.append(str(error.at(native.stem)))
            continue
        found, left_out = found + some, left_out + out
    if not found:
        raise DecoyError(f"no model could be compared with a native ({'; '.join(left_out[:3])})", folder)
    return found, left_out
