"""ExLlamaV3: pages of 256 tokens, and states beside them, as TabbyAPI asks for them."""

from kvplan.engines.exllamav3.about import ABOUT as ABOUT
