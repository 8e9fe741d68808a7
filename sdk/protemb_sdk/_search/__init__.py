"""Search by embedding: index, whitening, alignment, superposition."""
