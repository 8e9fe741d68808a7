"""How optional packages are installed."""

from __future__ import annotations


def how_to_install(*extras: str) -> str:
    """Return what an error says to do where packages of extras are missing.

    Examples
    --------
    >>> from protemb_sdk._base.extras import how_to_install
    >>> how_to_install("store")
    "install the extra `store`: pip install '.[store]' in the repository of protemb, or 'protemb-sdk[store]'"
    """
    names = ",".join(extras)
    what = f"the extra{'s' * (len(extras) > 1)} {' and '.join(f'`{name}`' for name in extras)}"
    return f"install {what}: pip install '.[{names}]' in the repository of protemb, or 'protemb-sdk[{names}]'"
