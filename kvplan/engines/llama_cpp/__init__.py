"""llama.cpp: contexts of GGUF files."""

from kvplan.engines.llama_cpp.about import ABOUT as ABOUT
