"""Models of structures with their true quality, and files of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ProtembError
from protemb_sdk._base.output import written_whole
from protemb_sdk._structure.chain import encode_sequence
from protemb_train.base.arrays import read_arrays
from protemb_train.downstream.quality.labels import lddt, superposed_scores
from protemb_train.pretrain.auxiliary import Damaged

GLOBAL = ("tm", "gdt_ts", "gdt_ha", "lddt", "cad")
"""Scores of a model, in the order of GraphQA's global output."""
LOCAL = ("lddt", "cad")
"""Scores of residues."""
KINDS = (
    *("homologs", "foreign", "mixed", "grafts", "hinges", "shifts", "denoised", "segments", "natives"),
    *("noisy", "coils"),
)
"""Sources of models that were generated from natives (`generate`)."""
COORDS_SCALE = 0.02  # angstrom
LOCAL_SCALE, UNKNOWN = 200, 255
_COLUMNS = ("offset", "ca", "seq", "lddt_residue", "cad_residue", "target", "target_name", "source", "decoy")


class DecoyError(ProtembError):
    """Models cannot be read, generated or compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Decoy:
    """A model of a structure.

    Parameters
    ----------
    id : str
        Unique within its target.
    target, source, split : str
        Target of the model, its source, and "train", "val" or "test".
    sequence : str
        L one-letter codes.
    ca_coords : ndarray, float64, shape (L, 3)
        In angstrom.
    quality : ndarray, float32, shape (5,)
        Scores in the order of `GLOBAL`, 0 to 1; NaN where unknown.
    residue_quality : ndarray, float32, shape (L, 2)
        Scores in the order of `LOCAL`; NaN where unknown.
    features : ndarray, float32, shape (L, F)
        Additional inputs of GraphQA (accessibility, torsions, profile); F is 0 if there are none.
    """

    id: str
    target: str
    source: str
    split: str
    sequence: str
    ca_coords: NDArray[np.float64]
    quality: NDArray[np.float32]
    residue_quality: NDArray[np.float32]
    features: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """True for every residue: models have all coordinates."""
        return np.ones(len(self), dtype=np.bool_)

    @property
    def has_coordinates(self) -> bool:
        """True."""
        return True

    @property
    def made(self) -> bool:
        """Whether it was generated from a native structure."""
        return self.source in KINDS

    @property
    def gdt_ts(self) -> float:
        """True GDT_TS, NaN where unknown."""
        return float(self.quality[GLOBAL.index("gdt_ts")])


def labelled(
    name: str,
    target: str,
    source: str,
    split: str,
    sequence: str,
    model: NDArray[np.float64],
    native: NDArray[np.float64],
    native_length: int | None = None,
) -> Decoy:
    """Return a model with its scores against the native.

    Parameters
    ----------
    name, target, source, split, sequence
        As in `Decoy`.
    model : ndarray, float64, shape (L, 3)
        C-alphas in angstrom.
    native : ndarray, float64, shape (L, 3)
        The same residues in the native structure.
    native_length : int, optional
        Residues of the native; those missing from the model count as wrong. L by default.

    Raises
    ------
    ProtembError
        See `superposed_scores`.
    """
    whole = superposed_scores(model, native, native_length)
    of_residue = lddt(model, native).astype(np.float32)
    quality = (whole.tm_score, whole.gdt_ts, whole.gdt_ha, np.nanmean(of_residue), np.nan)
    local = np.stack([of_residue, np.full(len(model), np.nan, dtype=np.float32)], axis=1)
    return Decoy(
        name,
        target,
        source,
        split,
        sequence,
        model,
        np.array(quality, dtype=np.float32),
        local,
        np.zeros((len(model), 0), dtype=np.float32),
    )


def read_decoys(path: Path, sources: Sequence[str] | None = None, test: bool = False) -> list[Decoy]:
    """Read a file of models: the shared set, or a file of `write_decoys`.

    Parameters
    ----------
    path : Path
        Archive (npz) of flat arrays.
    sources : sequence of str, optional
        Return only models of these sources.
    test : bool, default False
        Return only test models. Training and validation never use them.

    Raises
    ------
    ArrayFileError
        If the file has another format.
    DecoyError
        If no model remains.
    """
    z = read_arrays(path, (*_COLUMNS, "split", *GLOBAL[1:]), "a set of models", optional=("tm", "features"))
    columns = [z["tm"] if "tm" in z else np.full(len(z["gdt_ts"]), np.nan), *(z[n] for n in GLOBAL[1:])]
    features = z.get("features", np.zeros((len(z["seq"]), 0))).astype(np.float32)
    local = np.stack([z["lddt_residue"], z["cad_residue"]], axis=1).astype(np.float32)
    local[local == UNKNOWN] = np.nan
    local /= LOCAL_SCALE
    letters = z["seq"].tobytes().decode("ascii")
    ends = z["offset"].tolist()
    found = []
    for n, (a, b) in enumerate(zip(ends, ends[1:], strict=False)):
        wanted = (z["split"][n] == "test") == test and (sources is None or z["source"][n] in sources)
        if wanted:
            found.append(
                Decoy(
                    str(z["decoy"][n]),
                    str(z["target_name"][z["target"][n]]),
                    str(z["source"][n]),
                    str(z["split"][n]),
                    letters[a:b],
                    z["ca"][a:b] * COORDS_SCALE,
                    np.array([column[n] for column in columns], dtype=np.float32),
                    local[a:b],
                    features[a:b],
                )
            )
    if not found:
        raise DecoyError(
            f"contains no {'test' if test else 'training'} models of {sources or 'any source'}", path
        )
    return found


def read_damaged(path: Path) -> list[Damaged]:
    """Read models generated from training chains of the corpus, for pre-training.

    Raises
    ------
    ArrayFileError, DecoyError
        See `read_decoys`.
    """
    return [
        Damaged(
            model.ca_coords.astype(np.float32),
            encode_sequence(model.sequence),
            model.residue_quality[:, LOCAL.index("lddt")],
        )
        for model in read_decoys(path, KINDS)
        if model.split == "train"
    ]


def write_decoys(decoys: Sequence[Decoy], path: Path) -> None:
    """Write models, with coordinates in steps of 0.02 angstrom and residue scores in steps of 1/200.

    Raises
    ------
    DecoyError
        If a model is larger than 600 angstrom.
    OutputError
        If the file cannot be written.
    """
    ca = np.concatenate([d.ca_coords - d.ca_coords.mean(axis=0) for d in decoys]) / COORDS_SCALE
    if not np.abs(ca).max() < np.iinfo(np.int16).max:
        raise DecoyError("not written: a model is larger than 600 angstrom", path)
    local = np.concatenate([d.residue_quality for d in decoys])
    steps = np.where(np.isfinite(local), np.round(np.nan_to_num(local) * LOCAL_SCALE), UNKNOWN)
    names, target = np.unique([d.target for d in decoys], return_inverse=True)
    quality = np.stack([d.quality for d in decoys])
    with written_whole(path) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            offset=np.cumsum([0, *map(len, decoys)]),
            ca=ca.round().astype(np.int16),
            seq=np.frombuffer("".join(d.sequence for d in decoys).encode("ascii"), dtype=np.uint8),
            lddt_residue=steps[:, 0].astype(np.uint8),
            cad_residue=steps[:, 1].astype(np.uint8),
            target=target,
            target_name=names,
            source=np.array([d.source for d in decoys]),
            decoy=np.array([d.id for d in decoys]),
            split=np.array([d.split for d in decoys]),
            features=np.concatenate([d.features for d in decoys]),
            **dict(zip(GLOBAL, quality.T, strict=True)),
        )
