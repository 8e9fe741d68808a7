"""Residue vectors of frozen encoders: our networks from their checkpoints, and published rivals."""
