"""Lists of module names in a quantisation config: literal names, words, globs, `re:` expressions. Pure."""

import re
from collections.abc import Iterable
from fnmatch import translate
from typing import Final

_PREFIXES: Final = ("model.language_model.", "language_model.model.", "language_model.", "text_model.model.", "model.")
#: One part under the names that different authors give it.
_SYNONYMS: Final = {
    "ffn": "mlp", "block_sparse_moe": "mlp", "feed_forward": "mlp", "attn": "self_attn", "w1": "gate_proj", "w3": "up_proj",
    "w2": "down_proj", "head": "lm_head", "vision_model": "vision_tower", "visual": "vision_tower",
    "shared_expert": "shared_experts",
}  # fmt: skip
_LONGEST: Final = 200
_UNBOUNDED: Final = 4  # stars and pluses of one expression: names are short, so that many stay quick


def bare(name: str) -> str:
    """A module's name without what wrappers put before it, its parts under one spelling.

    >>> bare("model.language_model.layers.3.block_sparse_moe.experts.0.w2")
    'layers.3.mlp.experts.0.down_proj'
    """
    for prefix in _PREFIXES:
        if name.startswith(prefix):
            name = name[len(prefix) :]
            break
    return ".".join(_SYNONYMS.get(word, word) for word in name.split("."))


class Names:
    """A list of names that modules are looked up in.

    A literal matches a module of that name, every module under it, and modules whose name ends in it; one word matches
    wherever it is a part of a name. Globs are matched whole (fnmatch), as modelopt and vLLM do; `re:` from the beginning, as
    compressed-tensors does.

    Raises:
        ValueError: a `re:` entry that is not an expression, or could take very long.
    """

    __slots__ = ("_expressions", "_globs", "_literals", "_words")

    def __init__(self, entries: Iterable[str]) -> None:
        literals, words, globs, self._expressions = set[str](), set[str](), list[str](), list[re.Pattern[str]]()
        for entry in entries:
            if entry.startswith("re:"):
                self._expressions.append(_expression(entry[3:]))
            elif any(sign in entry for sign in "*?["):
                globs.append(translate(bare(entry)))
            elif "." in entry.removeprefix("model."):
                literals.add(bare(entry).removesuffix(".weight"))
            else:
                words.add(bare(entry))
        self._literals, self._words = frozenset(literals), frozenset(words)
        self._globs = re.compile("|".join(globs)) if globs else None

    def __contains__(self, module: str) -> bool:
        """Whether the list means this module (`model.layers.0.mlp.gate_proj`)."""
        name = bare(module)
        parts = name.split(".")
        if not self._words.isdisjoint(parts):
            return True
        if self._literals and any(
            ".".join(part) in self._literals for i in range(len(parts)) for part in (parts[: i + 1], parts[i:])
        ):
            return True
        if self._globs is not None and self._globs.match(name):
            return True
        return any(e.match(text) for e in self._expressions for text in (module, name, f"model.{name}"))


def _expression(text: str) -> re.Pattern[str]:
    """An expression that cannot take long on a name: no repeated groups, few stars."""
    stars = len(re.findall(r"[*+]|\{\d*,\d*\}", re.sub(r"(\.\*)+", ".*", text)))
    if len(text) > _LONGEST or stars > _UNBOUNDED or re.search(r"\)\s*[*+{]", text):
        raise ValueError(f"`re:{text[:60]}` is not an expression that kvplan reads")
    try:
        return re.compile(text)
    except (re.error, OverflowError, RecursionError) as problem:
        raise ValueError(f"`re:{text[:60]}` is not a regular expression") from problem
