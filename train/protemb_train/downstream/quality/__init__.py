"""Quality assessment: how close a model of a structure is to the native (the paper's Table 1)."""
