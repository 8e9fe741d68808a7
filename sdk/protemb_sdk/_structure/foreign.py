"""Looks at objects of other libraries, which may raise anything when they are looked at."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from protemb_sdk._base.errors import StructureError


def has(x: object, *names: str) -> bool:
    """Whether an object has all of these attributes; one that cannot be looked at has none."""
    try:
        return all(hasattr(x, name) for name in names)
    except Exception:  # a property may raise anything, and it is not ours
        return False


def attribute(x: object, name: str) -> Any:
    """Return an attribute, or None where there is none or looking at it fails."""
    try:
        return getattr(x, name, None)
    except Exception:  # as above
        return None


def said(error: Exception) -> str:
    """Return what an exception says, in one line."""
    return (" ".join(str(error).split()) or type(error).__name__)[:200]


def array_of(values: object, where: str, what: str) -> NDArray[Any]:
    """Return an array, NaN where a masked array has no value.

    Raises
    ------
    StructureError
        If it cannot be made into one, for whatever reason.
    """
    try:
        found: Any = np.asanyarray(values)
        if isinstance(found, np.ma.MaskedArray):
            found = np.ma.filled(found.astype(np.float64), np.nan) if found.mask.any() else found.data
        return np.asarray(found)
    except Exception as error:  # lazy arrays and tensors raise what they like
        raise StructureError(f"{what} must be numbers ({said(error)})", where) from error
