"""Sizes of the message-passing heads of both tasks.

Shapes: L residues, K neighbours, H hidden channels.
"""

from __future__ import annotations

TYPES = 20
"""Residue types in one-hot inputs; X is all zeros."""
HIDDEN, DROPOUT = 64, 0.2
BURIAL_SPREAD = 0.3
LARGEST = 8.0
"""Inputs are clipped at this number of standard deviations, so that unusual structures stay close to the
training data."""
