"""Base fine-tuning: teaching a base model what ARC tasks are, before any of them is adapted to."""
