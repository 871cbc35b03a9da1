"""`ideal` is the least: no engine that stores the same elements at the same width allocates less.

Some habits are not like for like, and are named here: vLLM, SGLang, LMDeploy and TensorRT-LLM store an indexer's keys in 8
bits whatever the cache dtype is; vLLM and TensorRT-LLM keep SSM states in the model's dtype where the reference implementation
keeps float32, and vLLM runs float32 checkpoints in 16 bits. All are granted to the theory before it is compared.
"""

from functools import cache

from each import each
from msgspec.structs import replace
from shipped import allocated_bytes, of_catalogue

import kvplan
from kvplan.domain.model import Index, Layer, Memory, Model, Recurrent
from kvplan.domain.workload import Workload
from kvplan.engines import PREDICTED, make_engine
from kvplan.errors import Refused
from kvplan.loading.catalogue import names

#: llama.cpp slides three layers of every four of a Laguna, whatever `layer_types` says (`src/models/laguna.cpp`).
OWN_WINDOWS = {("llama.cpp", "laguna"), ("ollama", "laguna")}
#: mlx-lm keeps Mamba-1 states in the activations' dtype, and reads these model types in its own way: GLA layers of a Ling 3
#: without their convolutions, the hidden size for a head's or a state's width. Recorded (tests/golden/mlx_lm*.jsonl).
OWN_STATES = {("mlx-lm", kind) for kind in ("mamba", "falcon_mamba", "jamba", "bailing_hybrid", "nemotron_h", "recurrent_gemma")}
#: So do others: states of a Ling 3 as wide as its attention heads (SGLang `configs/bailing_hybrid.py`, ExLlamaV3
#: `BailingHybridConfig`), Mamba-1's convolution in 16 bits, and ZAYA's attention in every second layer (SGLang).
OWN_STATES |= {("sglang", "bailing_hybrid"), ("exllamav3", "bailing_hybrid"), ("sglang", "mamba"), ("sglang", "zaya")}
#: What an engine says of a model whose states it keeps nowhere: its fallback stores keys and values only.
WITHOUT_STATES = "keeps no states"
#: Answers to compare (two a model), where an engine serves fewer than half of the catalogue's models so.
FEWEST = {"exllamav3": 340, "lmdeploy": 280, "tensorrt-llm": 330}
EIGHT_BIT_INDEX = {"vllm", "sglang", "lmdeploy", "tensorrt-llm"}
STATES_AS_MODEL = {"vllm", "tensorrt-llm"}
PUBLISHED = [name for name in names() if "/" not in name]


def as_stored(memory: Memory, engine: str) -> Memory:
    if isinstance(memory, Index):
        return replace(memory, dtype="fp8_e4m3")
    if isinstance(memory, Recurrent) and engine in STATES_AS_MODEL:
        return replace(memory, states=tuple(replace(s, dtype=None if s.dtype == "float32" else s.dtype) for s in memory.states))
    return memory


def granted(model: Model, engine: str) -> Model:
    """The model with what the engine is known to store in fewer bits."""
    if engine not in EIGHT_BIT_INDEX:
        return model
    layers = tuple(Layer(index=x.index, memories=tuple(as_stored(m, engine) for m in x.memories)) for x in model.layers)
    return replace(model, layers=layers, dtype="bfloat16" if engine == "vllm" and model.dtype == "float32" else model.dtype)


@cache
def least_bytes(name: str, seq_len: int, kv_dtype: str, engine: str) -> int:
    """The theory's answer; `engine`: to which something is granted, else empty, and all the others share it."""
    least = kvplan.estimate(granted(of_catalogue(name), engine), seq_len=seq_len, batch_size=2, kv_dtype=kv_dtype)
    assert isinstance(least, kvplan.Allocation)
    return least.payload_bytes


@each("engine", [name for name in PREDICTED if name != "ideal"])
def test_no_engine_allocates_less_than_the_theory(engine: str) -> None:
    compared = 0
    made = make_engine(engine, {} if engine == "transformers" else {"kv_dtype": "bf16"})
    for name in PUBLISHED:
        model = of_catalogue(name)
        if (engine, model.model_type) in OWN_WINDOWS | OWN_STATES:
            continue
        for seq_len in (1, 5000):
            at = Workload(seq_len=seq_len, batch_size=2)
            try:
                real = made.on(model)
                allocated = allocated_bytes(real, at)
            except Refused:
                continue
            if any(WITHOUT_STATES in note for note in real.notes(at)):
                continue
            least = least_bytes(name, seq_len, real.kv_dtype, engine if engine in EIGHT_BIT_INDEX else "")
            assert allocated >= least, f"{name} at {seq_len} tokens"
            compared += 1
    assert compared > FEWEST.get(engine, len(PUBLISHED))
