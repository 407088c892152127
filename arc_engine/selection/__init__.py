"""Selection: which candidates become the two attempts."""
