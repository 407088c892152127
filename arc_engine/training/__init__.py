"""What pretraining and base fine-tuning share: the processes of a run, and its fingerprint."""
