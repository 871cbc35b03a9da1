"""Bytes of a model's weights: where they are known from."""
