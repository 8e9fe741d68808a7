"""Evaluation of frozen networks without test labels: validation chains, and cross-validation."""
