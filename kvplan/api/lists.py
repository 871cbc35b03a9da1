"""`kvplan.models`, `kvplan.gpus`, `kvplan.dtypes`: the catalogues as values."""

from collections.abc import Iterable
from fnmatch import fnmatchcase

from kvplan.domain.dtypes import DType
from kvplan.domain.gpus import Gpu
from kvplan.report.answers.models import Entry
from kvplan.report.notebook import displayed

displayed(Entry, "kvplan.report.answers.models:ModelsAnswer")
displayed(Gpu, "kvplan.report.answers.lists:gpu_listing")
displayed(DType, "kvplan.report.answers.lists:dtype_listing")


def models(pattern: str = "") -> tuple[Entry, ...]:
    """The models that kvplan knows by name.

    Args:
        pattern: part of a name, or a pattern such as `qwen*`.

    Returns:
        One `Entry` a model: `.model`, `.layout`, `.layers`, `.bytes_per_token`, `.max_tokens`, `.parameters`,
        `.weights_bytes`, `.hub`, `.to_dict()`.

    >>> [entry.model for entry in models("llama-3.1-8b")]
    ['llama-3.1-8b']
    """
    from kvplan.api.models import entries

    return tuple(entries(pattern))


def gpus(pattern: str = "") -> tuple[Gpu, ...]:
    """The cards that kvplan knows, in the catalogue's order.

    Args:
        pattern: part of a name, or a pattern such as `h100*`.

    Returns:
        One `Gpu` a card: `.id`, `.vendor`, `.reported_bytes`, `.bandwidth_gb_s`, `.sources`, `.to_dict()` …

    >>> [card.id for card in gpus("h100-sxm*")]
    ['h100-sxm-80gb']
    """
    from kvplan.domain.gpus import gpus as catalogue

    every = {card.id: card for card in catalogue()}
    return tuple(every[name] for name in _matching(pattern, every))


def dtypes(pattern: str = "") -> tuple[DType, ...]:
    """The cache dtypes.

    Args:
        pattern: part of a name, or a pattern such as `q4*`; another name of a dtype means that one.

    Returns:
        One `DType` each: `.name`, `.block`, `.block_bytes`, `.row_bytes(heads, dim)`, `.to_dict()`.

    >>> [dtype.name for dtype in dtypes("fp8_e*")], [dtype.name for dtype in dtypes("bf16")]
    (['fp8_e4m3', 'fp8_e5m2'], ['bfloat16'])
    """
    from kvplan.domain.dtypes import ALIASES, DTYPES

    alias = ALIASES.get(pattern.lower())
    named = [alias] if alias and not any(_matching(pattern, DTYPES)) else _matching(pattern, DTYPES)
    return tuple(DTYPES[name] for name in named)


def _matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that have `pattern` in them, or match it where it has a `*`."""
    wanted = pattern.lower()
    return [name for name in names if fnmatchcase(name, wanted if "*" in wanted else f"*{wanted}*")]
