"""Tasks that others set, solved with embeddings."""
