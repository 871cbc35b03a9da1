"""vLLM: blocks of a pool that all layers share."""

from kvplan.engines.vllm.about import ABOUT as ABOUT
