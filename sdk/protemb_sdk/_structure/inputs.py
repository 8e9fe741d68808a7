"""What can be embedded: one type for files, archive members, arrays and objects of other libraries."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sized
from dataclasses import dataclass, replace
from enum import Enum
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from protemb_sdk._base.errors import StructureError, printable
from protemb_sdk._base.folders import find_structures, stem
from protemb_sdk._base.limits import DEFAULT_BYTES
from protemb_sdk._structure.archives import is_archive, members
from protemb_sdk._structure.assemblies import assembled
from protemb_sdk._structure.atoms import Stretches
from protemb_sdk._structure.chain import Chain
from protemb_sdk._structure.files import TAKEN, load, parse, read_stretches
from protemb_sdk._structure.foreign import attribute, has
from protemb_sdk._structure.protein import StructureRead, chains_of_stretches
from protemb_sdk._structure.tables import stretches_of_biopython, stretches_of_biotite, stretches_of_gemmi

if TYPE_CHECKING:
    import gemmi


class Kind(Enum):
    """What an input is."""

    FILE = "path of a file"
    MEMBER = "file of an archive"
    BYTES = "content of a file"
    STREAM = "open file"
    GEMMI = "gemmi.Structure"
    BIOTITE = "AtomArray or AtomArrayStack of Biotite"
    BIOPYTHON = "Structure, Model or Chain of Biopython"
    ARRAYS = "tuple of arrays"
    CHAIN = "Chain"
    READ = "StructureRead"
    FAILED = "folder or archive without a further input"
    UNKNOWN = "anything else"


_NOT_READ = frozenset({Kind.ARRAYS, Kind.CHAIN, Kind.READ, Kind.FAILED})
_TRAVELS = frozenset({Kind.FILE, Kind.MEMBER, Kind.READ, Kind.FAILED})


@dataclass(frozen=True, slots=True)
class Input:
    """Something to embed.

    Parameters
    ----------
    name : str
        What it is called in tables, stores and messages; empty where it has no name.
    content : object
        The path, the bytes, the object, or the error of a folder or archive that could not be read further.
    kind : Kind
        What the content is.
    """

    name: str
    content: Any
    kind: Kind

    @classmethod
    def of(cls, structure: object) -> Input:
        """Return anything that a caller passes as one input."""
        x = structure
        if isinstance(x, Input):
            return x
        kind = _kind_of(x)
        if kind is Kind.FILE:
            path = os.fsdecode(x)  # type: ignore[arg-type]
            return cls(path, path if isinstance(x, str) else Path(path), kind)
        if isinstance(x, Chain):  # a file's name does not tell it from one of another folder
            return cls(f"{x.source}:{x.chain_id}" if x.source else x.id, x, kind)
        name = attribute(x, "name")
        return cls(name if isinstance(name, str) else "", x, kind)

    def listed(self, position: int) -> str:
        """Return how the input at a position, counted from 1, is named in a list."""
        return self.name or f"input {position} ({type(self.content).__name__})"

    @property
    def names(self) -> tuple[str, ...]:
        """The names under which a store may know it."""
        # Chains that were read from a file had no other name than their own in stores of the first format.
        return (self.name, self.content.id) if self.kind is Kind.CHAIN else (self.name,)

    def absolute(self) -> Input:
        """Return it by a name that holds in every folder; "link/.." is left for the system to follow."""
        here = os.getcwd()
        if self.kind is Kind.FILE:
            path = os.path.join(here, self.name)
            return replace(self, name=path, content=path)
        if self.kind is Kind.MEMBER:
            return replace(self, name=os.path.join(here, self.name))
        if self.kind is Kind.CHAIN and self.content.source:
            return Input.of(replace(self.content, source=os.path.join(here, self.content.source)))
        return self

    def portable(self, read: Callable[[Input], StructureRead]) -> Input:
        """Return an input that can be pickled: this one, or its chains, which `read` returns."""
        if self.kind is Kind.BYTES:  # a memoryview cannot be pickled
            return replace(self, content=bytes(self.content))
        if self.kind in _TRAVELS:
            return self
        return replace(self, content=read(self), kind=Kind.READ)

    def read(
        self,
        *,
        model_number: int = 1,
        altloc: str = "highest",
        min_residues: int = 3,
        min_plddt: float | None = None,
        name: str | None = None,
        byte_limit: int = DEFAULT_BYTES,
    ) -> StructureRead:
        """Return the protein chains; parameters and errors are those of `read_chains`."""
        if self.kind in _NOT_READ:
            return self._at_hand(name)
        check_altloc(altloc)
        min_plddt = checked_plddt(min_plddt)
        if isinstance(model_number, bool) or not isinstance(model_number, (int, np.integer)):
            raise StructureError(f"model_number={model_number!r}: pass the position of the model, from 1")
        found, name, where = self._stretches(name, int(model_number), byte_limit)
        source = printable(self.name) if self.kind in (Kind.FILE, Kind.MEMBER) else ""
        return chains_of_stretches(
            found, name, where, altloc=altloc, min_residues=min_residues, min_plddt=min_plddt, source=source
        )

    def assembled(self, read: StructureRead, assembly: str, byte_limit: int) -> StructureRead:
        """Return the chains of an assembly; a tuple, a Chain or chains that were read remain as they are.

        Raises
        ------
        StructureError
            If the structure is neither a file nor of gemmi, and does not say what its assemblies are.
        ChainError
            As of `assemblies.assembled`.
        """
        if self.kind in _NOT_READ:
            return read
        where = self.name or "structure"
        if self.kind is Kind.GEMMI:
            found = self.content
        elif self.kind in (Kind.FILE, Kind.MEMBER, Kind.BYTES):
            content = bytes(self.content) if self.kind is Kind.BYTES else self.content
            found = parse(load(content, where, byte_limit), where)
        else:
            raise StructureError(f"assembly={assembly!r} needs a file, bytes or a gemmi.Structure", where)
        return StructureRead(assembled(found, assembly, read.chains, where), read.skipped)

    def _at_hand(self, name: str | None) -> StructureRead:
        x = self.content
        if self.kind is Kind.FAILED:
            raise x
        if isinstance(x, StructureRead):
            return x
        if isinstance(x, Chain):
            return StructureRead([x if name is None else replace(x, name=name)], [])
        name = name or "array"
        if len(x) not in (2, 3) or not isinstance(x[1], str):
            raise StructureError("pass a tuple (coordinates (L, 3), sequence[, residue_index])", name)
        return StructureRead([Chain.from_arrays(*x, name=name)], [])

    def _stretches(self, name: str | None, model: int, most: int) -> tuple[Stretches, str, str]:
        """Return one model, the name of the structure, and what messages call it."""
        x = self.content
        match self.kind:
            case Kind.BIOTITE:
                name = name or "structure"
                return stretches_of_biotite(x, model, name), name, name
            case Kind.BIOPYTHON:
                name = name or (str(attribute(x, "id")).strip() if x.level == "S" else "") or "structure"
                return stretches_of_biopython(x, model, name), name, name
            case Kind.GEMMI:
                name = name or _entry(x)
                return stretches_of_gemmi(x.clone(), model, name), name, name
            case Kind.FILE | Kind.MEMBER:
                where = printable(self.name)
                if isinstance(x, str) and "\n" in x and not os.path.exists(x):
                    raise StructureError("a str is taken for a path; pass the content of a file as bytes")
                return read_stretches(load(x, where, most), where, model, most), name or stem(where), where
            case Kind.BYTES | Kind.STREAM:
                data = bytes(x) if self.kind is Kind.BYTES else x
                where = name or self.name or "structure"
                found = read_stretches(load(data, where, most), where, model, most)
                name = name or found.entry or "structure"
                return found, name, where if self.name else name
        raise StructureError(
            f"cannot read a structure from {type(x).__name__}; pass a path, bytes or open file ({TAKEN}), a "
            "gemmi.Structure, a Biotite AtomArray, a Biopython Structure, a tuple (coordinates, sequence[, "
            "residue_index]), or a Chain"
        )


def _kind_of(x: object) -> Kind:
    gemmi = sys.modules.get("gemmi")  # where it was not imported, nothing is of its types
    if isinstance(x, str):
        return Kind.FILE
    if isinstance(x, Chain):
        return Kind.CHAIN
    if isinstance(x, tuple):
        return Kind.ARRAYS
    if isinstance(x, StructureRead):
        return Kind.READ
    if has(x, "coord", "chain_id", "res_id", "res_name", "atom_name"):
        return Kind.BIOTITE
    if attribute(x, "level") in ("S", "M", "C") and has(x, "child_list"):
        return Kind.BIOPYTHON
    if isinstance(x, PathLike):
        return Kind.FILE
    if isinstance(x, bytes | bytearray | memoryview):
        return Kind.BYTES
    if callable(attribute(x, "read")):
        return Kind.STREAM
    return Kind.GEMMI if gemmi and isinstance(x, gemmi.Structure) else Kind.UNKNOWN


def _entry(structure: gemmi.Structure) -> str:
    try:
        # gemmi's own container of metadata has no get()
        entry = structure.info["_entry.id"] if "_entry.id" in structure.info else structure.name  # noqa: SIM401
    except UnicodeDecodeError:  # a name of bytes that are no UTF-8
        return "structure"
    return entry.strip() or "structure"


def check_altloc(altloc: object) -> None:
    """Raise StructureError unless `altloc` is "highest", "first" or one letter."""
    if altloc not in ("highest", "first") and not (isinstance(altloc, str) and len(altloc) == 1):
        raise StructureError(f"altloc={altloc!r}: pass 'highest', 'first' or one letter")


def checked_plddt(limit: float | None) -> float | None:
    """Return a limit of pLDDT, or raise StructureError unless it is None or a number from 0 to 100."""
    if limit is None:
        return None
    if isinstance(limit, bool) or not isinstance(limit, Real) or not 0 <= limit <= 100:
        raise StructureError(f"min_plddt={limit!r}: pass a number from 0 to 100")
    return float(limit)


# --- several inputs -------------------------------------------------------------------------------


def inputs_of(structures: object, most: int = DEFAULT_BYTES) -> list[Input] | Iterator[Input]:
    """Return the inputs in a folder or archive, a list with such in it, a stream, or one input alone.

    `most` is for `members`.
    """
    one = _is_one(structures) or not isinstance(structures, Iterable)
    items: Iterable[object] = [structures] if one else structures  # type: ignore[assignment]
    # What is in an archive does not fit into memory.
    streamed = not isinstance(items, Sized) or any(_is_archive(Input.of(x)) for x in items)
    return _expanded(items, most) if streamed else list(_expanded(items, most))


def _is_one(x: object) -> bool:
    """Tell one input from a collection of them: structures of gemmi and Biotite are iterable too."""
    if isinstance(x, tuple):
        return len(x) in (2, 3) and isinstance(x[1], str) and not _is_one(x[0])
    if isinstance(x, Input) or _kind_of(x) is not Kind.UNKNOWN:
        return True
    # A structure, or a part of one, that cannot be read: refused as a whole.
    return any(has(x, mark) for mark in ("read", "coord", "cell", "child_list"))


def _is_archive(x: Input) -> bool:
    return x.kind is Kind.FILE and not os.path.isdir(x.name) and is_archive(x.name)


def _expanded(items: Iterable[object], most: int) -> Iterator[Input]:
    for x in map(Input.of, items):
        try:
            if x.kind is Kind.FILE and os.path.isdir(x.name):
                yield from map(Input.of, find_structures(x.name))
            elif _is_archive(x):
                for name, content in members(x.name, most):
                    yield Input(name, content, Kind.MEMBER)
            else:
                yield x
        except StructureError as error:
            yield Input(x.name, error, Kind.FAILED)
