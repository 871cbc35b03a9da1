"""What a model must remember from one token to the next: layers of memories, and nothing about engines.

A memory kind is a closed union, consumed with `match` and `assert_never`, so that the type checker
finds every engine that forgot one. How a memory is *stored* (absorbed or expanded, paged, padded,
sharded) is an engine's business, in `kvplan.engines`.
"""

import re
from typing import Any, Final, Literal

from msgspec import Struct, field, to_builtins
from msgspec.structs import replace

from kvplan.domain.latest import latest
from kvplan.domain.origin import Origin
from kvplan.domain.stored import StoredTensor
from kvplan.errors import shown
from kvplan.limits import HEADS, LAYERS, MEMORIES

MAX_LAYERS: Final = LAYERS
MAX_ELEMENTS: Final = 2**40  # one dimension; no real tensor is near it


class ModelError(ValueError):
    """A description that contradicts itself; loaders turn it into an `InputError` that names the file."""


def _require(name: str, value: object, minimum: int = 1, maximum: int = MAX_ELEMENTS) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not minimum <= value <= maximum:
        raise ModelError(f"`{name}` must be an integer from {minimum} to {maximum}, got {shown(value)}")


class Full(Struct, frozen=True):
    """Every earlier token stays visible."""


class Steps(Full, frozen=True):
    """Every earlier token stays visible, and whoever keeps them makes room for `size` tokens at a time (measured caches)."""

    size: int  # tokens

    def __post_init__(self) -> None:
        _require("steps", self.size)


class Window(Struct, frozen=True):
    """Only the last `size` tokens are visible, the current one included (sliding window)."""

    size: int  # tokens

    def __post_init__(self) -> None:
        _require("sliding_window", self.size)


class Chunk(Struct, frozen=True):
    """Only tokens of the current chunk of `size` are visible (Llama 4)."""

    size: int  # tokens

    def __post_init__(self) -> None:
        _require("chunk", self.size)


class Compressed(Struct, frozen=True):
    """One entry stands for `ratio` tokens (DeepSeek V4). `overlap`: an entry also looks at the group before."""

    ratio: int  # tokens per entry
    overlap: bool = False

    def __post_init__(self) -> None:
        _require("ratio", self.ratio)


Reach = Full | Window | Chunk | Compressed


class Softmax(Struct, frozen=True, kw_only=True):
    """Keys and values of `kv_heads` heads per token: MHA, MQA and GQA are names for that number.

    `value_dim` 0 means that the values *are* the keys (DeepSeek V4 stores one latent for both).
    """

    kv_heads: int
    key_dim: int  # elements per head
    value_dim: int  # elements per head
    reach: Reach = field(default_factory=Full)

    def __post_init__(self) -> None:
        _require("kv_heads", self.kv_heads)
        _require("key_dim", self.key_dim)
        _require("value_dim", self.value_dim, minimum=0)

    @property
    def elements(self) -> int:
        """Elements per token, keys and values together."""
        return self.kv_heads * (self.key_dim + self.value_dim)


class Latent(Struct, frozen=True, kw_only=True):
    """Multi-head latent attention: one compressed vector per token, shared by all heads.

    Engines that absorb the up-projections keep `rank + rope_dim` elements per token; those that do
    not keep `heads * (nope_dim + rope_dim + value_dim)`. Both are here: the model does not decide.
    """

    rank: int  # elements: width of the compressed key-value
    rope_dim: int  # elements: width of the rotary key, shared by all heads
    heads: int
    nope_dim: int  # elements per head: key without rotation
    value_dim: int  # elements per head
    reach: Reach = field(default_factory=Full)

    def __post_init__(self) -> None:
        for name in ("rank", "heads", "value_dim"):
            _require(name, getattr(self, name))
        for name in ("rope_dim", "nope_dim"):
            _require(name, getattr(self, name), minimum=0)

    @property
    def absorbed_elements(self) -> int:
        """Elements per token when the latent itself is stored.

        >>> Latent(rank=512, rope_dim=64, heads=128, nope_dim=128, value_dim=128).absorbed_elements
        576
        """
        return self.rank + self.rope_dim

    @property
    def expanded_elements(self) -> int:
        """Elements per token when every head's key and value are stored.

        >>> Latent(rank=512, rope_dim=64, heads=128, nope_dim=128, value_dim=128).expanded_elements
        40960
        """
        return self.heads * (self.nope_dim + self.rope_dim + self.value_dim)


class Index(Struct, frozen=True, kw_only=True):
    """The key cache of a sparse-attention indexer (DeepSeek V3.2 and later): `heads * dim` elements a token."""

    dim: int  # elements per head
    heads: int = 1
    dtype: str | None = None  # None: the cache dtype
    reach: Reach = field(default_factory=Full)

    def __post_init__(self) -> None:
        _require("index dim", self.dim)
        _require("index heads", self.heads)


