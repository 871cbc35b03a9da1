"""What is known of Ollama without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About

ABOUT: Final = About(
    name="ollama",
    rules="ollama llm/memory.go, and llama.cpp behind it",
    audit="kvplan.engines.ollama.audit",
    commands="kvplan.engines.ollama.commandline:COMMANDS",
)
