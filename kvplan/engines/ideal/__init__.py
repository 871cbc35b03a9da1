"""The theory: the least that a model must keep."""
