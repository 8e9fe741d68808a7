"""Sizes of the message-passing heads of both tasks.

Shapes: L residues, K neighbours, H hidden channels.
"""

from __future__ import annotations

TYPES = 20
"""Residue types in one-hot inputs; X is none of them."""
HIDDEN, DROPOUT = 64, 0.2
BURIAL_SPREAD = 0.3
LARGEST = 8.0
"""Standard deviations at which inputs are clipped, so that an unusual structure stays near what was
learnt."""
