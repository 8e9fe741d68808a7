"""Research code for results in train/results; not used by the SDK."""
