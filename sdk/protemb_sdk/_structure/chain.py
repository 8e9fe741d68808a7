"""What the network sees: a chain, or several together, of C-alpha atoms with their names and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from protemb_sdk._base.errors import ProtembError, StructureError, printable
from protemb_sdk._structure.arrays import fields_of_arrays
from protemb_sdk._structure.constants import ALPHABET, BREAK_DISTANCE

__all__ = [
    "ALPHABET",
    "BREAK_DISTANCE",
    "Chain",
    "Skipped",
    "encode_sequence",
    "index_with_gaps",
    "no_protein_chain",
]

_DTYPES: dict[str, type[np.generic] | None] = {
    "ca_coords": np.float64,
    "residue_index": np.int64,
    "auth_seq": np.int32,
    "label_seq": np.int32,
    "insertion_code": None,
    "residue_name": None,
    "chain_of_residue": None,
    "plddt": np.float32,
}

_TYPE_OF_BYTE = np.full(256, ALPHABET.index("X"), dtype=np.int64)
for _position, _letter in enumerate(ALPHABET):
    _TYPE_OF_BYTE[ord(_letter)] = _position
    _TYPE_OF_BYTE[ord(_letter.lower())] = _position


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Chain:
    """One protein chain, or a complex of several (`join_chains`), ready for the network.

    Parameters
    ----------
    name : str
        Where it came from: the file's name without its endings, or what the caller said.
    chain_id : str
        Author name of the chain (`auth_asym_id`); of a complex all names, as in "A+B".
    label_chain : str
        Label chain name (`label_asym_id`); empty where the source has none (PDB format, arrays).
    ca_coords : ndarray, float64, shape (L, 3)
        C-alpha coordinates in angstrom.
    sequence : str
        L one-letter codes out of `ALPHABET`.
    residue_index : ndarray, int64, shape (L,)
        Strictly increasing from 0; a step above 1 stands for residues that are missing, or in a complex for
        the end of a chain.
    auth_seq : ndarray, int32, shape (L,)
        Author residue numbers.
    insertion_code : ndarray, str, shape (L,)
        Insertion codes, empty where there is none.
    label_seq : ndarray, int32, shape (L,)
        Label residue numbers (position in the full sequence, from 1); -1 where unknown.
    residue_name : ndarray, str, shape (L,)
        Residue names as the source has them (MSE stays MSE here and is M in `sequence`).
    chain_of_residue : ndarray, str, shape (L,), optional
        Author name of the chain of each residue, `chain_id` by default; a chain is contiguous.
    plddt : ndarray, float32, shape (L,), optional
        pLDDT of a predicted model, 0 to 100, NaN for residues without; None if the source does not say that
        it is a predicted model.
    notes : tuple of str
        What was overlooked or decided while reading, one sentence each.
    source : str
        Path of the file, as it was given; empty where there is none.

    Examples
    --------
    >>> from protemb_sdk import read_chain
    >>> chain = read_chain("1a8o.cif")
    >>> chain.id, len(chain), chain.ca_coords.shape
    ('1a8o_A', 70, (70, 3))
    >>> chain.sequence[:10], chain.auth_seq[:3].tolist()
    ('MDIRQGPKEP', [151, 152, 153])
    """

    name: str
    chain_id: str
    label_chain: str
    ca_coords: NDArray[np.float64]
    sequence: str
    residue_index: NDArray[np.int64]
    auth_seq: NDArray[np.int32]
    insertion_code: NDArray[np.str_]
    label_seq: NDArray[np.int32]
    residue_name: NDArray[np.str_]
    chain_of_residue: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, dtype="U1"))
    plddt: NDArray[np.float32] | None = None
    notes: tuple[str, ...] = ()
    source: str = ""

    def __post_init__(self) -> None:
        if len(set(self.chain_of_residue)) < 2:  # also of a copy with another `chain_id`
            object.__setattr__(self, "chain_of_residue", np.full(len(self.sequence), self.chain_id))
        given = [name for name in _DTYPES if name != "plddt" or self.plddt is not None]
        for name in given:
            dtype = _DTYPES[name]
            try:
                array = np.asanyarray(getattr(self, name))
                if isinstance(array, np.ma.MaskedArray):
                    array = array.filled(np.nan) if dtype is np.float64 else array.data
                object.__setattr__(self, name, array if dtype is None else array.astype(dtype, copy=False))
            except Exception as error:  # lazy arrays and tensors raise what they like
                raise StructureError(f"{name} does not hold numbers ({error})", self.id) from error
        length = len(self.sequence)
        for name in given[1:]:
            if getattr(self, name).shape != (length,):
                raise StructureError(f"{name} does not match the {length} residues of the sequence", self.id)
        if self.ca_coords.shape != (length, 3):
            raise StructureError(
                f"coordinates of shape {self.ca_coords.shape} do not match a sequence of "
                f"{length} residues; pass (L, 3) C-alpha coordinates in angstrom",
                self.id,
            )
        if length == 0:
            raise StructureError("the chain holds no residue", self.id)
        if len(set(self.chain_of_residue)) != 1 + self.is_last_of_chain[:-1].sum():
            raise StructureError("the residues of a chain must be contiguous in chain_of_residue", self.id)
        if (np.diff(self.residue_index) < 1).any():
            raise StructureError("residue_index must increase strictly", self.id)
        if int(self.residue_index[-1]) - int(self.residue_index[0]) >= 2**31:
            raise StructureError(
                f"residues are numbered {self.auth_seq[0]} to {self.auth_seq[-1]}, too wide for "
                "an index of 32 bits; number them anew",
                self.id,
            )
        bad = np.flatnonzero(~np.isfinite(self.ca_coords).all(axis=1))
        if bad.size:
            raise StructureError(
                f"{bad.size} of {length} C-alpha coordinates are not finite, "
                f"the first at residue {bad[0] + 1}; remove or repair these residues",
                self.id,
            )

    @classmethod
    def from_arrays(
        cls,
        coordinates: ArrayLike,
        sequence: str,
        residue_index: ArrayLike | None = None,
        *,
        name: str = "array",
        chain_id: str = "",
    ) -> Chain:
        """Make a chain from C-alpha coordinates and a sequence.

        Residues without a position (NaN, masked, several at 0, 0, 0) are left out, with a note in `notes`.
        Notes also say if the coordinates seem to be in nanometres, or if the chain is broken without a step
        in `residue_index`.

        Parameters
        ----------
        coordinates : array_like, shape (L, 3)
            C-alpha coordinates in angstrom, of any real dtype: an array, a masked array, a tensor or a list.
        sequence : str
            L one-letter codes; letters that are not in `ALPHABET` become X.
        residue_index : array_like of int, shape (L,), optional
            Strictly increasing from any number. A step above 1 stands for residues that are missing; without
            it none is missing, which gives a chain with gaps other vectors than its file.
        name : str, default "array"
            Name of the result.
        chain_id : str, optional
            Name of the chain.

        Returns
        -------
        Chain
            Its `auth_seq` is the given `residue_index` + 1, its `residue_index` starts at 0.

        Raises
        ------
        StructureError
            If the arrays are no numbers or do not fit together, a coordinate is infinite, no residue has a
            position, or `residue_index` does not increase strictly or is wider than 32 bits.

        Examples
        --------
        >>> import numpy as np
        >>> from protemb_sdk import Chain
        >>> coordinates = np.array([[0, 0, 1], [3.8, 0, 1], [5, 3.6, 1], [14, 7, 1]])
        >>> chain = Chain.from_arrays(coordinates, "MKVL", [0, 1, 2, 5], name="model", chain_id="A")
        >>> chain.id, len(chain), chain.residue_index.tolist(), chain.auth_seq.tolist()
        ('model_A', 4, [0, 1, 2, 5], [1, 2, 3, 6])
        """
        fields = fields_of_arrays(coordinates, sequence, residue_index, name)
        return cls(name=name, chain_id=chain_id, label_chain="", **fields)

    def __len__(self) -> int:
        return len(self.sequence)

    @property
    def is_complex(self) -> bool:
        """Whether it holds several chains."""
        return bool(self.is_last_of_chain[:-1].any())

    @property
    def is_last_of_chain(self) -> NDArray[np.bool_]:
        """True for the last residue of each chain, shape (L,)."""
        return np.append(self.chain_of_residue[1:] != self.chain_of_residue[:-1], True)

    @property
    def missing_after(self) -> NDArray[np.int64]:
        """Residues that are missing between a residue and the next one of its chain, int64, shape (L,)."""
        steps = np.append(np.diff(self.residue_index), 1)
        return np.where(self.is_last_of_chain, 0, steps - 1)

    @property
    def residue_labels(self) -> list[str]:
        """Author numbers with insertion codes, as in "27A"; in a complex after the chain, as in "B 27A"."""
        numbers = zip(self.auth_seq.tolist(), self.insertion_code.tolist(), strict=True)
        labels = [f"{number}{code}" for number, code in numbers]
        if not self.is_complex:
            return labels
        return [f"{own} {label}" for own, label in zip(self.chain_of_residue, labels, strict=True)]

    @property
    def id(self) -> str:
        """Name and author chain name, as in `1a8o_A`."""
        return f"{self.name}_{self.chain_id}" if self.chain_id else self.name

    @property
    def centred_coords(self) -> NDArray[np.float64]:
        """C-alphas around their centre in angstrom, float64, shape (L, 3): before any cast to float32.

        At an offset of 1,000 angstrom float32 keeps four decimals.
        """
        with np.errstate(over="ignore", invalid="ignore"):  # of what is refused before it is embedded
            return np.asarray(self.ca_coords - self.ca_coords.mean(axis=0))

    @property
    def residue_type(self) -> NDArray[np.int64]:
        """Residue types as the network takes them, int64, shape (L,): positions in `ALPHABET`."""
        return encode_sequence(self.sequence)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something that was not embedded, and why.

    Parameters
    ----------
    source : str
        The file, archive member or object it came from.
    chain_id : str
        Author chain name, a blank where the chain has none; empty where the whole source was skipped.
    reason : str
        One sentence.
    error : ProtembError or None
        The error, where it was one; None for a chain that was passed over.
    kind : str
        The reason without what differs from chain to chain, to count by; by default the reason.

    Examples
    --------
    >>> from protemb_sdk import Embedder
    >>> run = Embedder(device="cpu").embed_many(["missing.pdb"], on_error="skip")
    >>> list(run), run.skipped[0].source
    ([], 'missing.pdb')
    """

    source: str
    chain_id: str
    reason: str
    error: ProtembError | None = field(default=None, compare=False, repr=False)
    kind: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", self.kind or self.reason)

    @classmethod
    def of(cls, error: ProtembError, source: str, chain_id: str = "") -> Skipped:
        """Return an input, or a chain of it, that failed; a place that is named already is not repeated.

        Parameters
        ----------
        error : ProtembError
            What failed.
        source : str
            Name of the input.
        chain_id : str, default ""
            Chain of the input, if only that failed.

        Returns
        -------
        Skipped

        Examples
        --------
        >>> from protemb_sdk import Skipped, StructureError
        >>> Skipped.of(StructureError("has no C-alpha atoms"), "a.pdb", "B").reason
        'has no C-alpha atoms'
        """
        named = bool(chain_id) or error.where in ("", printable(source))
        return cls(printable(source), chain_id, error.problem if named else str(error), error)

    def __str__(self) -> str:
        where = f"{self.source}, chain {self.chain_id.strip() or repr(' ')}" if self.chain_id else self.source
        return f"{where}: {self.reason}"


