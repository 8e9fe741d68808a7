"""Residue vectors of frozen encoders: checkpoints of our networks, and published encoders."""
