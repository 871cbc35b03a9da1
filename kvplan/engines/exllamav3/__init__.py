"""ExLlamaV3: pages of 256 tokens; known, not predicted yet."""

from kvplan.engines.exllamav3.about import ABOUT as ABOUT
