"""Seeds of the rows of both tables: which exist, and whether they have the same settings.

A row is a folder of files `seed-N`, each with a record of plain values that describe its training.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from protemb_sdk import ModelError, OutputError, ProtembError
from protemb_train.base.arrays import ArrayFileError
from protemb_train.base.origin import differing_settings

Record = Mapping[str, Any]


def missing_seeds(
    folder: Path,
    ending: str,
    seeds: Iterable[int],
    made: Record,
    read: Callable[[Path], Record],
    fault: type[ProtembError],
) -> list[int]:
    """Return the seeds to train, and create their folder. Existing seeds are not trained again.

    Parameters
    ----------
    folder : Path
        Folder of the row.
    ending : str
        Suffix of its files, such as ".npz".
    seeds : iterable of int
        Requested seeds.
    made : mapping
        Required values in the record of a seed.
    read : callable
        Returns the record of a file.
    fault : type of ProtembError
        Raised if a seed has other settings or its file is damaged.

    Raises
    ------
    OutputError
        If the folder cannot be created.
    """
    missing = []
    for seed in seeds:
        path = seed_path(folder, seed, ending)
        if not path.exists():
            missing.append(seed)
            continue
        try:
            record = read(path)
        except (ArrayFileError, ModelError) as error:
            raise fault(f"{error.problem}; remove it to train this seed again", path) from error
        if different := differing_settings(record, made):
            names = " and ".join(different)
            raise fault(
                f"was trained with different settings ({names}); use the same, or rename the row", path
            )
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder cannot be created ({error.strerror})", folder) from error
    return missing


def seed_path(folder: Path, seed: int, ending: str) -> Path:
    """Return the file of a seed."""
    return folder / f"seed-{seed}{ending}"


def check_alike(
    folder: Path, records: Sequence[Record], same: Iterable[str], fault: type[ProtembError]
) -> None:
    """Check that the seeds of a row have the same settings.

    Parameters
    ----------
    folder : Path
        Folder of the row.
    records : sequence of mapping
        Records of its seeds.
    same : iterable of str
        Fields that must be equal.
    fault : type of ProtembError
        Raised if one differs.
    """
    first = {name: records[0][name] for name in same if name in records[0]}
    for other in records[1:]:
        if different := differing_settings(other, first):
            raise fault(
                f"its seeds {records[0]['seed']} and {other['seed']} were trained with different settings "
                f"({' and '.join(different)}); remove those that do not belong to the row",
                folder,
            )
