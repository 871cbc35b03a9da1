"""Images in Ollama: llama-server's own preprocessor cuts them; for Qwen-VL Ollama raises its least number of tokens.

Source: ollama 0.32.15, llm/llama_server.go (`--image-min-tokens 1024`).
"""

from typing import Final

from msgspec.structs import replace

from kvplan.domain.media.asked import Media
from kvplan.domain.media.processor import Processor
from kvplan.domain.media.use import Use
from kvplan.domain.model import Model
from kvplan.engines.kernel.engine import Engine
from kvplan.engines.llama_cpp.convert.projector import PROJECTOR_OF
from kvplan.engines.llama_cpp.engine import LlamaCpp
from kvplan.engines.llama_cpp.media_use import used as used_behind
from kvplan.engines.llama_cpp.options import LlamaCppOptions

#: The projectors of the architectures that `launch` raises it for, and to what.
_QWEN: Final = frozenset({"qwen2vl", "qwen25vl", "qwen3vl"})
_LEAST: Final = 1024


def used(engine: Engine, model: Model, processor: Processor, media: Media) -> Use:
    """What the images of a request are, by the server behind.

    Raises:
        Refused: no rule of the model's projector was read, or video or audio is asked about.
    """
    raised = PROJECTOR_OF.get(model.model_type) in _QWEN and not model.model_type.startswith("qwen3_5")
    behind = LlamaCpp(LlamaCppOptions(image_min_tokens=_LEAST) if raised else None)
    found = used_behind(behind, model, processor, media)
    said = f"llama-server cuts the images{f', into {_LEAST:,} tokens at least' if raised else ''}"
    return replace(found, engine=engine.name, savings=(), notes=(said, *found.notes))
