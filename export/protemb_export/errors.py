"""What can go wrong between a checkpoint and its graph."""

from protemb_sdk import ProtembError


class ExportError(ProtembError):
    """A graph cannot be made of what was passed."""


class ParityError(ExportError):
    """An exported graph does not give what the network gives."""
