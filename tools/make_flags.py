"""Make `kvplan/engines/*/flags.json` from the tables of flags that were read from the engines' sources (tests/golden/flags).

    python tools/make_flags.py

Kept is what reading a command line needs: names, what each sets and takes, and in which releases. What a flag means, its
default and lists of allowed values stay in the golden table.
"""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = ROOT / "tests" / "golden" / "flags"
ENGINES = ROOT / "kvplan" / "engines"
#: Table -> the engine's folder.
FOLDERS = {"tabbyapi": "exllamav3"}
KEPT = ("names", "dest", "takes", "type", "hint", "list", "env", "key", "where", "since", "until", "not_in", "programs")
SWITCHES = ("memory", "suffix", "none", "or_text", "repeats", "removed")
CHANGED = ("up_to", "names", "negated", "takes", "type")
#: Bytes of a table: it travels with every installation.
MOST = 100_000


def row(flag: dict[str, Any]) -> dict[str, Any]:
    """What is kept of one flag."""
    kept = {key: flag[key] for key in KEPT if flag.get(key) not in (None, "", [], {})}
    kept |= {key: True for key in SWITCHES if flag.get(key)}
    if flag.get("stores") is False:
        kept["stores"] = False
    negated = flag.get("negated") or []
    if negated:
        kept["negated"] = [negated] if isinstance(negated, str) else negated
    changed = [
        {key: ([] if change[key] is None else change[key]) for key in CHANGED if key in change}
        for change in flag.get("changed", [])
    ]
    changed = [change for change in changed if len(change) > 1]
    if changed:
        kept["changed"] = changed
    if kept.get("hint") != "N":
        kept.pop("hint", None)
    return kept


def releases(table: dict[str, Any]) -> list[str]:
    """The releases that were read, oldest first."""
    found = list(table["versions"])
    return found[::-1] if table["engine"] == "llama.cpp" else found


def made(path: Path) -> str:
    """The text of one engine's table."""
    table = json.loads(path.read_text(encoding="utf-8"))
    rows = ",\n".join(json.dumps(row(flag), separators=(",", ":")) for flag in table["flags"])
    return f'{{"source":{json.dumps(table["source"])},\n"releases":{json.dumps(releases(table))},\n"flags":[\n{rows}\n]}}\n'


def main() -> int:
    """Write every table; 1 where one grew beyond its bound."""
    for path in sorted(GOLDEN.glob("*.json")):
        out = ENGINES / FOLDERS.get(path.stem, path.stem) / "flags.json"
        text = made(path)
        if len(text) > MOST:
            print(f"{out}: {len(text):,} bytes, at most {MOST:,}")
            return 1
        out.write_text(text, encoding="utf-8")
        print(f"{out.relative_to(ROOT)}: {len(text):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
