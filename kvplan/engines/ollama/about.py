"""What is known of Ollama without loading it."""

from typing import Final

from kvplan.engines.kernel.about import About, Reserve, Share
from kvplan.units import GIB

#: kvplan's dtype -> the server's word for it.
_TYPES: Final = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}

ABOUT: Final = About(
    name="ollama",
    latest="0.32.15",
    source="ollama 0.32.15 (fb3076099), server/sched.go, llm/llama_server.go; llama.cpp behind it",
    engine="kvplan.engines.ollama.engine:Ollama",
    behind="llama.cpp",
    installs="kvplan.engines.ollama.installed",
    roles={"kv_dtype": "kv_cache_type", "memory": "device_memory_bytes", "compute_capability": "compute_capability"},
    cache_dtypes={
        name: f"OLLAMA_KV_CACHE_TYPE={_TYPES.get(name, name)}"
        for name in ("float32", "bfloat16", "float16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
    },
    weight_formats=("q8_0", "q4_k_m"),
    lengths=("num_ctx", "OLLAMA_CONTEXT_LENGTH"),
    reserve=Reserve(GIB, "compute buffers, context"),  # llama-server's --fit, which it leaves on, keeps 1024 MiB free
    share=Share(meaning="what its context needs", source="ollama llm/llama_server.go"),
    program="OLLAMA_",
    rules="ollama server/routes.go, server/sched.go, llm/llama_server.go; what is allocated is llama.cpp's",
    media="kvplan.engines.ollama.media:used",
    audit="kvplan.engines.ollama.audit",
    logs="kvplan.engines.ollama.log",
    spread="kvplan.engines.ollama.spread",
    spread_since="0.30",
    commands="kvplan.engines.ollama.commandline:COMMANDS",
    live="kvplan.engines.ollama.live:ASKING",
)
