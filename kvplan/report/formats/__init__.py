"""One printer a format."""
