"""Probes: what embeddings hold, measured with linear models."""
