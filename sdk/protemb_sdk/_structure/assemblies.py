"""Assemblies: the chains of a structure, and copies of them, as the file says that they form a complex."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from protemb_sdk._base.errors import ChainError
from protemb_sdk._structure.chain import Chain

if TYPE_CHECKING:
    import gemmi


def assembled(structure: gemmi.Structure, name: str, chains: Sequence[Chain], where: str) -> list[Chain]:
    """Return the protein chains of an assembly; the second copy of chain A is named A-2.

    Parameters
    ----------
    structure : gemmi.Structure
        Where assemblies are defined: `_pdbx_struct_assembly_gen` of mmCIF, or REMARK 350 of PDB files.
    name : str
        Name of the assembly, such as "1".
    chains : sequence of Chain
        Chains of the same structure, as they were read.
    where : str
        For messages.

    Raises
    ------
    ChainError
        If there is no such assembly, or it has no protein chain.
    """
    found = next((one for one in structure.assemblies if one.name == name), None)
    if found is None:
        listing = ", ".join(one.name for one in structure.assemblies) or "none"
        raise ChainError(f"there is no assembly {name!r}; assemblies: {listing}", where)
    copies: Counter[str] = Counter()
    made = []
    for generator in found.generators:
        for operator in generator.operators:
            turn, shift = np.array(operator.transform.mat.tolist()), np.array(operator.transform.vec.tolist())
            for chain in chains:
                if chain.label_chain not in generator.subchains and chain.chain_id not in generator.chains:
                    continue
                copies[chain.chain_id] += 1
                count = copies[chain.chain_id]
                own = chain.chain_id if count == 1 else f"{chain.chain_id}-{count}"
                made.append(replace(chain, chain_id=own, ca_coords=chain.ca_coords @ turn.T + shift))
    if not made:
        raise ChainError(f"the assembly {name!r} has no protein chain", where)
    return made
