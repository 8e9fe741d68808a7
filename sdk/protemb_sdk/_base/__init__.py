"""Errors, limits, output files, processes and console: what everything else uses."""
