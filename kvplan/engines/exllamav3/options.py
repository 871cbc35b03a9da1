"""TabbyAPI's names for what decides the cache's size (config.yml, `model`, `draft_model`, `memory`), and the library's own.

Source: tabby `common/config_models.py` (commit e632af4), exllamav3 1.6.5 `cache/cache.py:Cache.__init__`, `model_init.py`.
"""

from __future__ import annotations

import re
from typing import Final

import msgspec

from kvplan.domain.model import Model
from kvplan.engines.exllamav3.planes import PAGE, Mode
from kvplan.errors import OptionError

#: Words that TabbyAPI itself takes for a pair of bits.
_NAMED: Final = {"FP16": Mode(), **{f"Q{bits}": Mode(k_bits=bits, v_bits=bits, quantised=True) for bits in (8, 6, 4)}}
#: kvplan's dtypes that take the same bytes: 32 values with an fp16 scale.
_DTYPES: Final = {"q8_0": 8, "q6_0": 6, "q5_0": 5, "q4_0": 4}
#: Spellings of 16 bits that people use with other engines; this one keeps fp16 whatever the checkpoint holds.
_SIXTEEN: Final = frozenset({"fp16", "f16", "float16", "half", "bf16", "bfloat16", "16-bit", "auto"})
_PAIR: Final = re.compile(r"([2-8])\s*,\s*([2-8])")
_STATE_DTYPES: Final = {"half": "float16", "float16": "float16", "float": "float32", "float32": "float32"}
DRAFT_MODES: Final = ("model", "disabled", "mtp", "ngram")
_LIMIT: Final = 2**40
_MOST_CARDS: Final = 64


class ExLlamaV3Options(msgspec.Struct, frozen=True, kw_only=True):
    """Options by TabbyAPI's names; None is what it decides. Those below the line are the library's.

    `tensor_parallel` is how many cards a layer is cut over (TabbyAPI's own is true or false: it counts the cards).
    `gpu_split` are gigabytes for each card, as `20,24`; `draft` is the model that `draft_model_name` names.
    """

    max_seq_len: int | None = None  # tokens
    cache_size: int | None = None  # tokens of all jobs together; a multiple of 256
    cache_mode: str = "FP16"  # FP16, Q8, Q6, Q4, or bits of keys and values as 8,6
    max_batch_size: int | None = None  # jobs
    chunk_size: int = 2048  # tokens
    tensor_parallel: int = 1  # cards
    gpu_split: str = ""  # GB of each card
    draft_mode: str = "model"  # model, mtp, ngram or disabled
    draft: Model | None = None
    draft_cache_mode: str = "FP16"  # FP16, Q8, Q6 or Q4
    draft_num_tokens: int | None = None
    sysmem_kv_cache: int = 0  # MB of host memory for pages
    sysmem_recurrent_cache: int = 4096  # MB of host memory for checkpoints of states
    # the library's own
    swa_full: bool = False  # full pages instead of rings
    layer_map: str = ""  # "0..31,16..31": a cache for each occurrence
    recurrent_dtype: str = "half"  # or float
    compute_capability: int = 0  # of the card; 0: not known

    def __post_init__(self) -> None:
        for name, least in (("max_seq_len", -1), ("cache_size", 1), ("max_batch_size", 1), ("draft_num_tokens", 0)):
            value = getattr(self, name)
            if value is not None and not least <= value <= _LIMIT:
                raise OptionError(f"{name} must be a whole number of at least {least}, got {value}", option=name)
        for name, least in (
            ("chunk_size", 1),
            ("tensor_parallel", 1),
            ("sysmem_kv_cache", 0),
            ("sysmem_recurrent_cache", 0),
            ("compute_capability", 0),
        ):
            if not least <= getattr(self, name) <= _LIMIT:
                raise OptionError(f"{name} must be a whole number of at least {least}, got {getattr(self, name)}", option=name)
        if self.cache_size is not None and self.cache_size % PAGE:
            raise OptionError(
                f"cache_size must be a multiple of {PAGE}, got {self.cache_size}",
                hint=_nearest(self.cache_size),
                option="cache_size",
            )
        _mode(self.cache_mode, "cache_mode")
        if _mode(self.draft_cache_mode, "draft_cache_mode") not in _NAMED.values():
            raise OptionError(
                f"draft_cache_mode must be FP16, Q8, Q6 or Q4, got `{self.draft_cache_mode[:40]}`", option="draft_cache_mode"
            )
        if self.draft_mode not in DRAFT_MODES:
            raise OptionError(
                f"draft_mode: unknown value `{self.draft_mode[:40]}`",
                hint=f"one of {', '.join(DRAFT_MODES)}",
                option="draft_mode",
            )
        if self.recurrent_dtype not in _STATE_DTYPES:
            raise OptionError(
                f"recurrent_dtype must be half or float, got `{self.recurrent_dtype[:40]}`", option="recurrent_dtype"
            )
        for name, cards in (("gpu_split", len(self.cards)), ("tensor_parallel", self.tensor_parallel)):
            if cards > _MOST_CARDS:
                raise OptionError(f"{name} means {cards} cards, more than {_MOST_CARDS}", option=name)

    @property
    def mode(self) -> Mode:
        """How the main cache's pages are stored."""
        return _mode(self.cache_mode, "cache_mode")

    @property
    def draft_mode_of_cache(self) -> Mode:
        """How the drafter's pages are stored."""
        return _mode(self.draft_cache_mode, "draft_cache_mode")

    @property
    def kv_dtype(self) -> str:
        """The dtype of the main cache's pages in kvplan's words, where it has one."""
        return stored(self.mode)

    @property
    def state_dtype(self) -> str:
        """The dtype of recurrent states."""
        return _STATE_DTYPES[self.recurrent_dtype]

    @property
    def cards(self) -> tuple[float, ...]:
        """Gigabytes (2**30 bytes) that each card may take, as `gpu_split` says; empty: not said."""
        if not self.gpu_split.strip():
            return ()
        try:
            found = tuple(float(part) for part in self.gpu_split.split(","))
        except ValueError:
            found = (-1.0,)
        if any(not 0 <= size < 2**20 for size in found):
            raise OptionError(f"gpu_split must be gigabytes a card, as `20,24`, got `{self.gpu_split[:40]}`", option="gpu_split")
        return found


def stored(mode: Mode) -> str:
    """How a mode stores its elements, in kvplan's words where it has one."""
    if not mode.quantised:
        return "float16"
    same = next((name for name, bits in _DTYPES.items() if bits == mode.k_bits == mode.v_bits), "")
    return same or str(mode)


def _nearest(tokens: int) -> str:
    return f"use {tokens // PAGE * PAGE or PAGE} or {-(-tokens // PAGE) * PAGE}"


def _mode(text: str, name: str) -> Mode:
    """A cache mode as TabbyAPI writes it; its words are in capitals, and small ones are understood."""
    shown = text.strip()
    if shown.lower() in _SIXTEEN:
        return _NAMED["FP16"]
    named = _NAMED.get(shown.upper())
    if named is not None:
        return named
    bits = _DTYPES.get(shown.lower())
    if bits is not None:
        return Mode(k_bits=bits, v_bits=bits, quantised=True)
    pair = _PAIR.fullmatch(shown)
    if pair is None:
        raise OptionError(
            f"{name} must be FP16, Q8, Q6, Q4, or two numbers from 2 to 8 for keys and values, got `{text[:40]}`",
            hint="Q8 takes 8.5 bits a value, scales included",
            option=name,
        )
    return Mode(k_bits=int(pair[1]), v_bits=int(pair[2]), quantised=True)
