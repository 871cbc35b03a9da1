"""What a GGUF file says about a model: llama.cpp's reading of its metadata, its memories, the converter's mapping."""
