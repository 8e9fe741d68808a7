"""Probes: information in embeddings, measured with linear models."""
