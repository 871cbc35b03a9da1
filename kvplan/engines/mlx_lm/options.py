"""Options of mlx-lm, by its own names and with its defaults.

Source: mlx_lm/generate.py:generate_step, BatchGenerator, setup_arg_parser; mlx_lm/server.py:main; mlx_lm/convert.py; 0.32.2.
"""

from typing import Final

from msgspec import Struct

from kvplan.errors import OptionError
from kvplan.units import MAX_COUNT

#: What `mx.quantize` takes: bits a value, and values that share a scale and a bias.
BITS: Final = (1, 2, 3, 4, 5, 6, 8)
GROUPS: Final = (32, 64, 128)
DTYPES: Final = {
    "float16": "float16", "fp16": "float16", "f16": "float16", "half": "float16",
    "bfloat16": "bfloat16", "bf16": "bfloat16", "16-bit": "bfloat16",
    "float32": "float32", "fp32": "float32", "f32": "float32", "float": "float32",
}  # fmt: skip


class MlxLmOptions(Struct, frozen=True, kw_only=True):
    """How prompts are fed and caches are stored.

    `dtype`: the activations' (`mlx_lm.convert --dtype`); "auto" is the model's. `max_kv_size`: rows of a rotating cache, for
    models that do not make their own. `kv_bits`, `kv_group_size`: a quantised cache, once `quantized_kv_start` tokens are
    cached. `prefill_step_size`: tokens of a prompt in one call. `prompt_concurrency`, `decode_concurrency`: sequences that
    the server prefills and decodes at once. `prompt_len`: how many of a sequence's tokens were its prompt; None: all.
    """

    dtype: str = "auto"
    max_kv_size: int | None = None
    kv_bits: int | None = None
    kv_group_size: int = 64
    quantized_kv_start: int = 5000
    prefill_step_size: int = 2048
    decode_concurrency: int = 32
    prompt_concurrency: int = 8
    prompt_len: int | None = None
    prompt_cache_size: int = 10  # entries that the server keeps of finished requests
    prompt_cache_bytes: int | None = None  # and bytes of them, running requests included; None: no limit

    def __post_init__(self) -> None:
        if self.dtype.removeprefix("torch.").lower() not in {"auto", *DTYPES}:
            raise OptionError(
                f"dtype: mlx-lm runs models in float16, bfloat16 or float32, got `{self.dtype[:40]}`",
                hint="a narrower cache is «set kv_bits=8» or kv_bits=4",
                option="dtype",
            )
        for name in ("prefill_step_size", "decode_concurrency", "prompt_concurrency", "prompt_cache_size"):
            _within(name, getattr(self, name), 1)
        _within("quantized_kv_start", self.quantized_kv_start, 0)
        for name in ("max_kv_size", "prompt_len", "prompt_cache_bytes"):
            if getattr(self, name) is not None:
                _within(name, getattr(self, name), 1)
        if self.kv_bits is not None:
            _one_of("kv_bits", self.kv_bits, BITS)
            _one_of("kv_group_size", self.kv_group_size, GROUPS)

    def dtype_for(self, dtype: str) -> str:
        """The activations' dtype of a model whose own is `dtype`."""
        own = self.dtype.removeprefix("torch.").lower()
        return dtype if own == "auto" else DTYPES[own]


def _within(name: str, value: int, minimum: int) -> None:
    if not minimum <= value <= MAX_COUNT:
        shown = f"{value:,}" if abs(value) <= MAX_COUNT else "a huge number"
        raise OptionError(f"{name} must be from {minimum} to 2**53, got {shown}", option=name)


def _one_of(name: str, value: int, known: tuple[int, ...]) -> None:
    if value not in known:
        raise OptionError(f"{name}: mlx quantises with {', '.join(map(str, known))}, got {str(value)[:20]}", option=name)
