"""Quality assessment: similarity of a model of a structure to the native structure (the paper's Table 1)."""
