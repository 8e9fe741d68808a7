"""The errors a user can meet, in one family."""

from __future__ import annotations

# What JSON and the looks into it say of text that is not what it should be.
MALFORMED = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)


def printable(text: str) -> str:
    """Return text with control characters, line breaks among them, written out."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class ProtembError(Exception):
    """Root of every error that protemb raises on purpose.

    The message is one sentence for the person at the keyboard: what, where, what to do.

    Parameters
    ----------
    message : str
        The sentence.
    may_pass : bool, default False
        Whether the same input may do well in another run, with higher limits, or when disks are well.
    """

    def __init__(self, message: str = "", *, may_pass: bool = False) -> None:
        super().__init__(printable(message))
        self.may_pass = may_pass


class StructureError(ProtembError):
    """A structure cannot be read, or what it holds cannot be embedded."""


class ChainError(StructureError):
    """The chain asked for is not there, or several are and none was named."""


class ModelError(ProtembError):
    """A model file is missing, is not ours, or speaks a contract this SDK does not know."""


class DeviceError(ProtembError):
    """The device asked for cannot be had."""


class OutputError(ProtembError):
    """A result cannot be written, or a saved one cannot be read back."""


class EmbeddingError(ProtembError):
    """The arguments of a call are off, or the network's result is not finite."""
