"""Pre-training by denoising score matching."""
