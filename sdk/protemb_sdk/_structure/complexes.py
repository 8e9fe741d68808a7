"""Several chains as one input of the network."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from protemb_sdk._base.errors import ChainError
from protemb_sdk._structure.chain import Chain

CHAIN_STEP = 2**13
"""Step of the residue index from one chain to the next.

The network sees |i - j| as its values 0 to 4, and as Gaussians exp(-(log2|i - j| - k)^2) for k = 3 to 8. At
2^13 the largest of them is 1e-11, as at any larger distance (`BaseFeatures` in `protemb_train`).
"""

ALL = "all"


def checked_chains(chains: object) -> str | list[str] | None:
    """Return which chains are taken together: None, "all" or a list of names.

    Raises
    ------
    ChainError
        If it is anything else, or a name comes twice.
    """
    if chains is None or chains == ALL:
        return None if chains is None else ALL
    names = list(chains) if isinstance(chains, Sequence) and not isinstance(chains, str) else []
    if not names or not all(isinstance(name, str) for name in names):
        raise ChainError(f"chains={chains!r}: pass 'all' or a list of chain names")
    _check_different([name.strip() for name in names], "")
    return names


def _check_different(names: Sequence[str], where: str) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ChainError(f"chain {twice[0]!r} comes twice; take each chain of a complex once", where)


def join_chains(chains: Sequence[Chain]) -> Chain:
    """Make a complex: several chains in one frame of coordinates as one input of the network.

    Parameters
    ----------
    chains : sequence of Chain
        At least one, of different `chain_id`. They may come from several files.

    Returns
    -------
    Chain
        Residues in the order of `chains`; `name` and `source` of the first. Between two chains
        `residue_index` makes a step of 8,192, from which on the network sees no distance along the chain. Of
        one chain, the chain itself.

    Raises
    ------
    ChainError
        If there is no chain, or two have the same name.

    Examples
    --------
    >>> from dataclasses import replace
    >>> from protemb_sdk import join_chains, read_chain
    >>> one = read_chain("1a8o.cif")
    >>> joined = join_chains([one, replace(one, chain_id="B", ca_coords=one.ca_coords + 30)])
    >>> joined.id, len(joined), joined.chain_of_residue[[0, -1]].tolist()
    ('1a8o_A+B', 140, ['A', 'B'])
    """
    if not chains:
        raise ChainError("there is no chain to join; pass at least one")
    if len(chains) == 1:
        return chains[0]
    first, names = chains[0], [chain.chain_id for chain in chains]
    _check_different(names, first.name)
    labels = [chain.label_chain for chain in chains]
    start, index = 0, []
    for chain in chains:
        index.append(chain.residue_index - chain.residue_index[0] + start)
        start = int(index[-1][-1]) + CHAIN_STEP
    columns = ("ca_coords", "auth_seq", "insertion_code", "label_seq", "residue_name", "chain_of_residue")
    known = any(chain.plddt is not None for chain in chains)
    plddt = [np.full(len(c), np.nan, np.float32) if c.plddt is None else c.plddt for c in chains]
    return Chain(
        name=first.name,
        chain_id="+".join(names),
        label_chain="+".join(labels) if all(labels) else "",
        sequence="".join(chain.sequence for chain in chains),
        residue_index=np.concatenate(index),
        **{name: np.concatenate([getattr(chain, name) for chain in chains]) for name in columns},
        plddt=np.concatenate(plddt) if known else None,
        notes=_notes(chains),
        source=first.source,
    )


def _notes(chains: Sequence[Chain]) -> tuple[str, ...]:
    """Return the notes of all chains, those that all have first, the others with the name of the chain."""
    of_all = [note for note in chains[0].notes if all(note in chain.notes for chain in chains)]
    own = [f"chain {c.chain_id}: {note}" for c in chains for note in c.notes if note not in of_all]
    return (*of_all, *own)
