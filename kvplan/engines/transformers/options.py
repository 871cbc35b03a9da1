"""What `generate()` and the cache classes of transformers take."""

from typing import Final

from msgspec import Struct

from kvplan.errors import OptionError, nearest

CACHES: Final = ("auto", "dynamic", "static", "quantized", "plain", "hybrid", "hybrid_chunked", "sliding_window")


class TransformersOptions(Struct, frozen=True, kw_only=True):
    """What `generate()` and the cache classes take.

    `cache`: `auto` (what `generate()` builds for the model), `dynamic`, `static`, `quantized`, `plain` (a
    `DynamicCache()` made without a config, which knows no windows), or an older release's `hybrid`, `hybrid_chunked`,
    `sliding_window`. `max_cache_len` is a static cache's room in tokens; without it, what a `generate()` of
    `max_length` tokens prepares, or of one token more than `seq_len`. `prompt_len` tokens went through at once.
    `num_beams` and `num_return_sequences` multiply the batch. The rest are the quantized cache's own.
    """

    cache: str = "auto"
    dtype: str = "auto"
    max_cache_len: int | None = None
    max_length: int | None = None
    prompt_len: int | None = None
    num_beams: int = 1
    num_return_sequences: int = 1
    backend: str = "quanto"
    nbits: int = 4
    axis_key: int | None = None
    axis_value: int | None = None
    q_group_size: int = 64
    residual_length: int = 128

    def __post_init__(self) -> None:
        if self.cache not in CACHES:
            near = nearest(self.cache, CACHES)
            hint = f"did you mean `{near}`?" if near else f"one of {', '.join(CACHES)}"
            raise OptionError(f"transformers option cache: there is no `{self.cache[:40]}` cache", hint=hint, option="cache")
        for name in ("max_cache_len", "max_length", "num_beams", "num_return_sequences", "q_group_size", "residual_length"):
            value = getattr(self, name)
            if value is not None and not 1 <= value <= 2**40:
                raise OptionError(f"transformers option {name} must be at least 1, got {value}", option=name)
        if self.prompt_len is not None and not 0 <= self.prompt_len <= 2**40:
            raise OptionError(f"transformers option prompt_len must be at least 0, got {self.prompt_len}", option="prompt_len")
