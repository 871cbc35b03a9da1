"""Ollama: a front end of llama.cpp; known, not predicted yet."""

from kvplan.engines.ollama.about import ABOUT as ABOUT
