"""PPI sites: which residues of a chain lie in an interface with another protein (the paper's Table 2)."""
