"""Published benchmark tasks, solved with embeddings."""
