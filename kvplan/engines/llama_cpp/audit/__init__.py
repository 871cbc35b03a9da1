"""Recorded contexts and logs of llama.cpp."""
