"""A frozen network judged without test labels: validation chains, and cross-validation on training labels."""
