"""Stop an installation from this folder at once where Python is too old.

pip looks for older versions of our dependencies instead, without an end, and does not say why.
"""

import sys

from hatchling.metadata.plugin.interface import MetadataHookInterface

OLDEST = (3, 11, 5)


class OldPython(MetadataHookInterface):
    """Check the Python that pip runs."""

    def update(self, metadata: dict) -> None:
        """Leave the metadata as they are, or end with a sentence."""
        if sys.version_info < OLDEST:
            needed, found = (".".join(map(str, version[:3])) for version in (OLDEST, sys.version_info))
            sys.exit(
                f"error: protemb needs Python {needed} or newer, and this is {found}; make the environment "
                "with a newer one, for example python3.12 -m venv .venv"
            )
