"""Pretraining of a small base model on synthetic grid tasks and the ARC-AGI-1 training split."""
