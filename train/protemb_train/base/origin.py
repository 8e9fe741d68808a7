"""Origin of a file: version and commit of the source, and comparison of records."""

from __future__ import annotations

import hashlib
import json
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from protemb_sdk import ProtembError
from protemb_sdk._base.version import __version__


@cache
def origin() -> dict[str, str | None]:
    """Return the version of the package, and its commit if run from a git checkout ("-dirty" if modified)."""
    return {"version": __version__, "commit": _commit(Path(__file__))}


def file_record(path: Path) -> dict[str, str]:
    """Return the name and the SHA-256 of a file, for records.

    Raises
    ------
    ProtembError
        If the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise ProtembError(f"{path}: cannot be read ({error.strerror})") from error


def differing_settings(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Return the names of fields that differ in two records; missing ones (older records) are ignored."""
    plain = json.loads(json.dumps([before, now]))
    return [name for name in plain[1] if name in plain[0] and plain[0][name] != plain[1][name]]


def _commit(file: Path) -> str | None:
    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(file.parent), *arguments]
        try:
            run = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError:  # git is not installed
            return None
        return run.stdout.strip() if run.returncode == 0 else None

    # A virtual environment may be inside another checkout.
    if git("ls-files", "--error-unmatch", file.name) is None:
        return None
    return git("describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")
