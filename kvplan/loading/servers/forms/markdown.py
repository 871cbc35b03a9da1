"""Text of a page or a bug report: what stands between fences."""

import re
from collections.abc import Iterator
from typing import Final

_FENCE: Final = re.compile(r"^\s{0,8}(`{3,}|~{3,})\s*([\w+-]*)")
_SHELL: Final = frozenset({"", "sh", "bash", "shell", "console", "zsh", "text", "plain"})
#: The language of a fence -> the name that its text is read under.
_NAMES: Final = {
    "yaml": "part.yaml", "yml": "part.yaml", "powershell": "part.ps1", "bat": "part.bat", "cmd": "part.bat",
    "ini": "part.service", "systemd": "part.service", "dockerfile": "Modelfile", "modelfile": "Modelfile",
    **dict.fromkeys(_SHELL, "part.sh"),
}  # fmt: skip
_ENDINGS: Final = (".md", ".markdown", ".rst", ".mdx")


def reads(name: str, text: str) -> bool:
    """By its ending, or because it has fences."""
    return name.endswith(_ENDINGS) or bool(re.search(r"(?m)^\s{0,8}(?:`{3,}|~{3,})", text))


def parts(text: str) -> Iterator[tuple[str, str, int]]:
    """(name, text, lines before it) of every fenced part that may start something."""
    fence, name, begun, lines = "", "", 0, list[str]()
    for number, line in enumerate(text.splitlines(), 1):
        found = _FENCE.match(line)
        if not fence and found:
            fence, name, begun, lines = found[1], _NAMES.get(found[2].lower(), ""), number, []
        elif fence and line.strip().startswith(fence):
            if name:
                yield name, "\n".join(lines) + "\n", begun
            fence = ""
        elif fence:
            lines.append(line)
    if fence and name:
        yield name, "\n".join(lines) + "\n", begun
