"""Exceptions of the export."""

from protemb_sdk import ProtembError


class ExportError(ProtembError):
    """A graph cannot be made from the given input."""


class ParityError(ExportError):
    """The outputs of an exported graph differ from those of the network."""