class State(Struct, frozen=True, kw_only=True):
    """One state tensor of one sequence.

    A short convolution gives its channels as `shape` and its width as `kernel`; the columns kept
    (kernel - 1, or kernel) are the engine's choice. `groups` of `group_elements` channels, counted
    inside `shape[0]`, are replicated rather than split when tensor parallelism exceeds them (Mamba-2 B and C).
    """

    name: str
    shape: tuple[int, ...]  # elements
    dtype: str | None = None  # None: the model dtype
    kernel: int = 0  # taps of a short convolution; 0: not one
    groups: int = 0
    group_elements: int = 0
    shard: bool = True  # axis 0 is split by tensor parallelism

    def __post_init__(self) -> None:
        if not self.shape or len(self.shape) > 8:
            raise ModelError(f"state `{self.name[:40]}` needs a shape of 1 to 8 dimensions")
        for size in self.shape:
            _require(f"shape of state {self.name[:40]}", size)
        for name in ("kernel", "groups", "group_elements"):
            _require(name, getattr(self, name), minimum=0)
        if self.groups * self.group_elements > self.shape[0]:
            raise ModelError(f"state `{self.name[:40]}`: its groups are larger than its first dimension")


RecurrentKind = Literal["mamba", "mamba2", "gated_delta", "kda", "linear", "short_conv", "rg_lru", "rwkv", "xlstm", "state"]


class Recurrent(Struct, frozen=True, kw_only=True):
    """A fixed-size state per *sequence*: Mamba, gated DeltaNet, KDA, RWKV, short convolutions."""

    states: tuple[State, ...]
    kind: RecurrentKind = "state"

    def __post_init__(self) -> None:
        if not self.states:
            raise ModelError("a recurrent memory needs at least one state")


class Cross(Struct, frozen=True, kw_only=True):
    """Keys and values of encoder output or image tokens: written once, read at every step.

    `tokens` is a length that the model fixes (Whisper: 1,500); None means the workload's `encoder_len`.
    """

    kv_heads: int
    key_dim: int  # elements per head
    value_dim: int  # elements per head
    tokens: int | None = None
    reach: Reach = field(default_factory=Full)  # of the layer it sits in; some engines apply it here too

    def __post_init__(self) -> None:
        for name in ("kv_heads", "key_dim", "value_dim"):
            _require(name, getattr(self, name))
        if self.tokens is not None:
            _require("tokens", self.tokens)


class Shared(Struct, frozen=True, kw_only=True):
    """This layer reads the keys and values of layer `source` and owns none (CLA, YOCO, Gemma 3n)."""

    source: int  # layer index, earlier than this layer

    def __post_init__(self) -> None:
        _require("source", self.source, minimum=0, maximum=MAX_LAYERS)


Memory = Softmax | Latent | Index | Recurrent | Cross | Shared
_OWNERS: Final = (Softmax, Latent, Cross)  # whose keys and values later layers may share


class Layer(Struct, frozen=True, kw_only=True):
    """One layer: no memory (an MLP), one, or several (Falcon-H1: attention and state)."""

    index: int
    memories: tuple[Memory, ...] = ()


class Loop(Struct, frozen=True, kw_only=True):
    """Layers `first` to `stop` - 1 run `passes` times a token, with the same weights.

    `kept` says what the passes keep: `each` a cache of its own, and the layers of the later passes then stand, pass by pass,
    after those that the weights have; or one that all share, which only the `last` pass writes. In which order an engine
    lays them out, and whether it repeats them at all, is the engine's business (`Model.looped`).
    """

    first: int  # layer index
    stop: int  # the layer after the last
    passes: int
    kept: Literal["each", "last"] = "each"

    def __post_init__(self) -> None:
        _require("first layer of a loop", self.first, minimum=0, maximum=MAX_LAYERS)
        _require("layer after a loop", self.stop, minimum=self.first + 1, maximum=MAX_LAYERS)
        _require("passes", self.passes, maximum=MAX_LAYERS)
        if self.kept not in {"each", "last"}:
            raise ModelError(f"passes of a loop keep `each` its cache or the `last` one's, not {shown(self.kept)}")

    @property
    def copies(self) -> int:
        """Layers that the later passes add to those that the weights have."""
        return (self.passes - 1) * (self.stop - self.first) if self.kept == "each" else 0


class Fact(Struct, frozen=True):
    """Where a number came from: `key` of the config, its `value`, and `origin` (`config`, `class default` …)."""

    key: str
    value: str
    origin: str


