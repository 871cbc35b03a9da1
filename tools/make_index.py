"""Write the indexes of kvplan/architectures from the ROWS of its files, or check that they are current: which family reads a
model type (index.py), and which module counts its parameters (parameters/index.py); and of kvplan/engines from its `About`s,
what is asked of every engine before one is chosen (index.py).

python tools/make_index.py            write (`make index`)
python tools/make_index.py --check    exit 1 when it is stale
"""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ROOT / "kvplan" / "architectures" / "families"
INDEX = FAMILIES.parent / "index.py"
COUNTS = FAMILIES.parent / "parameters"
HEAD = '''"""Which family reads which model type: the families' ROWS, by tools/make_index.py (`make index`); do not edit."""

from typing import Final

# fmt: off
#: Family file -> the model types that it reads.
FAMILIES: Final[dict[str, tuple[str, ...]]] = {
'''
TAIL = """}
# fmt: on

#: Model type -> family file.
FAMILY_OF: Final = {model_type: family for family, types in FAMILIES.items() for model_type in types}
"""
ENGINES = ROOT / "kvplan" / "engines"
#: Folders in the order of all lists; a new one comes after them, by name.
ORDER = (
    "ideal", "llama_cpp", "transformers", "vllm", "sglang", "tensorrt_llm", "mlx_lm", "exllamav3", "lmdeploy", "ollama",
)  # fmt: skip
ENGINES_HEAD = '''"""What all engines are asked before one is chosen, by tools/make_index.py (`make index`); do not edit."""

from typing import Final

# fmt: off
#: name | folder | predicted or nothing | files that mean it | owners whose repositories do | makers whose devices do
LINES: Final = (
'''
ENGINES_TAIL = """)
# fmt: on
"""
COUNTS_HEAD = '''"""Which module counts a model type: the ROWS, by tools/make_index.py (`make index`); do not edit."""

from typing import Final

# fmt: off
#: Module of this package -> the model types (of the text part) that it counts.
MODULES: Final[dict[str, tuple[str, ...]]] = {
'''
COUNTS_TAIL = """}
# fmt: on

#: Model type -> module.
MODULE_OF: Final = {model_type: module for module, types in MODULES.items() for model_type in types}

# fmt: off
#: Model types whose towers are counted beside their text part: the rows of wrappers.py.
WRAPPERS: Final = frozenset({
%s
})
# fmt: on
"""


def families() -> dict[str, list[str]]:
    """The model types of each family file.

    Raises:
        SystemExit: two families read the same model type, or a file has no ROWS.
    """
    sys.path.insert(0, str(ROOT))  # this tree's families, whatever is installed
    blank = ModuleType("kvplan.architectures.index")  # so that a stale or broken index cannot get in the way
    blank.__dict__.update(FAMILIES={}, FAMILY_OF={})
    sys.modules.setdefault(blank.__name__, blank)
    found: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for path in sorted(FAMILIES.glob("[!_]*.py")):
        rows = getattr(import_module(f"kvplan.architectures.families.{path.stem}"), "ROWS", None)
        if not rows:
            raise SystemExit(f"{path.name}: has no ROWS, so no model type leads to it")
        found[path.stem] = claimed(path, rows, owners, "read")
    return found


def counts() -> dict[str, list[str]]:
    """The model types of each module that counts parameters; the rest of that folder is what they are made of.

    Raises:
        SystemExit: two modules count the same model type.
    """
    blank = ModuleType("kvplan.architectures.parameters.index")
    blank.__dict__.update(MODULES={}, MODULE_OF={}, WRAPPERS=frozenset())
    sys.modules.setdefault(blank.__name__, blank)
    found: dict[str, list[str]] = {}
    owners: dict[str, str] = {}
    for path in sorted(COUNTS.glob("[!_]*.py")):
        module = import_module(f"kvplan.architectures.parameters.{path.stem}")
        rows = getattr(module, "ROWS", None)
        if rows and hasattr(module, "read"):
            found[path.stem] = claimed(path, rows, owners, "counted")
    return found


def wrappers() -> str:
    """The model types of the wrappers whose towers are counted, as lines of a set."""
    from kvplan.architectures.parameters.wrappers import WRAPPERS

    row = ", ".join(f'"{model_type}"' for model_type in sorted(WRAPPERS)) + ","
    return "\n".join(textwrap.wrap(row, 130, initial_indent="    ", subsequent_indent="    ", break_on_hyphens=False))


def claimed(path: Path, rows: Iterable[str], owners: dict[str, str], verb: str) -> list[str]:
    """The model types of a file, each of which belongs to it alone.

    Raises:
        SystemExit: another file has one of them.
    """
    for model_type in rows:
        if model_type in owners:
            raise SystemExit(f"{path.name}: `{model_type}` is {verb} by {owners[model_type]}.py already")
        owners[model_type] = path.stem
    return sorted(rows)


def engines() -> Iterator[str]:
    """One line an engine, of each folder that has an `about.py`."""
    blank = ModuleType("kvplan.engines.index")
    blank.__dict__.update(LINES=())
    sys.modules.setdefault(blank.__name__, blank)
    there = sorted(path.parent.name for path in ENGINES.glob("*/about.py") if path.parent.name != "kernel")
    for folder in sorted(there, key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        about = import_module(f"kvplan.engines.{folder}.about").ABOUT
        lists = (" ".join(words) for words in (about.suffixes, about.owners, about.default_on))
        yield f'    "{"|".join((about.name, folder, "predicted" * about.predicted, *lists))}",\n'


def listed(files: dict[str, list[str]]) -> str:
    """The rows of an index."""
    lines = []
    for family, types in files.items():
        row = ", ".join(f'"{model_type}"' for model_type in types) + ","
        line = f'    "{family}": ({row}),'
        if len(line) > 130:
            wrapped = textwrap.wrap(row, 130, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False)
            line = "\n".join([f'    "{family}": (', *wrapped, "    ),"])
        lines.append(f"{line}\n")
    return "".join(lines)


def main() -> int:
    """Write or check the indexes."""
    texts = {
        INDEX: HEAD + listed(families()) + TAIL,
        COUNTS / "index.py": COUNTS_HEAD + listed(counts()) + COUNTS_TAIL % wrappers(),
    }
    texts[ENGINES / "index.py"] = ENGINES_HEAD + "".join(engines()) + ENGINES_TAIL
    if "--check" not in sys.argv[1:]:
        for path, text in texts.items():
            path.write_text(text, encoding="utf-8")
        return 0
    stale = [
        str(path.relative_to(ROOT))
        for path, text in texts.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]
    if stale:
        print(f"stale: {', '.join(stale)}; run `make index`", file=sys.stderr)
    return int(bool(stale))


if __name__ == "__main__":
    sys.exit(main())
