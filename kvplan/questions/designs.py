"""Designs that keep at most a share of a model's cache: the taught rewrites, one or two together, and the mildest of each.

A design is left out where a milder one of the same kinds is small enough as well: fewer KV heads than needed, a shorter window, a
longer row of layers that share. What is left is hypothetical: nobody has trained it, and what it costs in quality is not known.
"""

from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from itertools import combinations
from typing import Final

from msgspec import Struct

from kvplan.domain.model import Chunk, Compressed, Latent, Model, Recurrent, Shared, Softmax, Window
from kvplan.domain.variants import variant
from kvplan.errors import OptionError, shown
from kvplan.units import parse_size

#: What is tried, the mildest first.
_SHARING: Final = (2, 3, 4)
_WINDOWS: Final = (8192, 4096, 2048, 1024, 512, 128)  # tokens
_SLIDING: Final = ("1/2", "3/4", "5/6", "")  # of the layers; empty: all
_RANKS: Final = (512, 256, 128)
_ROPE: Final = 64
_STATES: Final = ("1/2", "3/4", "7/8")
#: Kinds that are two answers to one question.
_INSTEAD: Final = frozenset({"heads", "latent"})
#: Layers of a model of which pairs are tried as well.
_MOST_LAYERS: Final = 1500


class Choice(Struct, frozen=True):
    """One rewrite of a kind, and how far it goes in each of its numbers."""

    kind: str
    text: str
    strength: tuple[int, ...]


class Design(Struct, frozen=True):
    """Choices of different kinds together."""

    choices: tuple[Choice, ...]

    @property
    def text(self) -> str:
        """As `--variant` takes it."""
        return "+".join(choice.text for choice in self.choices)

    def milder(self, other: "Design") -> bool:
        """Whether the other goes at least as far in every kind that this one has."""
        theirs = {choice.kind: choice.strength for choice in other.choices}
        return all(
            choice.kind in theirs and all(a <= b for a, b in zip(choice.strength, theirs[choice.kind], strict=True))
            for choice in self.choices
        )


class Budget(Struct, frozen=True):
    """At most a share of the model's own cache, or so many bytes."""

    text: str
    share: Fraction | None = None
    bytes: int = 0

    def of(self, whole: int) -> int:
        """The bytes that are allowed."""
        return self.bytes if self.share is None else int(self.share * whole)


def budget_from(text: str) -> Budget:
    """`25%`, `1/4`, `0.25`, or a size.

    Raises:
        OptionError: none of these, or not between nothing and the whole.

    >>> budget_from("25%").of(1000), budget_from("1/3").of(1000), budget_from("1MiB").of(1)
    (250, 333, 1048576)
    """
    plain = text.strip()
    number = plain.removesuffix("%")
    share: Fraction | None = None
    if len(plain) <= 20 and plain.isascii() and number.strip("0123456789./") == "" and number:
        try:
            share = Fraction(number) / (100 if plain.endswith("%") else 1)
        except (ValueError, ZeroDivisionError):
            share = None
    elif plain[-1:].isalpha():
        return Budget(plain[:40], bytes=parse_size(plain, what="«budget»"))
    if share is None or not 0 < share < 1:
        raise OptionError(
            f"«budget»: {shown(text)} is no share of the cache", hint="such as 25%, 1/4, or a size (2GiB)", option="budget"
        )
    return Budget(plain, share=share)


def within(model: Model, most: int, seq_len: int, total: Callable[[Model], int | None]) -> tuple[list[tuple[str, Model]], int]:
    """The mildest designs that keep at most `most` bytes, the largest first.

    Args:
        model: what is rewritten.
        most: bytes.
        seq_len: tokens of the workload; windows of that length and more change nothing.
        total: the bytes of a model, None where it is not predicted.

    Returns:
        (variant, model) of each, and how many were tried.
    """
    found: list[tuple[Design, Model, int]] = []
    tried = 0
    for design in _designs(model, seq_len):
        if any(other.milder(design) for other, _, _ in found):
            continue
        tried += 1
        try:
            rewritten = variant(model, design.text)
        except OptionError:  # this model does not say what the rewrite needs
            continue
        size = total(rewritten)
        if size is not None and size <= most:
            found = [(other, m, s) for other, m, s in found if not design.milder(other)]
            found.append((design, rewritten, size))
    found.sort(key=lambda each: -each[2])
    return [(design.text, rewritten) for design, rewritten, _ in found], tried


