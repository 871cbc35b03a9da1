"""A grid of estimates, evaluated with numpy and written in columns."""
