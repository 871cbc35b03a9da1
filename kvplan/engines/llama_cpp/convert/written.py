"""GGUF keys as they are being written for one model: what every architecture has, attention, windows, states."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final

from kvplan.domain.model import Chunk, Index, Latent, Layer, Model, Recurrent, Shared, Softmax, Window
from kvplan.domain.origin import Origin
from kvplan.engines.llama_cpp.convert.defaults import DEFAULTS
from kvplan.limits import LAYERS

#: Where hub configs keep these, in the converter's order.
_CONTEXT: Final = ("max_position_embeddings", "n_ctx", "n_positions", "max_length", "max_sequence_length", "model_max_length")
#: Of the feed-forward: key -> names in hub configs.
_FORWARD: Final = {
    "feed_forward_length": ("intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size", "d_ff"),
    "expert_count": ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"),
    "expert_used_count": ("num_experts_per_tok", "num_experts_per_token", "moe_top_k", "moe_topk", "moe_k", "top_k_experts"),
    "expert_feed_forward_length": ("moe_intermediate_size",),
    "leading_dense_block_count": ("first_k_dense_replace",),
}
_WIDTH: Final = ("hidden_size", "n_embd", "dim", "d_model")


class Inconvertible(Exception):
    """The model has something that these keys cannot say; the message is the reason."""


class Written:
    """The keys of one model under one architecture's name."""

    def __init__(self, arch: str, model: Model, origin: Origin) -> None:
        self.arch = arch
        self.model = model
        self.config = origin.text if origin.text_config else origin.outer
        self._outer = origin.outer
        self.keys: dict[str, Any] = {"general.architecture": arch}
        self.layers: tuple[Layer, ...] = model.layers

    def put(self, key: str, value: Any) -> None:
        """One key under the architecture's prefix."""
        self.keys[f"{self.arch}.{key}"] = value

    def rename(self, arch: str) -> None:
        """Another architecture, and every key under its prefix."""
        self.keys = {key.replace(f"{self.arch}.", f"{arch}.", 1): value for key, value in self.keys.items()}
        self.arch = self.keys["general.architecture"] = arch

    def number(self, *names: str, default: int = 0) -> int:
        """A whole number of the hub config, or of the wrapper around it."""
        for config in (self.config, self._outer):
            for name in names:
                value = config.data.get(name)
                if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                    return value
        return default

    def common(self, *, context: int = 0) -> None:
        """Blocks, lengths and vocabulary."""
        self.put("block_count", len(self.layers))
        own_context, own_vocabulary = DEFAULTS.get(self.model.text_type, (0, 0))
        self.put("context_length", context or self.number(*_CONTEXT) or self.model.max_tokens or own_context)
        self.put("embedding_length", self.number(*_WIDTH) or self._width())
        self.put("vocab_size", self.number("vocab_size", "padded_vocab_size") or own_vocabulary)
        self.put("attention.head_count", self.model.attention_heads or 0)
        self._feed_forward()

    def _feed_forward(self) -> None:
        """Widths that decide compute buffers, not the cache; of several, the largest."""
        for key, names in _FORWARD.items():
            values = [value for name in names if (value := self.config.data.get(name)) is not None][:1]
            listed = values[0] if values and isinstance(values[0], list) and len(values[0]) <= LAYERS else values
            found = [value for value in listed if isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**31]
            if found:
                self.put(key, max(found))

    def _width(self) -> int:
        """The width that a class default leaves out of the config, from the heads."""
        softmax = next((m for layer in self.layers for m in layer.memories if isinstance(m, Softmax)), None)
        return (self.model.attention_heads or 0) * (softmax.key_dim if softmax else 0)

    def by_width(self) -> None:
        """Heads as wide as they divide the model, for converters that write no size of a head."""
        size = self.keys[f"{self.arch}.embedding_length"] // max(self.model.attention_heads or 1, 1)
        self.put("attention.key_length", size)
        self.put("attention.value_length", size)

    def with_drafts(self, count: int | None = None) -> None:
        """NextN layers are blocks too, the last ones."""
        count = len(self.model.drafts) if count is None else count
        if count:
            self.layers = (*self.model.layers, *self.model.drafts[:count])
            self.put("block_count", len(self.layers))
            self.put("nextn_predict_layers", count)

    def softmax_of(self, layer: Layer) -> Softmax | None:
        """A layer's keys and values; of a layer that shares, those that it reads."""
        for memory in layer.memories:
            if isinstance(memory, Softmax):
                return memory
            if isinstance(memory, Shared):
                return self.softmax_of(self.model.layers[memory.source])
        return None

    def attention(self, *, zeros: bool = False) -> None:
        """Heads and their sizes; `zeros`: layers without attention have no heads (an array, then).

        Raises:
            Inconvertible: sizes that differ between layers in a way that no key can say.
        """
        rows = [self.softmax_of(layer) for layer in self.layers]
        owned = [row for row in rows if row is not None]
        if not owned:
            self.put("attention.head_count_kv", [0] * len(rows) if zeros else self.model.attention_heads or 0)
            return
        heads = [row.kv_heads if row else 0 if zeros else owned[0].kv_heads for row in rows]
        self.put("attention.head_count_kv", heads[0] if len(set(heads)) == 1 else heads)
        sliding = [row for row in owned if isinstance(row.reach, Window | Chunk)]
        full = [row for row in owned if not isinstance(row.reach, Window | Chunk)] or sliding
        for suffix, alike in (("", full), ("_swa", sliding)):
            sizes = {(row.key_dim, row.value_dim) for row in alike}
            if len(sizes) > 1:
                raise Inconvertible(f"head sizes differ between layers of one kind: {sorted(sizes)[:4]}")
            if sizes and (not suffix or sizes != {(full[0].key_dim, full[0].value_dim)}):
                key, value = sizes.pop()
                self.put(f"attention.key_length{suffix}", key)
                self.put(f"attention.value_length{suffix}", value)

    def latent(self, layers: Sequence[Layer] | None = None) -> Latent:
        """The one form of latent attention that its layers (or these) have.

        Raises:
            Inconvertible: several forms, or none.
        """
        found = {m for layer in (self.layers if layers is None else layers) for m in layer.memories if isinstance(m, Latent)}
        forms = {(m.rank, m.rope_dim, m.nope_dim, m.value_dim) for m in found}
        if len(forms) != 1:
            raise Inconvertible("its latent attention differs between layers" if forms else "it has no latent attention")
        return found.pop()

    def absorbed(self, latent: Latent | None = None) -> None:
        """Latent attention as one head of rank + rope."""
        latent = latent or self.latent()
        self.put("attention.head_count_kv", 1)
        self.put("attention.kv_lora_rank", latent.rank)
        self.put("attention.key_length", latent.rank + latent.rope_dim)
        self.put("attention.value_length", latent.rank)
        self.put("attention.key_length_mla", latent.nope_dim + latent.rope_dim)
        self.put("attention.value_length_mla", latent.value_dim)

    def kv_zeros(self, heads: int) -> None:
        """`heads` in the layers that attend, 0 in the recurrent ones."""
        attends = [any(isinstance(m, Softmax | Latent) for m in layer.memories) for layer in self.layers]
        self.put("attention.head_count_kv", [heads if there else 0 for there in attends])

    def query_zeros(self) -> None:
        """Query heads as an array: none in the layers without attention."""
        kv_heads = self.keys[f"{self.arch}.attention.head_count_kv"]
        if isinstance(kv_heads, list):
            self.put("attention.head_count", [(self.model.attention_heads or 0) if n else 0 for n in kv_heads])

    def window(self, *, pattern: bool) -> None:
        """The window, and which layers slide where the converter writes that."""
        slides = [isinstance(row.reach, Window | Chunk) if (row := self.softmax_of(layer)) else False for layer in self.layers]
        sizes = {
            row.reach.size for layer in self.layers if (row := self.softmax_of(layer)) and isinstance(row.reach, Window | Chunk)
        }
        if len(sizes) > 1:
            raise Inconvertible(f"windows of several sizes: {sorted(sizes)[:4]}")
        size = sizes.pop() if sizes else self.number("sliding_window")  # written even if no layer slides
        self.put("attention.sliding_window", size)
        if pattern and size:
            self.put("attention.sliding_window_pattern", slides)

    def recurrent(self) -> Recurrent | None:
        """The one form of state that all recurrent layers have."""
        found = {m for layer in self.layers for m in layer.memories if isinstance(m, Recurrent)}
        if len(found) > 1:
            raise Inconvertible("its states differ between layers")
        return next(iter(found), None)

    def ssm(self, *, state_axis: int = -1) -> None:
        """Convolution, inner width, state and groups of Mamba or a delta net, from the tensors of one state."""
        found = self.recurrent()
        if found is None:
            return
        conv = next((s for s in found.states if s.kernel), None)
        state = next((s for s in found.states if not s.kernel), None)
        if conv is None or state is None:
            raise Inconvertible("its states are not a convolution and a matrix")
        size = state.shape[state_axis]
        inner = prod(state.shape) // size
        self.put("ssm.conv_kernel", conv.kernel)
        self.put("ssm.inner_size", inner)
        self.put("ssm.state_size", size)
        self.put("ssm.group_count", max(conv.shape[0] - inner, 0) // (2 * size))

    def delta(self) -> None:
        """Attention in some layers, a delta net in the others, its sizes under the names of an SSM."""
        self.attention()
        self.ssm(state_axis=1)
        self.put("full_attention_interval", self.number("full_attention_interval", default=4))
        self.put("attention.recurrent_layers", [any(isinstance(m, Recurrent) for m in at.memories) for at in self.layers])

    def kda(self) -> int:
        """Head size and convolution of Kimi Delta Attention; returns the size.

        Raises:
            Inconvertible: no such layer, or a state of another kind.
        """
        found = self.recurrent()
        conv = next((s for s in found.states if s.kernel), None) if found else None
        state = next((s for s in found.states if not s.kernel), None) if found else None
        if conv is None or state is None:
            raise Inconvertible("it has no KDA layer")
        size = state.shape[-1]
        self.put("kda.head_dim", size)
        self.put("ssm.conv_kernel", conv.kernel)
        return size

    def index(self) -> Index:
        """The one form of indexer that its layers have.

        Raises:
            Inconvertible: several forms, or none.
        """
        found = {m for layer in self.layers for m in layer.memories if isinstance(m, Index)}
        if len({(m.dim, m.heads) for m in found}) != 1:
            raise Inconvertible("its indexers differ between layers" if found else "it has no indexer")
        return found.pop()

    def indexed(self) -> Sequence[bool]:
        """Which layers own an indexer's keys."""
        return [any(isinstance(m, Index) for m in layer.memories) for layer in self.layers]
