"""The catalogue: one YAML spec a published model, in `model_specs/`, found by name or by hub id.

Finding costs a few look-ups of file names: no spec is parsed to resolve another. What a list shows of each is kept in one
file beside them (`make index`).
"""

import os
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeVar

from kvplan.domain.model import Model
from kvplan.errors import UnknownModel

T = TypeVar("T")

#: What a hub id adds to a model's name without changing its layers: storage formats, then tuning, then dates and versions.
_FORMATS: Final = frozenset({
    "bf16", "fp16", "fp8", "nvfp4", "mxfp4", "fp4", "int4", "int8", "awq", "gptq", "gguf", "mlx", "4bit", "8bit", "bnb", "hf",
    "w4a16", "w8a8", "w8a16", "dwq", "dynamic", "static", "pertensor", "quantized",
})  # fmt: skip
_TUNINGS: Final = frozenset({"instruct", "chat", "it", "base", "pt", "thinking", "inst", "dpo", "sft"})
_DATE: Final = re.compile(r"\d{4}")
_FIRST_VERSION: Final = re.compile(r"v(0\.\d+|01|1(\.0)?)")
_VENDOR_PREFIXES: Final = ("meta-", "nvidia-", "tencent-", "c4ai-", "gpt-bigcode-")
#: A bare family name means its newest release; a hub id never does.
_NEWEST: Final = {"mistral-7b": "mistral-7b-v0.3", "mistral-7b-instruct": "mistral-7b-v0.3"}
_LONGEST: Final = 200  # characters; a hub id has at most 193
_NAME: Final = r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?"
_HUB_LINE: Final = r'^hub: "?([^"\n]+)"?$'
#: Organizations that republish others' models under the same names.
_MIRRORS: Final = frozenset({
    "nvidia", "redhatai", "neuralmagic", "unsloth", "thebloke", "bartowski", "sgl-project", "lmstudio-community",
    "mlx-community", "hugging-quants", "ggml-org", "huggyllama", "nousresearch", "casperhansen", "amd",
})  # fmt: skip
#: One organization under several names.
_RENAMED: Final = {
    "cohereforai": "coherelabs", "thudm": "zai-org", "openai-community": "openai", "google-t5": "google", "meta": "meta-llama",
    "deepseek": "deepseek-ai", "mistral-community": "mistralai", "ibm-fms": "ibm-ai-platform", "codellama": "meta-llama",
}  # fmt: skip


@cache
def folder() -> Path:
    """Where the specs are: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).resolve().parent.parent / "model_specs"
    return inside if inside.is_dir() else inside.parent.parent / "model_specs"


@cache
def listing() -> Path:
    """What `kvplan models` shows of every spec, in one file that `make index` writes."""
    return folder() / "listing.json"


@cache
def names() -> tuple[str, ...]:
    """Every name, sorted; a paper's rows have the paper's folder in front (`cla-paper/…`)."""
    root = folder()
    return tuple(sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.yaml")))


def find(text: str) -> Path | None:
    """The spec that `text` names: the name itself, or a hub id or tuned variant of it.

    A hub id counts only when the entry's own `hub` is of the same organization, or the organization is one that
    republishes models: `acme/gpt2` may be anything.
    """
    if len(text) > _LONGEST:
        return None
    root = folder()
    whole = _NEWEST.get(text.lower(), text.lower())
    exact = root / f"{whole}.yaml"
    if re.fullmatch(_NAME, whole) and exact.is_file():
        return exact
    owner, slash, name = whole.rpartition("/")
    for candidate in candidates(name):
        path = root / f"{candidate}.yaml"
        if re.fullmatch(_NAME, candidate) and path.is_file() and (not slash or _published_by(owner, path)):
            return path
    return None


def candidates(name: str) -> Iterator[str]:
    """Names to try for a hub repository's name, the most specific first.

    >>> list(candidates("meta-llama-3.1-8b-instruct-fp8"))
    ['llama-3.1-8b-instruct-fp8', 'llama-3.1-8b-instruct', 'llama-3.1-8b']
    """
    plain = re.sub(r"(?<=\d)_(?=\d)", ".", name.lower()).replace("_", "-").replace(".inst", "-inst").replace("quantized.w", "w")
    for prefix in _VENDOR_PREFIXES:
        plain = plain.removeprefix(prefix)
    words = plain.split("-")
    yield plain
    for is_extra in (_FORMATS.__contains__, _TUNINGS.__contains__, _DATE.fullmatch, _FIRST_VERSION.fullmatch):
        kept = [word for place, word in enumerate(words) if place == 0 or not is_extra(word)]
        if kept != words:
            words = kept
            yield "-".join(words)


def _published_by(owner: str, path: Path) -> bool:
    """Whether an entry is this organization's, read from its `hub` line alone."""
    found = re.search(_HUB_LINE, path.read_text(encoding="utf-8")[:1000], re.MULTILINE)
    if found is None:
        return False
    publisher = found[1].partition("/")[0].lower()
    return owner in _MIRRORS or _RENAMED.get(owner, owner) == _RENAMED.get(publisher, publisher)


def matching(pattern: str = "") -> Iterator[str]:
    """Every name that has `pattern` in it, or matches it where it has a `*`; a paper's rows in the paper's order."""
    from fnmatch import fnmatchcase

    wanted = pattern.lower()
    found = [name for name in names() if fnmatchcase(name, wanted if "*" in wanted else f"*{wanted}*")]
    return iter(sorted(found, key=_place) if any("/" in name for name in found) else found)


def expanded(texts: Iterable[T]) -> list[T | str]:
    """What was typed for models, with each pattern (a text with a `*`) replaced by the names that match it.

    Raises:
        UnknownModel: none matches.

    >>> expanded(["gpt2", "cla-paper/3b-h64-*"])
    ['gpt2', 'cla-paper/3b-h64-mqa', 'cla-paper/3b-h64-mqa-cla2']
    """
    found: list[T | str] = []
    for text in texts:
        if not isinstance(text, str) or "*" not in text or os.path.exists(text):
            found.append(text)
            continue
        names_of = list(matching(text)) if len(text) <= _LONGEST else []
        if not names_of:
            raise UnknownModel(
                f"no model of the catalogue matches `{text[:120]}`",
                hint="`kvplan models` lists them; a pattern is in quotes: 'qwen3-*'",
            )
        found += names_of
    return found


def _place(name: str) -> tuple[str, int, str]:
    """Where a name stands: a paper's rows where the paper is, as the file `order.txt` beside them says."""
    paper, slash, row = name.rpartition("/")
    rank = _order(paper).get(row, 10**6) if slash else 0
    return (paper or name, rank, name)


@cache
def _order(paper: str) -> dict[str, int]:
    path = folder() / paper / "order.txt"
    rows = path.read_text(encoding="utf-8").split() if path.is_file() else []
    return {row: place for place, row in enumerate(rows)}


def load(name: str) -> tuple[Model, str]:
    """The model of a name of `names`, with its hub id."""
    model = load_entry(folder() / f"{name}.yaml")
    return model, next((fact.value for fact in model.provenance if fact.key == "hub"), "")


def load_entry(path: Path) -> Model:
    """Load a catalogue spec, from what was parsed of it when the index was made."""
    from kvplan.loading.parsed import parsed
    from kvplan.loading.yaml_spec.read import load_spec

    name = path.relative_to(folder()).with_suffix("").as_posix()
    return load_spec(path, kept=lambda raw: parsed(folder(), name, raw))
