"""vLLM: blocks of a pool that all layers share."""
