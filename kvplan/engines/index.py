"""What all engines are asked before one is chosen, by tools/make_index.py (`make index`); do not edit."""

from typing import Final

# fmt: off
#: name | folder | predicted or nothing | files that mean it | owners whose repositories do | makers whose devices do
LINES: Final = (
    "ideal|ideal|predicted|||",
    "llama.cpp|llama_cpp|predicted|.gguf||apple",
    "transformers|transformers|predicted|||",
    "vllm|vllm|predicted|||",
    "sglang|sglang|predicted|||",
    "tensorrt-llm|tensorrt_llm|predicted|||",
    "mlx-lm|mlx_lm|predicted||mlx-community/|",
    "exllamav3|exllamav3|predicted|||",
    "lmdeploy|lmdeploy|predicted|||",
    "ollama|ollama|predicted|||",
)
# fmt: on
