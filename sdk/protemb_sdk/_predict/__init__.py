"""Predictors: heads on top of embeddings."""
