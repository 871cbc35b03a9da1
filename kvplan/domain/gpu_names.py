"""Names of cards as people, drivers and torch write them: `NVIDIA A100-SXM4-80GB`, `rtx4090`, `8xh100`, `m4 max 64gb`."""

import re
from functools import lru_cache
from typing import Final

from msgspec import Struct

#: Words that drivers and shops put around a name. They count where the card's own id has them.
_NOISE: Final = frozenset({
    "nvidia", "geforce", "tesla", "amd", "radeon", "instinct", "intel", "apple", "graphics", "gpu", "card", "generation", "gen",
    "edition", "design", "with", "blackwell", "hopper", "lovelace", "ampere", "turing", "data", "center", "vf", "gddr6", "gddr6x",
    "gddr7", "hbm", "hbm2", "hbm2e", "hbm3", "hbm3e", "vram", "memory", "rtx", "gtx", "rx", "arc", "silicon", "module", "unified",
})  # fmt: skip
#: Words of an id that tell two cards of one name apart only where they are typed.
_PLAIN: Final = frozenset({
    "rtx", "rx", "apple", "arc", "radeon", "sxm", "jetson", "tpu", "ascend", "gaudi", "dgx", "spark", "gb10", "strix", "halo",
})  # fmt: skip
_LONGEST: Final = 200  # characters
#: Patterns are compiled when a name is read, not when kvplan starts.
_SIZE: Final = r"([1-9][0-9]{0,3})(?:g|gb|gib)"
_GLUED: Final = (
    (r"\b(rtx|gtx|rx|arc|tpu|apple|geforce|tesla|radeon|quadro)-?(?=[a-z]?\d)", r"\1 "),  # rtx4090
    (r"\b(\d{4})-?(super|ti|xtx|xt|gre|d)\b", r"\1 \2"),  # 4090d
    (r"\b(ti)(super)\b", r"\1 \2"),
    (r"\b(m\d)(pro|max|ultra)\b", r"\1 \2"),  # m4max
    (r"\b([a-z]{1,2}\d{2,3}s?)(sxm|pcie|nvl)(?=\d?\b)", r"\1 \2"),  # h100sxm
    (r"\b(sxm)\d\b", r"\1"),  # sxm4
    (r"\bmax[- ]q\b", "maxq"),
    (r"\b(\d{1,4}) (g|gb|gib)\b", r"\1\2"),  # 80 GB
)
_BEFORE: Final = r"(?P<count>[0-9]{1,5})\s*[x×*]\s*(?P<name>\S.*)"
_AFTER: Final = r"(?P<name>.*\S)\s*[x×*]\s*(?P<count>[0-9]{1,5})"


class Words(Struct, frozen=True):
    """A name as words; `size` is the GB in it, if any."""

    plain: frozenset[str]
    noise: frozenset[str]
    size: int | None = None


@lru_cache(maxsize=1024)
def words(name: str) -> Words:
    """The words of a name, brand words apart.

    >>> found = words("NVIDIA A100-SXM4-80GB")
    >>> sorted(found.plain), sorted(found.noise), found.size
    (['a100', 'sxm'], ['nvidia'], 80)
    """
    text = re.sub(r"\((?:r|tm)\)", " ", name[:_LONGEST].lower())
    text = " ".join(re.sub(r"[^a-z0-9.]+", " ", text).split())
    for pattern, replacement in _GLUED:
        text = re.sub(pattern, replacement, text)
    size, kept = None, []
    for word in text.split():
        match = re.fullmatch(_SIZE, word)
        if match is not None:
            size = int(match[1])
        else:
            kept.append(word)
    return Words(frozenset(kept) - _NOISE, frozenset(kept) & _NOISE, size)


def has_letters(asked: Words, name: str) -> bool:
    """Whether a name may have every word: their letters stand in it. Words cost more to find than letters.

    >>> has_letters(words("m4 max"), "apple-m4-max"), has_letters(words("h100"), "h200-sxm-141gb")
    (True, False)
    """
    letters = "".join(c for c in name.lower() if c.isalnum() or c == ".")
    return all(word in letters for word in asked.plain)


def fits(asked: Words, known: Words, sizes: tuple[int, ...]) -> bool:
    """Whether a card may be what was asked for: it has every word, and is sold in that size."""
    return asked.plain <= known.plain and (asked.size is None or asked.size in (known.size, *sizes))


def beyond(asked: Words, known: Words) -> int:
    """How many words a card's id has that were not asked for and that make it another card (`ti`, `laptop`, `pcie`)."""
    return len((known.plain | known.noise) - asked.plain - asked.noise - _PLAIN)


def counts(name: str) -> list[tuple[str, int]]:
    """What may stand behind `8xh100`, `h100 x 8`, `h100*8`: names with the number of cards.

    >>> counts("8xh100")[:1], counts("a100-80gbx2"), counts("4090")
    ([('h100', 8)], [('a100-80gb', 2)], [])
    >>> counts("mi300x8")
    [('mi300', 8), ('mi300x', 8)]
    """
    if len(name) > _LONGEST:
        return []
    found = (re.fullmatch(pattern, name.strip(), re.IGNORECASE) for pattern in (_BEFORE, _AFTER))
    read = [(match["name"], int(match["count"])) for match in found if match is not None]
    return read + [(f"{rest}x", count) for rest, count in read if rest[-1:].isdigit()]  # mi300x8 has one x too few
