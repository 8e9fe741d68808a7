"""One embedding as a file: arrays and JSON in a zip, as `numpy.load` reads them, and never a pickle."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import OutputError
from protemb_sdk._base.output import add_array, written_whole
from protemb_sdk._model.models import CONTRACT
from protemb_sdk._model.readouts import READOUT
from protemb_sdk._structure.chain import ALPHABET, Chain
from protemb_sdk._structure.columns import NAMES, PER_RESIDUE, TEXTS, text_of

FORMAT = "protemb-embedding-1"
TYPES = len(ALPHABET) - 1  # of a profile: all but the unknown one

# The notes are a list here, and the id is made of the name and the chain.
_TEXTS = tuple(name for name in TEXTS if name not in ("id", "notes"))


def save(
    path: str | PathLike[str],
    chain: Chain,
    levels: Mapping[str, NDArray[np.float32] | None],
    readouts: Mapping[str, NDArray[np.float32]],
    provenance: Mapping[str, Any],
) -> Path:
    """Write an embedding, whole or not at all; `levels` are protein, residue, pair and profile.

    Raises
    ------
    OutputError
        If the file cannot be written.
    """
    header = {
        "format": FORMAT,
        **{name: text_of(chain, name) for name in _TEXTS},
        "notes": list(chain.notes),
        "provenance": dict(provenance),
    }
    arrays: dict[str, Any] = {
        "header": np.array(json.dumps(header)),
        **{name: array for name, array in levels.items() if array is not None},
        **{name: getattr(chain, name) for name in PER_RESIDUE},
        **{READOUT + name: array for name, array in readouts.items()},
    }
    target = Path(path)
    with written_whole(target) as part, zipfile.ZipFile(part, "w") as archive:
        for name, array in arrays.items():
            add_array(archive, name, array)
    return target


def load(path: str | PathLike[str]) -> dict[str, Any]:
    """Return the fields of the embedding in a file.

    Raises
    ------
    OutputError
        If the file is missing, damaged or of another kind.
    """
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            header = json.loads(str(file["header"][()]))
            if header["format"] != FORMAT:
                raise OutputError(f"holds {header['format']!r}, this reads {FORMAT!r} only", path)
            return _fields(header, {name: file[name] for name in file.files})
    except FileNotFoundError:
        raise OutputError("no such file", path) from None
    except OutputError:
        raise
    except Exception as error:  # what NumPy says of damaged bytes has no end: even TokenError and SystemError
        raise OutputError(f"not an embedding saved by protemb, or damaged ({error})", path) from error


def _fields(header: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    texts = [*(header[name] for name in _TEXTS), *header["notes"]]
    if not all(isinstance(text, str) for text in texts) or not isinstance(header["provenance"], dict):
        raise ValueError("its header is not that of protemb")
    fields: dict[str, Any] = {name: header[name] for name in _TEXTS}
    # Files of version 0.1 do not have it: they hold single chains.
    fields |= {name: arrays[name] for name in PER_RESIDUE if name != "chain_of_residue" or name in arrays}
    fields["chain_id"] = fields.pop("chain")
    chain = Chain(**fields, notes=tuple(header["notes"]))
    for name in NAMES:
        getattr(chain, name).tolist()  # letters that there are not are found here
    readouts = {
        name.removeprefix(READOUT): array for name, array in arrays.items() if name.startswith(READOUT)
    }
    protein, residue = arrays["protein"], arrays["residue"]
    pair, profile = arrays.get("pair"), arrays.get("profile")
    length, (width,) = len(chain), protein.shape
    # Readouts and pair map are of one width; in contract 1 it is that of all.
    same = {array.shape[-1] for array in (*readouts.values(), *([] if pair is None else [pair]))}
    if header["provenance"].get("contract", CONTRACT) == CONTRACT:
        same |= {width, residue.shape[-1]} - {0}
    channels = max(same, default=width)
    wanted: list[tuple[NDArray[Any], tuple[int, ...]]] = [
        (residue, (length, residue.shape[-1])),
        *((array, (length, channels)) for array in readouts.values()),
    ]
    if pair is not None:
        wanted.append((pair, (length, length, channels)))
    if profile is not None:
        wanted.append((profile, (length, TYPES)))
    if len(same) > 1 or any(array.shape != shape for array, shape in wanted):
        raise ValueError("its arrays do not belong together")
    if any(array.dtype != np.float32 for array in (protein, *(array for array, _ in wanted))):
        raise ValueError("its embeddings are not float32")
    return {
        "chain": chain,
        "protein": protein,
        "residue": residue,
        "pair": pair,
        "provenance": header["provenance"],
        "readouts": readouts,
        "profile": profile,
    }
