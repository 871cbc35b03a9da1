"""Write kvplan/architectures/index.py from the families' ROWS, or check that it is current.

python tools/make_index.py            write (`make index`)
python tools/make_index.py --check    exit 1 when it is stale
"""

import sys
import textwrap
from importlib import import_module
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
FAMILIES = ROOT / "kvplan" / "architectures" / "families"
INDEX = FAMILIES.parent / "index.py"
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
        for model_type in rows:
            if model_type in owners:
                raise SystemExit(f"{path.name}: `{model_type}` is read by {owners[model_type]}.py already")
            owners[model_type] = path.stem
        found[path.stem] = sorted(rows)
    return found


def index() -> str:
    """The file's text."""
    lines = []
    for family, types in families().items():
        row = ", ".join(f'"{model_type}"' for model_type in types) + ","
        line = f'    "{family}": ({row}),'
        if len(line) > 130:
            wrapped = textwrap.wrap(row, 130, initial_indent=" " * 8, subsequent_indent=" " * 8, break_on_hyphens=False)
            line = "\n".join([f'    "{family}": (', *wrapped, "    ),"])
        lines.append(f"{line}\n")
    return HEAD + "".join(lines) + TAIL


def main() -> int:
    """Write or check the index."""
    text = index()
    if "--check" not in sys.argv[1:]:
        INDEX.write_text(text, encoding="utf-8")
        return 0
    if INDEX.read_text(encoding="utf-8") != text:
        print("stale: kvplan/architectures/index.py; run `make index`", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
