"""Measuring how good predictions are. Loads no GPU library."""
