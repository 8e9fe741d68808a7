"""Chains with labelled interface residues: the 422 of DeepPPISP and 741 of GraphPPIS, from npz files.

Every change is reported: nothing is cut, padded or omitted without a line in `Sites.notes`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from protemb_sdk import ALPHABET, ProtembError
from protemb_train.base.arrays import read_arrays

LONGEST = 500
"""Largest number of residues used by DeepPPISP: longer chains are cut, as in its published lists."""

MISSING_COORDINATE = -32768
LEAST_COVERED = 0.95
ANGSTROM = 0.01  # unit of the stored coordinates
NO_DSSP = 255
DSSP_STATES = 9
PROFILE = 20


class SitesError(ProtembError):
    """A set of labelled chains is invalid."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SiteChain:
    """One chain with its labels; L residues.

    Parameters
    ----------
    id : str
        Entry and chain.
    split : str
        As published: "train" or "test", or the name of a set.
    sequence : str
        One-letter codes, over `ALPHABET`.
    label : ndarray, bool, shape (L,)
        True in an interface.
    pssm : ndarray, float32, shape (L, 20)
        Profile, in the order ACDEFGHIKLMNPQRSTVWY, as given in the set.
    structure : ndarray, float32, shape (L, 9) or (L, 10)
        One-hot DSSP states, zeros where missing; GraphPPIS: relative accessibility in the tenth column.
    ca_coords : ndarray, float64, shape (L, 3)
        C-alpha coordinates in angstrom, NaN where missing.
    cut : int
        Number of residues used and scored: the first `LONGEST` in DeepPPISP, all in GraphPPIS.
    """

    id: str
    split: str
    sequence: str
    label: NDArray[np.bool_]
    pssm: NDArray[np.float32]
    structure: NDArray[np.float32]
    ca_coords: NDArray[np.float64]
    cut: int

    def __post_init__(self) -> None:
        """Check that arrays have the length of the sequence and that features are finite."""
        for name in ("label", "pssm", "structure", "ca_coords"):
            rows = len(getattr(self, name))
            if rows != len(self.sequence):
                raise SitesError(
                    f"{rows} rows of {name} for {len(self.sequence)} residues; the numbers must be equal",
                    self.id,
                )
        if not (np.isfinite(self.pssm).all() and np.isfinite(self.structure).all()):
            raise SitesError("a feature is not finite; fix or remove the chain", self.id)

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def seen(self) -> NDArray[np.bool_]:
        """True where a residue has coordinates, shape (L,)."""
        return np.isfinite(self.ca_coords[:, 0])

    @property
    def has_coordinates(self) -> bool:
        """Whether at least 95% of the residues have coordinates."""
        return bool(self.seen.mean() >= LEAST_COVERED)

    @property
    def features(self) -> NDArray[np.float32]:
        """PSSM and structure, concatenated: the inputs of DeepPPISP except the residue type."""
        return np.concatenate([self.pssm, self.structure], axis=1)


@dataclass(frozen=True, slots=True, eq=False)
class Sites:
    """A set of labelled chains, with notes on irregularities.

    Parameters
    ----------
    name : str
        "deepppisp" or "graphppis".
    chains : list of SiteChain
        In the order of the file.
    notes : list of str
        One line for every irregular chain.
    """

    name: str
    chains: list[SiteChain]
    notes: list[str] = field(default_factory=list)

    def of(self, *splits: str) -> list[SiteChain]:
        """Return the chains of one or more published splits.

        Raises
        ------
        SitesError
            If a split does not exist.
        """
        there = {chain.split for chain in self.chains}
        for split in splits:
            if split not in there:
                raise SitesError(
                    f"{self.name} has no split {split!r}; available are {', '.join(sorted(there))}"
                )
        return [chain for chain in self.chains if chain.split in splits]


