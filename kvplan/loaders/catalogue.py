"""The catalogue: one YAML spec a published model, in `model_specs/`, found by name or by hub id."""

import re
from functools import cache
from pathlib import Path
from typing import Final

from kvplan.model import Model

_TUNING: Final = re.compile(
    r"[-_.](instruct|chat|it|base|hf|pt|thinking|preview|bf16|fp8|nvfp4|awq|gptq|int4|int8|fp8[-_]dynamic|"
    r"gguf|mlx|4bit|8bit|v1:\d|\d{4})$"
)


@cache
def folder() -> Path:
    """Where the specs are: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).resolve().parent.parent / "model_specs"
    return inside if inside.is_dir() else inside.parent.parent / "model_specs"


@cache
def names() -> tuple[str, ...]:
    """Every name, sorted; a paper's rows have the paper's folder in front (`cla-paper/…`)."""
    root = folder()
    return tuple(sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.yaml")))


def find(text: str) -> Path | None:
    """The spec that `text` names: the name itself, or a hub id or tuned variant of it."""
    root = folder()
    for candidate in _candidates(text):
        path = root / f"{candidate}.yaml"
        if re.fullmatch(r"[a-z0-9][a-z0-9._-]*(/[a-z0-9][a-z0-9._-]*)?", candidate) and path.is_file():
            return path
    return None


def _candidates(text: str) -> list[str]:
    """Names to try, nearest to what was written first: without organisation, then without tuning suffixes.

    >>> _candidates("meta-llama/Meta-Llama-3.1-8B-Instruct")[-1]
    'llama-3.1-8b'
    """
    whole = text.lower()
    found = [whole]
    name = whole.rpartition("/")[2]
    while name:
        found += [name, name.removeprefix("meta-"), name.replace("_", "-")]
        shorter = _TUNING.sub("", name)
        if shorter == name:
            break
        name = shorter
    return found


def load_entry(path: Path) -> Model:
    """Load a catalogue spec."""
    from kvplan.loaders.spec import load_spec

    return load_spec(path)
