"""What the counters of parameters read a config through: the class defaults filled in, and the layers that the family found."""

from collections import ChainMap
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from kvplan.architectures.kit.config import Config
from kvplan.architectures.kit.reader import Decoder
from kvplan.domain.model import Chunk, Cross, Full, Latent, Memory, Recurrent, Shared, Softmax, Window

#: Names of fields that config classes take without listing them as aliases (BLOOM's `n_embed`).
_OLD_NAMES = {"n_embed": "hidden_size"}
#: The width of the residual stream, by the classes' names for it.
HIDDEN = ("hidden_size", "n_embd", "d_model", "model_dim", "embed_dim", "n_embed", "emb_dim", "dim", "width")


Kind = TypeVar("Kind")


@cache
def class_defaults() -> dict[str, dict[str, Any]]:
    """Model type -> the defaults of its config class that may decide shapes (transformers 5.23; made by
    tools/make_parameter_defaults.py)."""
    text = Path(__file__).with_name("class_defaults.json").read_bytes()
    found: dict[str, dict[str, Any]] = msgspec.json.decode(text)
    return found


def completed(c: Config, model_type: str, given: Mapping[str, Any] | None = None) -> Config:
    """The section with `given`, then its class's defaults, for the keys that it leaves out.

    A default yields to any name of the same field (`hidden_size` for GPT-2's `n_embd`).
    """
    defaults = {**class_defaults().get(model_type, {}), **(given or {})}
    if not defaults:
        return c
    said = set(c.data)
    aliases: dict[str, str] = defaults.get("_aliases", {})
    said |= {field for alias, field in {**aliases, **_OLD_NAMES}.items() if alias in said}
    missing = {key: value for key, value in defaults.items() if key not in said and not key.startswith("_")}
    return c.replaced(ChainMap(c.data, missing))  # type: ignore[arg-type]  # read, never written


def assumed_part(wrapper: str, key: str) -> Mapping[str, Any]:
    """What a wrapper's class makes of an absent part: its model type as `type`, its sizes as `given`."""
    found: Mapping[str, Any] = class_defaults().get(wrapper, {}).get("_parts", {}).get(key, {})
    return found


def part(outer: Config, wrapper: str, key: str) -> tuple[Config, str] | None:
    """A part of a multimodal config, completed, and its model type; None where the wrapper has no such part."""
    assumed = assumed_part(wrapper, key)
    present = isinstance(outer.data.get(key), Mapping)
    if not present and (not assumed or assumed.get("optional")):
        return None
    section = outer.section(key)
    model_type: str = section.text("model_type", default="")
    if assumed.get("fixed") or model_type not in class_defaults():
        model_type = assumed.get("type", model_type)
    return completed(section, model_type, {} if section.data else assumed.get("given")), model_type


class Section:
    """A completed section of a config, read by size."""

    __slots__ = ("c",)

    def __init__(self, c: Config) -> None:
        self.c = c

    @property
    def hidden(self) -> int:
        """Elements of the residual stream."""
        return self.number(*HIDDEN)

    def number(self, *keys: str, default: int | None = None, minimum: int = 0) -> int:
        """A size; `default` None means that the config must have it."""
        if default is None:
            found: int = self.c.integer(*keys, minimum=minimum)
        else:
            found = self.c.integer(*keys, default=default, minimum=minimum)
        return found

    def maybe(self, *keys: str) -> int | None:
        """A size, or None where it is absent or null."""
        found: int | None = self.c.integer(*keys, default=None, minimum=0)
        return found

    def flag(self, value: bool | str) -> bool:
        """A switch of a row: a constant, or the config key that holds it (`!key` negates)."""
        if isinstance(value, bool):
            return value
        return not self.c.flag(value[1:]) if value.startswith("!") else self.c.flag(value)


class Sizes(Section):
    """A text decoder as the builders of its modules see it.

    `c` is its section completed with class defaults; `memories` are its layers as the family read them, the source of every
    head count and head size; `hidden` is the width of the residual stream.
    """

    __slots__ = ("drafts", "explicit", "heads", "memories", "model_type", "outer")

    def __init__(
        self, c: Config, outer: Config, decoder: Decoder, model_type: str, explicit: tuple[Mapping[str, Any], ...] = ()
    ) -> None:
        super().__init__(c)
        self.explicit = explicit or (outer.data, c.data)
        self.outer = outer
        copies = decoder.loop.copies if decoder.loop is not None else 0  # caches of later passes, with the same weights
        self.memories: Sequence[tuple[Memory, ...]] = decoder.layers[: len(decoder.layers) - copies]
        self.drafts = decoder.drafts
        self.heads = decoder.heads or 0
        self.model_type = model_type

    @property
    def reaches(self) -> list[str]:
        """How far each layer's attention sees, in a word: `full`, `sliding`, `chunked`."""
        words = {Full: "full", Window: "sliding", Chunk: "chunked"}
        return [
            next((words.get(type(m.reach), "other") for m in ms if isinstance(m, Softmax | Latent)), "") for ms in self.memories
        ]

    def reaches_through(self, layer: int) -> str:
        """How far a layer's attention sees, also where it shares another layer's keys and values."""
        source = next((m.source for m in self.memories[layer] if isinstance(m, Shared)), layer)
        return self.reaches[source]

    @property
    def layers(self) -> int:
        """How many layers the decoder has."""
        return len(self.memories)

    def attention(self, layer: int) -> Softmax | None:
        """What a layer attends with: its own keys and values, or those of the layer that it shares."""
        for memory in self.memories[layer]:
            if isinstance(memory, Softmax):
                return memory
            if isinstance(memory, Shared):
                return self.attention(memory.source)
        return None

    def shares(self, layer: int) -> bool:
        """Whether a layer reads another layer's keys and values."""
        return any(isinstance(memory, Shared) for memory in self.memories[layer])

    def find(self, layer: int, kind: type[Kind]) -> Kind | None:
        """The layer's memory of this kind, or None."""
        return next((memory for memory in self.memories[layer] if isinstance(memory, kind)), None)

    def need(self, layer: int, kind: type[Kind]) -> Kind:
        """The layer's memory of this kind, which the architecture cannot do without.

        Raises:
            ConfigError: the config's layer map gives it another.
        """
        found = self.find(layer, kind)
        if found is None:
            self.c.refuse("layer_types", f"gives layer {layer} no {kind.__name__.lower()} memory, which `{self.model_type}` has")
        return found

    def latent(self, layer: int) -> Latent | None:
        """The layer's latent attention."""
        return self.find(layer, Latent)

    def recurrent(self, layer: int) -> Recurrent | None:
        """The layer's recurrent state."""
        return self.find(layer, Recurrent)

    def cross(self, layer: int) -> Cross | None:
        """The layer's cross-attention."""
        return self.find(layer, Cross)

    def tied(self, default: bool = False) -> bool:
        """Whether the head is the embedding table: what the wrapper or the text part says, else what either class assumes."""
        for section in self.explicit:
            if isinstance(section.get("tie_word_embeddings"), bool):
                return bool(section["tie_word_embeddings"])
        for c in (self.outer, self.c):
            if isinstance(c.data.get("tie_word_embeddings"), bool):
                return c.flag("tie_word_embeddings")
        return default
