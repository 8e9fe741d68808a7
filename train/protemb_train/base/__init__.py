"""Functions used in all parts of the training package."""
