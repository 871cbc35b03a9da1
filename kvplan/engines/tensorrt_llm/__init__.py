"""TensorRT-LLM: blocks of one pool or of several, by either of its two cache managers."""

from kvplan.engines.tensorrt_llm.about import ABOUT as ABOUT
