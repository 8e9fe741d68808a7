"""Code shared by the downstream tasks."""