def no_protein_chain(where: str, skipped: Sequence[Skipped]) -> StructureError:
    """Return the error for a structure in which every chain was passed over."""
    reasons = [f"chain {s.chain_id.strip() or repr(' ')}: {s.reason}" for s in skipped[:5]]
    more = [f"and {len(skipped) - 5} more"] if len(skipped) > 5 else []
    return StructureError(
        f"holds no protein chain to embed ({'; '.join(reasons + more) or 'it holds no atoms'})", where
    )


def encode_sequence(sequence: str) -> NDArray[np.int64]:
    """Return positions in `ALPHABET` for one-letter codes; anything unknown is X.

    Returns
    -------
    ndarray, int64, shape (L,)
    """
    return _TYPE_OF_BYTE[np.frombuffer(sequence.encode("ascii", "replace"), dtype=np.uint8)]


def index_with_gaps(ca_coords: NDArray[np.floating], auth_seq: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return residue indices from 0, leaving room for the ones that are missing.

    Author numbers jump for many reasons (antibody and protease schemes, tags, insertion codes), so
    they are believed only where the chain is broken in space. The rule needs nothing but what
    PDB and mmCIF files both hold, so both formats of an entry give the same index.

    Parameters
    ----------
    ca_coords : ndarray, shape (L, 3)
        C-alpha coordinates in angstrom.
    auth_seq : ndarray, shape (L,)
        Author residue numbers.

    Returns
    -------
    ndarray, int64, shape (L,)
        Starts at 0; the step is 1 inside an unbroken stretch, and at a break the difference of
        the author numbers where that is positive.
    """
    broken = np.linalg.norm(np.diff(ca_coords, axis=0), axis=1) > BREAK_DISTANCE
    step = np.where(broken, np.maximum(np.diff(auth_seq.astype(np.int64)), 1), 1)
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(step, dtype=np.int64)])
