"""Seeds of the rows of both tables: which are there, and whether they were made alike.

A row is a folder of files `seed-N`, each with a record of plain values: what was trained, on what, and how.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from protemb_sdk import ModelError, OutputError, ProtembError
from protemb_train.base.arrays import ArrayFileError
from protemb_train.base.origin import made_otherwise

Record = Mapping[str, Any]


def missing_seeds(
    folder: Path,
    ending: str,
    seeds: Iterable[int],
    made: Record,
    read: Callable[[Path], Record],
    fault: type[ProtembError],
) -> list[int]:
    """Return the seeds to train, and make the folder for them: a seed that is there is not trained again.

    Parameters
    ----------
    folder : Path
        Of the row.
    ending : str
        Of its files, such as ".npz".
    seeds : iterable of int
        Wanted.
    made : mapping
        What the record of a seed must say.
    read : callable
        Returns the record of a file.
    fault : type of ProtembError
        Raised if a seed was made otherwise or its file is damaged.

    Raises
    ------
    OutputError
        If the folder cannot be made.
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
        if different := made_otherwise(record, made):
            names = " and ".join(different)
            raise fault(f"was made with another {names}; ask for the same, or name the row otherwise", path)
    if missing:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder cannot be made ({error.strerror})", folder) from error
    return missing


def seed_path(folder: Path, seed: int, ending: str) -> Path:
    """Return the file of a seed."""
    return folder / f"seed-{seed}{ending}"


def check_alike(
    folder: Path, records: Sequence[Record], same: Iterable[str], fault: type[ProtembError]
) -> None:
    """Check that the seeds of a row were made in the same way.

    Parameters
    ----------
    folder : Path
        Of the row.
    records : sequence of mapping
        Of its seeds.
    same : iterable of str
        Fields that must not differ.
    fault : type of ProtembError
        Raised if one differs.
    """
    first = {name: records[0][name] for name in same if name in records[0]}
    for other in records[1:]:
        if different := made_otherwise(other, first):
            raise fault(
                f"its seeds {records[0]['seed']} and {other['seed']} were made with another "
                f"{' and '.join(different)}; remove those that are not the row's",
                folder,
            )
