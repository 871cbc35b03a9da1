"""Models described by hand in YAML: read, written, and checked line by line."""
