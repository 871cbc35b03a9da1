"""Several models on one card or node."""
