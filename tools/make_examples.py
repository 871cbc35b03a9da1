"""Writes what the commands of README and docs/ print now into their console blocks: `python tools/make_examples.py`.

Run it when the words or the layout of a report changed, and read the difference: `tests/test_docs.py` holds the pages to what is
printed. An output that a page cuts with `…` keeps its number of lines.
"""

import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(```console\n)(.*?)(```)", re.DOTALL)
ASKED = "; echo $?"
GUIDES = ROOT / "docs" / "guides"
FILES = [*GUIDES.glob("*.yaml"), *GUIDES.glob("*.csv"), *(ROOT / "tests" / "golden" / "gguf").glob("*.gguf")]
ENVIRONMENT = {"PATH": "", "PYTHONPATH": str(ROOT), "COLUMNS": "100", "LC_ALL": "C.UTF-8"}


def session(block: str, folder: Path) -> str:
    """A block with what its commands print now."""
    lines, found = block.splitlines(), []
    position = 0
    while position < len(lines):
        end = position + 1
        while lines[end - 1].endswith("\\"):
            end += 1
        typed = lines[position:end]
        until = end
        while until < len(lines) and not lines[until].startswith("$ "):
            until += 1
        found += [*typed, *_printed(typed, lines[end:until], folder)]
        position = until
    return "".join(f"{line}\n" for line in found)


def _printed(typed: list[str], shown: list[str], folder: Path) -> list[str]:
    """What a command prints, cut as the page cuts it; what stands there where it is none of kvplan's or shows nothing."""
    command = "".join(line.removesuffix("\\") if i == 0 else line.removesuffix("\\").strip() for i, line in enumerate(typed))
    words = shlex.split(command.removeprefix("$ ").removesuffix(ASKED))
    if words[0] != "kvplan" or not any(shown) or shown == ["…"]:
        if words[0] == "kvplan":
            _run(words, folder)  # a later command may read what it writes
        return shown
    done = _run(words, folder)
    printed = [line.rstrip() for line in done.stdout.strip("\n").splitlines()]
    printed += [str(done.returncode)] if command.endswith(ASKED) else []
    cut = shown.index("…") if "…" in shown else None
    blank = [""] if shown[-1] == "" else []
    return [*printed, *blank] if cut is None else [*printed[:cut], *shown[cut:]]


def _run(words: list[str], folder: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "kvplan", *words[1:]],
        cwd=folder, capture_output=True, text=True, check=False, env={**ENVIRONMENT, "HOME": str(folder)},
    )  # fmt: skip


def main() -> None:
    """Rewrite the pages that changed; arguments name the ones to look at."""
    wanted = [Path(argument).resolve() for argument in sys.argv[1:]] or PAGES
    for page in wanted:
        text = page.read_text(encoding="utf-8")

        def current(found: re.Match[str]) -> str:
            if "$ kvplan" not in found[2]:
                return found[0]
            with tempfile.TemporaryDirectory() as folder:
                for path in FILES:
                    shutil.copy(path, folder)
                return found[1] + session(found[2], Path(folder)) + found[3]

        new = BLOCK.sub(current, text)
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
