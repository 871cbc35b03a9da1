"""llama.cpp: contexts of GGUF files."""