_WORD: Final = r"[^a-z0-9]+"
#: Words in the names of models that score, and of those that embed.
_RERANKERS: Final = frozenset({"rerank", "reranker", "reranking"})
_EMBEDDERS: Final = frozenset({"embed", "embedding", "embeddings", "embedder"})
Use = Literal["generate", "embed", "rerank"]


def use_of(name: str) -> Use:
    """What a name says that something is for.

    >>> use_of("Qwen/Qwen3-Reranker-0.6B"), use_of("llama-3.1-8b")
    ('rerank', 'generate')
    """
    words = set(re.split(_WORD, name.lower()))
    return "rerank" if words & _RERANKERS else "embed" if words & _EMBEDDERS else "generate"


#: Fields of a model that its JSON form has in another shape, or has not.
_PLAIN: Final = frozenset({"layers", "drafts", "notes", "origin"})
#: Fields of a model that never decide equality.
_BESIDE: Final = frozenset({"notes", "provenance", "origin"})


class Assumed(Struct, frozen=True, kw_only=True):
    """A count that nobody published: it lies from `low` to `high` if what `because` says holds."""

    low: int
    high: int
    because: str

    def __post_init__(self) -> None:
        if not 1 <= self.low <= self.high:
            raise ModelError(f"an assumed count needs 1 <= low <= high, got {self.low:,} and {self.high:,}")


