"""What the downstream tasks share."""
