"""The errors that protemb raises."""

from __future__ import annotations

from typing import Self

# Errors of parsing JSON and of access to the parsed values.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


def printable(text: str) -> str:
    """Return text with control characters and line breaks escaped."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ProtembError(Exception):
    """Base class of every error that protemb raises on purpose.

    Its text is one sentence: where, what is wrong, what to do.

    Parameters
    ----------
    problem : str
        What is wrong, and what to do about it.
    where : str or path, default ""
        The file, chain, folder or object that the problem is in; empty where the call itself is wrong.
    retryable : bool, default False
        Whether the same input may succeed in another run: with higher limits, more memory, or a file system
        that can be read again.

    Attributes
    ----------
    problem, where, retryable
        As passed; control characters in texts are escaped.

    Examples
    --------
    >>> from protemb_sdk import StructureError, read_chains
    >>> try:
    ...     read_chains("missing.pdb")
    ... except StructureError as error:
    ...     print(error.where, error.retryable)
    missing.pdb True
    """

    def __init__(self, problem: str = "", where: object = "", retryable: bool = False) -> None:
        self.problem, self.where, self.retryable = printable(problem), printable(str(where)), retryable
        super().__init__(self.problem, self.where, retryable)  # what a pickle is made of

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}" if self.where else self.problem

    def at(self, where: object) -> Self:
        """Return the same error at another place, such as the chain instead of the file.

        Parameters
        ----------
        where : object
            New place; its text is used.

        Returns
        -------
        ProtembError
            Of the same class.

        Examples
        --------
        >>> from protemb_sdk import StructureError
        >>> print(StructureError("has no C-alpha atoms").at("chain B"))
        chain B: has no C-alpha atoms
        """
        return type(self)(self.problem, where, self.retryable)


class StructureError(ProtembError):
    """A structure cannot be read or embedded.

    Examples
    --------
    >>> from protemb_sdk import StructureError, read_chains
    >>> try:
    ...     read_chains(b"not a structure")
    ... except StructureError as error:
    ...     print(error.where, error.retryable)
    structure False
    """


class ChainError(StructureError):
    """The requested chain does not exist, or a name is needed to choose one of several.

    Examples
    --------
    >>> from protemb_sdk import ChainError, read_chain
    >>> try:
    ...     read_chain("1a8o.cif", "B")
    ... except ChainError as error:
    ...     print(error.where, error.retryable)
    1a8o False
    """


class ModelError(ProtembError):
    """A model file is missing, is not a protemb model, or has an unknown contract.

    Examples
    --------
    >>> from protemb_sdk import Embedder, ModelError
    >>> try:
    ...     Embedder("missing.onnx")
    ... except ModelError as error:
    ...     print(type(error).__name__)
    ModelError
    """


class DeviceError(ProtembError):
    """The requested device is not available.

    Examples
    --------
    >>> from protemb_sdk import DeviceError, Embedder
    >>> try:
    ...     Embedder(device="tpu")
    ... except DeviceError as error:
    ...     print(type(error).__name__)
    DeviceError
    """


class OutputError(ProtembError):
    """A result cannot be written, or a saved one cannot be read back.

    Examples
    --------
    >>> from protemb_sdk import Embedding, OutputError
    >>> try:
    ...     Embedding.load("missing.npz")
    ... except OutputError as error:
    ...     print(error.where, error.retryable)
    missing.npz False
    """


class EmbeddingError(ProtembError):
    """An argument is invalid, or the result of the network is not finite.

    Examples
    --------
    >>> from protemb_sdk import Embedder, EmbeddingError
    >>> try:
    ...     Embedder(device="cpu").embed("1a8o.cif", readouts=["median"])
    ... except EmbeddingError as error:
    ...     print(type(error).__name__)
    EmbeddingError
    """
