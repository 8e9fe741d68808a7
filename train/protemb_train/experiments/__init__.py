"""Research code: results in train/results cite it, no command of the SDK uses it."""
