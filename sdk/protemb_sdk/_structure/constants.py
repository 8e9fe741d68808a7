"""What the network takes for a residue type, and when a chain counts as broken."""

from __future__ import annotations

ALPHABET = "ACDEFGHIKLMNPQRSTVWYX"
"""One-letter residue types in the order of the graph's `residue_type` input; X is anything else."""

# Consecutive C-alphas of a peptide bond lie 3.8 angstrom apart (trans) or 2.95 (cis).
# Beyond this, strained or coarse models included, the chain is broken.
BREAK_DISTANCE = 4.3
