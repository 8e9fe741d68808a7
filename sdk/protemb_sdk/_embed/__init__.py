"""Embeddings of one chain and of many."""
