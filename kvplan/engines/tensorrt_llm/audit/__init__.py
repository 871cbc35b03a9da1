"""Published starts of TensorRT-LLM, and its servers' logs, held against the rules."""
