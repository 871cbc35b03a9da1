"""`ideal` is the least: no engine that stores the same elements at the same width allocates less.

Three habits of vLLM and LMDeploy are not like for like, and are named here: they store an indexer's keys in 8 bits whatever
the cache dtype is, SSM states in 16 bits where the reference implementation keeps float32, and run float32 checkpoints in
16 bits. All are granted to the theory before it is compared.
"""

import pytest
from msgspec.structs import replace

import kvplan
from kvplan.domain.model import Index, Layer, Memory, Model, Recurrent
from kvplan.engines import PREDICTED
from kvplan.loading.catalogue import names

#: llama.cpp slides three layers of every four of a Laguna, whatever `layer_types` says (`src/models/laguna.cpp`).
OWN_WINDOWS = {("llama.cpp", "laguna")}
#: mlx-lm keeps Mamba-1 states in the activations' dtype, and reads these model types in its own way: GLA layers of a Ling 3
#: without their convolutions, the hidden size for a head's or a state's width. Recorded (tests/golden/mlx_lm*.jsonl).
OWN_STATES = {("mlx-lm", kind) for kind in ("mamba", "falcon_mamba", "jamba", "bailing_hybrid", "nemotron_h", "recurrent_gemma")}
#: ExLlamaV3 reads `head_dim` for a linear head's width there (architecture/bailing_hybrid.py).
OWN_STATES |= {("exllamav3", "bailing_hybrid")}
PUBLISHED = [name for name in names() if "/" not in name]


def as_servers_store(memory: Memory) -> Memory:
    if isinstance(memory, Index):
        return replace(memory, dtype="fp8_e4m3")
    if isinstance(memory, Recurrent):
        return replace(memory, states=tuple(replace(s, dtype=None if s.dtype == "float32" else s.dtype) for s in memory.states))
    return memory


def granted(model: Model, engine: str) -> Model:
    """The model with what the engine is known to store in fewer bits."""
    if engine not in {"vllm", "lmdeploy"}:
        return model
    layers = tuple(Layer(index=x.index, memories=tuple(as_servers_store(m) for m in x.memories)) for x in model.layers)
    return replace(model, layers=layers, dtype="bfloat16" if model.dtype == "float32" else model.dtype)


@pytest.mark.parametrize("engine", [name for name in PREDICTED if name != "ideal"])
def test_no_engine_allocates_less_than_the_theory(engine: str) -> None:
    compared = 0
    for name in PUBLISHED:
        model = kvplan.load(name)
        for seq_len in (1, 5000):
            dtype = {} if engine == "transformers" else {"kv_dtype": "bf16"}
            real = kvplan.estimate(model, seq_len=seq_len, batch_size=2, engine=engine, **dtype)  # type: ignore[arg-type]
            if isinstance(real, kvplan.NotPredicted) or (engine, model.model_type) in OWN_WINDOWS | OWN_STATES:
                continue
            least = kvplan.estimate(granted(model, engine), seq_len=seq_len, batch_size=2, kv_dtype=real.kv_dtype)
            assert isinstance(least, kvplan.Allocation)
            assert real.allocated_bytes >= least.payload_bytes, f"{name} at {seq_len} tokens"
            compared += 1
    assert compared > len(PUBLISHED) // 2  # of two lengths for each; some engines have fewer models
