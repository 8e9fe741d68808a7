"""The version of this package, also written into every result."""

__version__ = "0.1.0"