def read_sites(path: Path, kind: Literal["deepppisp", "graphppis"] | None = None) -> Sites:
    """Read a set of labelled chains.

    Parameters
    ----------
    path : Path
        npz of flat arrays divided by `offset`: `seq`, `label`, `pssm`, coordinates (`ca` or `ca_q`, 0.01
        angstrom, -32768 where missing), `id`, `split`; DeepPPISP's `dssp` is divided by `dssp_offset`,
        GraphPPIS has `ss` and `rsa_u8`.
    kind : str, optional
        Which of the two; by default determined from the file name.

    Raises
    ------
    ArrayFileError
        If the file is missing or lacks an array.
    SitesError
        If arrays do not match, labels are not 0 or 1, or features are not finite.
    """
    kind = kind or ("graphppis" if "graphppis" in path.name else "deepppisp")
    graph = kind == "graphppis"
    own = ("ca_q", "ss", "rsa_u8") if graph else ("ca", "dssp", "dssp_offset")
    z = read_arrays(path, ("offset", "seq", "label", "pssm", "id", "split", *own), f"the chains of {kind}")
    offset, count = z["offset"], len(z["id"])
    coordinates = z[own[0]]
    if len(offset) != count + 1 or len(z["split"]) != count or (np.diff(offset) < 1).any():
        raise SitesError(f"its offsets do not match its {count} chains; the file is damaged", path)
    for name in ("seq", "label", "pssm", own[0]):
        if len(z[name]) != offset[-1]:
            raise SitesError(
                f"{name} has {len(z[name])} rows, but the chains have {offset[-1]} residues", path
            )
    notes: list[str] = []
    chains = [
        _chain(z, i, slice(offset[i], offset[i + 1]), coordinates, graph, path, notes) for i in range(count)
    ]
    return Sites(kind, chains, notes)


def _chain(
    z: dict[str, NDArray[Any]],
    i: int,
    span: slice,
    coordinates: NDArray[Any],
    graph: bool,
    path: Path,
    notes: list[str],
) -> SiteChain:
    name, sequence = str(z["id"][i]), z["seq"][span].tobytes().decode("ascii", "replace")
    label, pssm = z["label"][span], z["pssm"][span].astype(np.float32)
    if not np.isin(label, (0, 1)).all():
        raise SitesError(f"{name} has labels other than 0 and 1", path)
    if pssm.shape[1:] != (PROFILE,):
        raise SitesError(f"{name} has a profile without {PROFILE} numbers per residue", path)
    unknown = sorted(set(sequence) - set(ALPHABET))
    if unknown:
        sequence = "".join(letter if letter in ALPHABET else "X" for letter in sequence)
        notes.append(f"{name}: residue types {''.join(unknown)} are unknown, and replaced by X")
    raw = coordinates[span]
    ca = np.where(raw == MISSING_COORDINATE, np.nan, raw.astype(np.float64) * ANGSTROM)
    missing = int(np.isnan(ca[:, 0]).sum())
    if missing == len(ca):
        notes.append(f"{name}: no coordinates; it can be used only in rows without a structure")
    elif missing:
        notes.append(f"{name}: {missing} of {len(ca)} residues have no coordinates; their embedding is zero")
    if graph:
        states = np.concatenate([_one_hot(z["ss"][span]), z["rsa_u8"][span, None] / np.float32(200)], axis=1)
    else:
        a, b = z["dssp_offset"][i : i + 2]
        states = _one_hot(_fitted(z["dssp"][a:b], len(sequence), name, notes))
    cut = len(sequence) if graph else min(len(sequence), LONGEST)
    if cut < len(sequence):
        notes.append(f"{name}: {len(sequence)} residues; DeepPPISP uses the first {LONGEST}")
    return SiteChain(
        id=name,
        split=str(z["split"][i]),
        sequence=sequence,
        label=label.astype(bool),
        pssm=pssm,
        structure=states.astype(np.float32),
        ca_coords=ca,
        cut=cut,
    )


def _one_hot(states: NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(states[:, None] == np.arange(DSSP_STATES), dtype=np.float32)


def _fitted(dssp: NDArray[np.uint8], length: int, name: str, notes: list[str]) -> NDArray[np.uint8]:
    """Return DSSP states of the length of the sequence, aligned at the first residue.

    46 published arrays are longer or shorter than their sequences, without information on where; they are cut
    or padded at the end, as in DeepPPISP.
    """
    if len(dssp) == length:
        return dssp
    notes.append(
        f"{name}: {len(dssp)} DSSP states for {length} residues; aligned at the first residue, "
        f"{'cut' if len(dssp) > length else 'padded'} at the end"
    )
    fitted = np.full(length, NO_DSSP, dtype=np.uint8)
    fitted[: min(length, len(dssp))] = dssp[:length]
    return fitted
