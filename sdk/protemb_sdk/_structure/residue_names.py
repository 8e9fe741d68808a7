"""What residue names stand for: those of the PDB, and those of force fields, to their parent residue."""

from __future__ import annotations

from functools import lru_cache

from protemb_sdk._structure.constants import ALPHABET

# Names that force fields give to protonation and phosphorylation states; the table of gemmi has none of them.
_FORCE_FIELD = {
    "HID": "H", "HIE": "H", "HIP": "H", "HSD": "H", "HSE": "H", "HSP": "H", "HIN": "H",
    "CYX": "C", "CYM": "C", "CYN": "C", "ASH": "D", "AS4": "D", "GLH": "E", "GL4": "E",
    "LYN": "K", "LYP": "K", "LSN": "K", "ARN": "R", "TYM": "Y",
    "S1P": "S", "S2P": "S", "T1P": "T", "T2P": "T", "Y1P": "Y", "Y2P": "Y",
}  # fmt: skip

_STANDARD = {
    "ALA": "A", "ARG": "R", "ASN": "N", "ASP": "D", "CYS": "C", "GLN": "Q", "GLU": "E", "GLY": "G",
    "HIS": "H", "ILE": "I", "LEU": "L", "LYS": "K", "MET": "M", "PHE": "F", "PRO": "P", "SER": "S",
    "THR": "T", "TRP": "W", "TYR": "Y", "VAL": "V",
}  # fmt: skip

_PARENT = _STANDARD | _FORCE_FIELD

# Groups that close the ends of a chain; most have no C-alpha.
CAPS = frozenset({"ACE", "FOR", "NME", "NMA", "NH2", "NHE", "NAC", "CT3", "CT2", "CT1", "BOC"})


# Fourth letters of variants that GROMOS, OPLS and CHARMM name.
_FOURTH = {
    "LYS": "HNP", "HIS": "ABDEHNP12", "ARG": "NP", "ASP": "HP", "GLU": "HP", "CYS": "HNSX12", "TYR": "NU",
}  # fmt: skip


def is_long_name(name: str) -> bool:
    """Whether a name of four letters is a known variant of an amino acid (LYSH, CYS2, NMET, CHIE)."""
    name = name.upper()
    is_terminal = name[0] in "NC" and name[1:] in _PARENT
    return len(name) == 4 and (is_terminal or name[3] in _FOURTH.get(name[:3], ""))


def ends_a_chain(name: str) -> bool:
    """Whether a name is that of a residue at the C-terminus (CALA) of Amber's force fields."""
    return len(name) == 4 and name[0].upper() == "C" and name[1:].upper() in _PARENT


def begins_a_chain(name: str) -> bool:
    """Whether a name is that of a residue at the N-terminus (NALA) of Amber's force fields."""
    return len(name) == 4 and name[0].upper() == "N" and name[1:].upper() in _PARENT


def _variant(name: str) -> str | None:
    """Return the letter for a force field's name of any length, or None."""
    if name in _FORCE_FIELD:
        return _FORCE_FIELD[name]
    if len(name) == 4:
        # A terminal residue (NMET), or a variant of one of the twenty (LYSH, ASPP, HIS1).
        return _PARENT.get(name[1:] if name[0] in "NC" and name[1:] in _PARENT else name[:3])
    if len(name) == 5 and name[0] in "NC":
        return _variant(name[1:])
    return None


@lru_cache(maxsize=4096)
def kind_of(name: str) -> tuple[str, str]:
    """Return what a residue name stands for, and its one-letter code.

    Returns
    -------
    kind : str
        "amino", "DNA", "RNA", "sugar", "water", "other" or "unknown".
    letter : str
        One of `ALPHABET`; that of the parent for a modified residue.
    """
    import gemmi

    if letter := _variant(name.upper()):
        return "amino", letter
    info = gemmi.find_tabulated_residue(name)
    letter = info.one_letter_code.upper()
    if not info.found():
        return "unknown", "X"
    if info.is_amino_acid():
        return "amino", letter if letter in ALPHABET else "X"
    if info.is_nucleic_acid():
        return info.kind.name, "X"
    kind = {"HOH": "water", "PYR": "sugar", "KET": "sugar"}.get(info.kind.name, "other")
    return kind, "X"
