"""What some published checkpoints keep beside a model's parameters, and no loader needs.

Old files of two families keep causal masks and rotary frequencies as buffers (the safetensors headers of
`openai-community/gpt2` and of most `EleutherAI/pythia-*`). Others keep a head that is tied to the table of embeddings
(`Qwen/Qwen3-0.6B`, `tiiuae/falcon-7b`, `google/gemma-4-31B` …). No key of a config says so, which is why both are asked for.
"""

from msgspec.structs import replace

from kvplan.architectures.kit.config import Config
from kvplan.architectures.parameters.blocks import Tensors, over_layers, under, vector
from kvplan.architectures.parameters.sizes import completed
from kvplan.domain.parameters import Parameter


def masks(config: Config) -> tuple[Parameter, ...]:
    """The masks of a GPT-2 or GPT-NeoX checkpoint; nothing for others."""
    kind = config.text("model_type", default="")
    if kind not in {"gpt2", "gpt_neox"}:
        return ()
    c = completed(config, kind)
    length = c.integer("n_positions", "max_position_embeddings", minimum=1)
    layers = c.integer("n_layer", "num_hidden_layers", minimum=1)
    if kind == "gpt2":
        return tuple(over_layers("h", [0] * layers, lambda _: under("attn.", _mask(length))))
    heads = c.integer("num_attention_heads", minimum=1)
    share = c.data.get("rotary_pct", 0.25)
    turned = int(c.integer("hidden_size") // heads * (share if isinstance(share, int | float) else 0.25)) // 2

    def layer(_: int) -> Tensors:
        yield from under("attention.", _mask(length))
        yield from vector("attention.rotary_emb.inv_freq", turned, component="attention", buffer=True)

    return tuple(over_layers("gpt_neox.layers", [0] * layers, layer))


def _mask(length: int) -> Tensors:
    yield from vector("bias", 1, 1, length, length, component="attention", buffer=True)


def tied_head(tensors: tuple[Parameter, ...]) -> tuple[Parameter, ...]:
    """The head as the checkpoint keeps it although it is the table of embeddings; nothing where the list has a head."""
    if any(tensor.role == "head" for tensor in tensors):
        return ()
    table = next(tensor for tensor in tensors if tensor.role == "embed")
    return (replace(table, name="lm_head.weight", role="head", component="head", buffer=True),)
