"""Hypothesis strategies that many tests share: `memories`, `models`, `tokens`, and their parts."""

from typing import get_args

from hypothesis import strategies as st

from kvplan.domain.model import (
    Chunk,
    Compressed,
    Cross,
    Full,
    Index,
    Latent,
    Layer,
    Memory,
    Model,
    Recurrent,
    RecurrentKind,
    Shared,
    Softmax,
    State,
    Window,
)

small = st.integers(1, 64)
tokens = st.integers(1, 1 << 20)
batch_sizes = st.integers(1, 256)
state_dtypes = st.sampled_from([None, "float32", "bfloat16", "float16"])

reaches = st.one_of(
    st.just(Full()),
    st.builds(Window, st.integers(2, 4096)),
    st.builds(Chunk, st.integers(2, 8192)),
    st.builds(Compressed, st.integers(1, 128), overlap=st.booleans()),
)
softmax = st.builds(Softmax, kv_heads=st.integers(1, 16), key_dim=small, value_dim=st.integers(0, 64), reach=reaches)
latent = st.builds(
    Latent, rank=small, rope_dim=st.integers(0, 64), heads=small, nope_dim=st.integers(0, 64), value_dim=small, reach=reaches
)
index = st.builds(Index, dim=small, heads=st.integers(1, 4), dtype=st.sampled_from([None, "fp8_e4m3", "bfloat16"]), reach=reaches)
cross = st.builds(
    Cross, kv_heads=st.integers(1, 16), key_dim=small, value_dim=small, tokens=st.none() | st.integers(1, 2048), reach=reaches
)


@st.composite
def _states(draw: st.DrawFn) -> State:
    shape = tuple(draw(st.lists(small, min_size=1, max_size=3)))
    groups = draw(st.integers(0, shape[0]))
    return State(
        name=draw(st.sampled_from(["conv", "delta", "ssm", "shift 1"])),
        shape=shape,
        dtype=draw(state_dtypes),
        kernel=draw(st.sampled_from([0, 0, 2, 4])),
        groups=groups,
        group_elements=draw(st.integers(0, shape[0] // groups)) if groups else 0,
        shard=draw(st.booleans()),
    )


recurrent = st.builds(
    Recurrent, states=st.lists(_states(), min_size=1, max_size=3).map(tuple), kind=st.sampled_from(get_args(RecurrentKind))
)
#: Every kind that stands on its own; `Shared` needs an earlier owner, and `models` adds it.
memories = st.one_of(softmax, latent, index, cross, recurrent)

layer_memories = st.one_of(
    memories.map(lambda memory: (memory,)),
    st.lists(memories, min_size=0, max_size=3).map(tuple),
)


@st.composite
def _models(draw: st.DrawFn) -> Model:
    palette = draw(st.lists(layer_memories, min_size=1, max_size=4))  # few kinds, many layers, as in real models
    layers: list[Layer] = []
    owners: list[int] = []
    for i in range(draw(st.integers(1, 12))):
        kept: tuple[Memory, ...] = draw(st.sampled_from(palette))
        if owners and draw(st.booleans()):
            kept = (Shared(source=draw(st.sampled_from(owners))), *draw(st.sampled_from([(), (), kept])))
        if any(isinstance(memory, Softmax | Latent | Cross) for memory in kept):
            owners.append(i)
        layers.append(Layer(index=i, memories=kept))
    drafts = draw(st.lists(layer_memories, max_size=2))
    return Model(
        name=draw(st.text(min_size=1, max_size=20).filter(lambda name: name.isprintable())),
        model_type=draw(st.sampled_from(["spec", "llama", "yes", "8k", "null"])),
        layers=tuple(layers),
        drafts=tuple(Layer(index=i, memories=kept) for i, kept in enumerate(drafts)),
        dtype=draw(st.sampled_from(["bfloat16", "float16", "float32"])),
        max_tokens=draw(st.none() | tokens),
        attention_heads=draw(st.none() | st.integers(1, 128)),
        weights_bytes=draw(st.none() | st.integers(1, 2**40)),
        parameters=draw(st.none() | st.integers(1, 2**40)),
        inferred=draw(st.booleans()),
    )


models = _models()
