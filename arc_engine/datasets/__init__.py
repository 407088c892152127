"""Datasets: where tasks come from, which of them are taken, and what must not be trained on. Loads no GPU library."""
