"""TensorRT-LLM: block pools; known, not predicted yet."""

from kvplan.engines.tensorrt_llm.about import ABOUT as ABOUT