class Model(Struct, frozen=True, kw_only=True, eq=False):
    """A model as a list of layers.

    A layer that runs several times and keeps a cache for each pass stands here once a pass; `loop` says which those are.
    `dtype` is the type of the activations, so of an unquantised cache. `attention_heads` are the query
    heads. `drafts` are multi-token-prediction layers, which only speculative decoding builds.
    `weights_bytes` and `parameters` are the checkpoint's, where known; `assumed` says that `parameters` are not, and why.
    `origin` is what the file said, for what engines do by model type or key; a model that was described by hand has none,
    and engines then go by their general rules. `tensors` are a GGUF file's, with their places. `notes`, `provenance`,
    `origin` and `tensors` never decide equality.
    """

    name: str
    model_type: str
    layers: tuple[Layer, ...]
    drafts: tuple[Layer, ...] = ()
    loop: Loop | None = None
    dtype: str = "bfloat16"
    max_tokens: int | None = None
    attention_heads: int | None = None
    weights_bytes: int | None = None
    parameters: int | None = None
    assumed: Assumed | None = None
    inferred: bool = False  # read by shape, on request
    notes: tuple[str, ...] = ()
    provenance: tuple[Fact, ...] = ()
    origin: Origin | None = None
    tensors: tuple[StoredTensor, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= len(self.layers) <= MAX_LAYERS:
            raise ModelError(f"a model needs 1 to {MAX_LAYERS} layers, got {len(self.layers)}")
        if self.attention_heads is not None:
            _require("attention_heads", self.attention_heads, maximum=HEADS)
        if sum(len(layer.memories) for layer in (*self.layers, *self.drafts)) > MEMORIES:
            raise ModelError(f"its layers hold more than {MEMORIES:,} memories together")
        if self.assumed is not None and not self.assumed.low <= (self.parameters or 0) <= self.assumed.high:
            raise ModelError(f"`parameters` {self.parameters} do not lie from the low to the high that is assumed")
        if self.loop is not None and len(self.layers) - self.loop.copies < self.loop.stop:
            words = f"{self.loop.passes} passes over layers {self.loop.first} to {self.loop.stop - 1}"
            raise ModelError(f"{words} need {self.loop.stop + self.loop.copies} layers or more, got {len(self.layers)}")
        owners: set[int] = set()
        for position, layer in enumerate(self.layers):
            if layer.index != position:
                raise ModelError(f"layer {position} says that it is layer {layer.index}")
            owns = False
            for memory in layer.memories:  # plainly: models are made anew for every engine's own reading of them
                if isinstance(memory, _OWNERS):
                    owns = True
                elif isinstance(memory, Shared):
                    if memory.source >= position:
                        raise ModelError(f"layer {position} shares layer {memory.source}, which is not earlier")
                    if memory.source not in owners:
                        raise ModelError(f"layer {position} shares layer {memory.source}, which owns no keys and values")
            if owns:
                owners.add(position)

    @property
    def hub(self) -> str:
        """Its id on the hub, where one is known."""
        return next((fact.value for fact in self.provenance if fact.key == "hub"), "")

    @property
    def gguf(self) -> str:
        """The GGUF file that it was read from, as it was named; empty where none was."""
        if self.origin is None or "general.architecture" not in self.origin.config:
            return ""
        return self.origin.source

    @property
    def use(self) -> Use:
        """What it is for, by its class and its name: text, a vector of a text, or a score of two."""
        named = self.origin.config.get("architectures") if self.origin is not None else None
        classes = [name for name in named if isinstance(name, str)] if isinstance(named, list | tuple) else []
        if any(name.endswith("ForSequenceClassification") for name in classes):
            return "rerank"
        if any(name.endswith(("EmbeddingModel", "ForEmbedding")) for name in classes):
            return "embed"
        return use_of(f"{self.name} {self.hub}")

    @property
    def by_hand(self) -> bool:
        """Whether no config stands behind its layers: a design, or another model's layers rewritten."""
        return self.origin is None or not self.origin.config

    @property
    def design(self) -> bool:
        """Whether nobody has a checkpoint of it, so that no engine can be started with it: another model's layers rewritten,
        or layers described by hand without an id on the hub.
        """
        return self.by_hand and (self.origin is not None or not self.hub)

    @property
    def config_keys(self) -> frozenset[str]:
        """The keys of the config that it was read from; none of a model that was described by hand."""
        return frozenset(self.origin.config) if self.origin is not None else frozenset()

    @property
    def text_type(self) -> str:
        """The model type of the text decoder; of a model without a wrapper, the model's own."""
        return self.origin.text_type if self.origin is not None else self.model_type

    @property
    def own_layers(self) -> tuple[Layer, ...]:
        """The layers that the weights have: without the later passes of a loop."""
        return self.layers[: len(self.layers) - self.loop.copies] if self.loop is not None else self.layers

    def looped(self, passes: int, kept: Literal["each", "last"] = "each") -> "Model":
        """The same model, its loop run otherwise; what each pass beyond the first keeps is as the last pass had it.

        Raises:
            ModelError: too many layers.
        """
        if self.loop is None:
            return self
        loop, own = replace(self.loop, passes=passes, kept=kept), self.own_layers
        if len(own) + loop.copies > MAX_LAYERS:
            raise ModelError(f"{len(own)} layers with {passes} passes over {loop.stop - loop.first} are more than {MAX_LAYERS:,}")
        count = loop.stop - loop.first
        later = self.layers[len(own) :][-count:] or own[loop.first : loop.stop]
        copies = [later[i % count].memories for i in range(loop.copies)]
        layers = (*own, *(Layer(index=len(own) + i, memories=memories) for i, memories in enumerate(copies)))
        return replace(self, layers=layers, loop=loop)

    def _known(self) -> tuple[Any, ...]:
        """What decides equality: what the model is, not where that was read."""
        return tuple(getattr(self, name) for name in self.__struct_fields__ if name not in _BESIDE)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Model) and self._known() == other._known())

    def __ne__(self, other: object) -> bool:  # a Struct that does not compare says that everything is unequal
        return not self == other

    def __hash__(self) -> int:
        return hash(self._known())

    def __repr__(self) -> str:
        kinds = f", {self.parameters:,} parameters" if self.parameters else ""
        return f"<Model {self.name} · {self.model_type} · {len(self.layers)} layers · {self.dtype}{kinds}>"

    def to_dict(self) -> dict[str, Any]:
        """The JSON form: what each layer remembers, and what is known beside; `kvplan spec` writes what loads again."""
        shown: dict[str, Any] = to_builtins({name: getattr(self, name) for name in self.__struct_fields__ if name not in _PLAIN})
        return shown | {"layers": _layers(self.layers), "drafts": _layers(self.drafts), "notes": list(self.notes)}

    def collapsed(self) -> dict[tuple[Memory, ...], tuple[int, ...]]:
        """Equal layers together: memories -> the indices of the layers that hold them, in first-seen order."""
        return _collapsed(self)


@latest(8, by_identity=True)  # engines ask again and again of the model at hand
def _collapsed(model: Model) -> dict[tuple[Memory, ...], tuple[int, ...]]:
    groups: dict[tuple[Memory, ...], list[int]] = {}
    for layer in model.layers:
        groups.setdefault(layer.memories, []).append(layer.index)
    return {memories: tuple(indices) for memories, indices in groups.items()}


def _layers(layers: tuple[Layer, ...]) -> list[dict[str, Any]]:
    """Layers with the kind of each memory, and of what it reaches, by name."""
    return [{"index": layer.index, "memories": [_named(memory) for memory in layer.memories]} for layer in layers]


def _named(value: Struct) -> dict[str, Any]:
    found: dict[str, Any] = {"type": type(value).__name__.lower()}
    for name in value.__struct_fields__:
        part = getattr(value, name)
        found[name] = _named(part) if isinstance(part, Struct) else to_builtins(part)
    return found
