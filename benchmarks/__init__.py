"""What is measured against what. Not part of the installed package."""
