"""How engines are told their share of a card, and in which order they can start. Rows of data and pure arithmetic.

The same word means different things: vLLM's fraction is of the card's *total*, SGLang's of what is *free before* it loads
its weights, TensorRT-LLM's and LMDeploy's of what is *free after*. llama.cpp takes what its context needs, and transformers
grows as it goes.
"""

from fractions import Fraction
from math import ceil
from typing import Final, Literal

from msgspec import Struct

Meaning = Literal["of total", "of free before loading", "of free after loading", "what its context needs", "grows as it goes"]


class Sharing(Struct, frozen=True, kw_only=True):
    """One engine's way: the flag (with `{}` for the fraction), what the fraction is of, and where that is written.

    `split_flag` splits a model over cards, where kvplan does not write the whole command.
    """

    meaning: Meaning
    flag: str = ""
    split_flag: str = ""
    source: str = ""
    rank: int = 0  # when it starts: 0 anywhere, 1 after those, 2 last


#: Engine -> how it is told its share.
SHARINGS: Final[dict[str, Sharing]] = {
    "vllm": Sharing(
        meaning="of total",
        flag="--gpu-memory-utilization {}",
        split_flag="--tensor-parallel-size {}",
        source="vllm/v1/worker/utils.py:request_memory",
    ),
    "sglang": Sharing(
        meaning="of free before loading",
        flag="--mem-fraction-static {}",
        split_flag="--tp-size {}",
        source="sglang model_executor: _profile_available_bytes",
        rank=1,
    ),
    "tensorrt-llm": Sharing(
        meaning="of free after loading",
        flag="--kv_cache_free_gpu_memory_fraction {}",
        split_flag="--tp_size {}",
        source="tensorrt_llm/_torch/pyexecutor/_util.py",
        rank=1,
    ),
    "lmdeploy": Sharing(
        meaning="of free after loading",
        flag="--cache-max-entry-count {}",
        split_flag="--tp {}",
        source="lmdeploy docs",
        rank=1,
    ),
    "llama.cpp": Sharing(meaning="what its context needs", source="llama.cpp src/llama-context.cpp"),
    "transformers": Sharing(
        meaning="grows as it goes",
        flag="torch.cuda.set_per_process_memory_fraction({})",
        source="torch.cuda: a limit, of the total",
        rank=2,
    ),
}
#: A process of another kind: it takes what it takes.
OTHER: Final = Sharing(meaning="what its context needs")
#: Vendor -> the environment variable that shows a process some of the cards only.
_VISIBLE: Final = {"nvidia": "CUDA_VISIBLE_DEVICES", "amd": "HIP_VISIBLE_DEVICES", "intel": "ZE_AFFINITY_MASK"}
_DIGITS: Final = 4


def visible_cards(vendor: str, cards: tuple[int, ...]) -> str:
    """What a process's environment says so that it sees these cards only; empty for a vendor without such a variable.

    >>> visible_cards("nvidia", (0, 1))
    'CUDA_VISIBLE_DEVICES=0,1'
    """
    name = _VISIBLE.get(vendor)
    return f"{name}={','.join(map(str, cards))}" if name else ""


def sharing_of(engine: str) -> Sharing:
    """The row of an engine (`NAME` or `NAME@VERSION`)."""
    return SHARINGS.get(engine.partition("@")[0], OTHER)


def of_total(needed_bytes: int, total_bytes: int) -> tuple[str, int]:
    """The smallest fraction of four digits that gives `needed_bytes`, and the bytes that the engine then takes.

    >>> of_total(20, 100)
    ('0.2', 20)
    """
    share = Fraction(-(-needed_bytes * 10**_DIGITS // total_bytes), 10**_DIGITS)
    text = f"{float(share):.{_DIGITS}f}".rstrip("0").rstrip(".")
    return text, ceil(total_bytes * float(share))


def of_free(cache_bytes: int, kept_bytes: int, free_bytes: int, meaning: Meaning) -> str:
    """The fraction for an engine that measures what is free when it starts, rounded down; empty when nothing is left for it.

    Args:
        cache_bytes: what its cache shall get.
        kept_bytes: its weights and reserve.
        free_bytes: free when it starts, after those that started earlier.
    """
    after = free_bytes - kept_bytes
    if after <= 0 or free_bytes <= 0 or cache_bytes > after:
        return ""
    share = Fraction(cache_bytes, after)
    if meaning == "of free before loading":  # cache = after - before * (1 - fraction)
        share = 1 - Fraction(after - cache_bytes, free_bytes)
    return f"{share.numerator * 10**_DIGITS // share.denominator / 10**_DIGITS:g}"
