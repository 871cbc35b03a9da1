"""The transformers library: cache classes by release and model type."""
