"""What a GGUF file says about a model: its metadata as llama.cpp reads it, the memories that follow, and the converter's mapping."""
