"""Pre-training of protein structure embeddings by denoising score matching (PyTorch).

The method is Guo et al., *Self-Supervised Pre-training for Protein Embeddings Using Tertiary
Structures*, AAAI 2022. Equation numbers in this package are the paper's.
"""