def _designs(model: Model, seq_len: int) -> Iterator[Design]:
    """Every choice alone, then every two of different kinds."""
    kinds = _choices(model, seq_len)
    for choices in kinds.values():
        yield from (Design((choice,)) for choice in choices)
    if len(model.layers) > _MOST_LAYERS:
        return
    for first, second in combinations(kinds, 2):
        if {first, second} != _INSTEAD:
            yield from (Design((a, b)) for a in kinds[first] for b in kinds[second])


def _choices(model: Model, seq_len: int) -> Mapping[str, list[Choice]]:
    """What can be tried on a model, by kind."""
    memories = [memory for layer in model.layers for memory in layer.memories]
    plain = [memory for memory in memories if isinstance(memory, Softmax)]
    latents = [memory for memory in memories if isinstance(memory, Latent)]
    heads = model.attention_heads or 0
    kv_heads = max((memory.kv_heads for memory in plain), default=0)
    width = max((memory.kv_heads * (memory.key_dim + memory.value_dim) for memory in plain), default=0)
    width = max([width, *(memory.absorbed_elements for memory in latents)])
    counts = [k for k in range(kv_heads - 1, 0, -1) if heads % k == 0] if heads else [1] * (kv_heads > 1)
    windows = [size for size in _WINDOWS if size < seq_len]
    found = {
        "heads": [Choice("heads", f"gqa={k}" if k > 1 else "mqa", (-k,)) for k in counts if plain and not latents],
        "latent": [Choice("latent", f"mla={r}+{_ROPE}", (-r,)) for r in _RANKS if heads and r + _ROPE < width],
        "state": [Choice("state", f"state:{part}", (i,)) for i, part in enumerate(_STATES) if heads],
        "window": [
            Choice("window", f"window={size}{part and ':' + part}", (i, -size))
            for i, part in enumerate(_SLIDING)
            for size in windows
        ],
        "cla": [Choice("cla", f"cla={n}", (n,)) for n in _SHARING if n <= len(plain) + len(latents)],
    }
    return {kind: choices for kind, choices in found.items() if choices}


def sees(model: Model) -> str:
    """What a token of a model can still see, in words.

    >>> from kvplan.domain.model import Full, Layer
    >>> full, near = (Softmax(kv_heads=2, key_dim=8, value_dim=8, reach=reach) for reach in (Full(), Window(1024)))
    >>> memories = (near, Shared(source=0), full)
    >>> sees(Model(name="m", model_type="x", layers=tuple(Layer(index=i, memories=(m,)) for i, m in enumerate(memories))))
    '1 of 3 layers every token, 2 the last 1,024 (1 reads another layer)'
    """
    counts: dict[str, int] = {}
    readers = 0
    for layer in model.layers:
        reads = next((memory for memory in layer.memories if isinstance(memory, Shared)), None)
        readers += reads is not None
        held = model.layers[reads.source].memories if reads is not None else layer.memories
        words = next((word for memory in held if (word := _sight(memory))), "")
        counts[words] = counts.get(words, 0) + 1
    counts.pop("", None)
    parts = [(f"{count} {words}") for words, count in sorted(counts.items(), key=lambda item: item[0] != "every token")]
    if len(parts) == 1 and sum(counts.values()) == len(model.layers):
        said = f"all layers {next(iter(counts))}"
    else:
        first, *others = parts or ["0 every token"]
        number, _, words = first.partition(" ")
        said = ", ".join([f"{number} of {len(model.layers)} layers {words}", *others])
    read = "reads" if readers == 1 else "read"
    return f"{said} ({readers} {read} another layer)" if readers else said


def _sight(memory: object) -> str:
    """What one memory lets its layer see."""
    match memory:
        case Softmax(reach=reach) | Latent(reach=reach):
            match reach:
                case Window(size=size):
                    return f"the last {size:,}"
                case Chunk(size=size):
                    return f"their chunk of {size:,}"
                case Compressed(ratio=ratio):
                    return f"one entry for {ratio:,} tokens"
                case _:
                    return "every token"
        case Recurrent():
            return "a state"
        case _:
            return ""
