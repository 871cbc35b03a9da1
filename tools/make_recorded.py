"""Write what the recorded cases hold into `recorded.py` of each engine, or check that it is current.

python tools/make_recorded.py [ENGINE…]            write (`make index`)
python tools/make_recorded.py --check [ENGINE…]    exit 1 when one is stale

A combination of memory kind, cache dtype, maker and release is written where at least one case that holds it is exact.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, ClassVar

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # this tree's engines, whatever is installed

from kvplan.domain.dtypes import ALIASES  # noqa: E402
from kvplan.domain.model import Model  # noqa: E402
from kvplan.domain.words import memory_kinds  # noqa: E402
from kvplan.engines import ABOUTS, located  # noqa: E402
from kvplan.engines.kernel.about import About  # noqa: E402
from kvplan.engines.kernel.cases import Covered, InvalidCase, Record, record_from  # noqa: E402
from kvplan.engines.kernel.releases import ByType, Quirk, Release  # noqa: E402
from kvplan.errors import KvplanError  # noqa: E402
from kvplan.questions.audit.judge import Reader, judge  # noqa: E402

GOLDEN = ROOT / "tests" / "golden"
HEAD = '''"""What {name}'s recorded cases hold: written by tools/make_recorded.py (`make index`); do not edit."""

from typing import Any, Final

# fmt: off
'''
_UNCHANGED = "CHANGES: Final[Any] = ()"
Combination = tuple[str, str, str, Release]  # memory kind, cache dtype, maker, release


def engines() -> list[About]:
    """Those whose recorded cases are listed."""
    return [about for about in ABOUTS.values() if about.recorded]


def combinations(about: About) -> set[Combination]:
    """Every combination that an exact case of the engine holds."""
    module, found = located(about.audit), set()
    for record in records(about.name):
        covered = covering(record, module)
        if covered is None:
            continue
        held = set(spelled(covered))
        if held - found and judge(record).status == "exact":
            found |= held
    return found


def spelled(covered: Covered) -> Iterator[Combination]:
    """One case's combinations."""
    for kind in memory_kinds(covered.model):
        for dtype in covered.stored.split("/"):
            yield kind, ALIASES.get(dtype, dtype), covered.maker, covered.release


class Remembering(Reader):
    """Reads equal configs once: what a case holds does not depend on what its model is called. (A verdict reads its own.)"""

    known: ClassVar[dict[str, Model]] = {}

    def __call__(self, config: Mapping[str, Any], name: str = "", /) -> Model:
        """The model."""
        text = json.dumps(config, sort_keys=True)
        if text not in self.known:
            self.known[text] = super().__call__(config, name)
        return self.known[text]


def covering(record: Record, module: Any) -> Covered | None:
    """What one record holds; None where it cannot be read or holds nothing of a cache."""
    try:
        facts = module.recorded(record.case, record.expected)
        found: Covered | None = module.covers(record.case, facts, Remembering(record.case)) if facts else None
    except (KvplanError, InvalidCase):
        return None
    return found


def records(name: str) -> Iterator[Record]:
    """Every recorded case of an engine."""
    for path in sorted(GOLDEN.glob("*.jsonl")):
        with path.open(encoding="utf-8") as lines:
            for line in lines:
                if f'"{name}"' not in line:
                    continue  # of the engines' records most are another's: not even parsed
                data = json.loads(line)
                if data.get("engine") == name:
                    record = record_from(data, where=path.name)
                    if not record.invalid:
                        yield record


def changes(about: About) -> tuple[set[Release], dict[str, set[Release]]]:
    """Releases from which a rule of the cache was another: for all models, and for single model types."""
    package = import_module(about.recorded.rpartition(".")[0])
    alike: set[Release] = set()
    single: dict[str, set[Release]] = defaultdict(set)
    for info in iter_modules(package.__path__):
        if info.ispkg or info.name == "recorded":  # a ledger's rules are not the cache's
            continue
        for value in vars(import_module(f"{package.__name__}.{info.name}")).values():
            if isinstance(value, Quirk):
                alike |= {since for since, _, _ in value.rows[1:]}
            elif isinstance(value, ByType):
                for kind, rows in value.rows.items():
                    single[kind] |= {since for since, _, _ in rows}
    return alike, dict(single)


def written(about: About) -> str:
    """The file's text."""
    held: dict[str, dict[str, dict[str, list[Release]]]] = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for kind, dtype, maker, release in sorted(combinations(about)):
        held[kind][dtype][maker].append(release)
    lines = [
        "#: Memory kind -> cache dtype -> maker of the device (empty: a CPU) -> releases.",
        "HELD: Final[dict[str, Any]] = {",
    ]
    for kind, dtypes in held.items():
        lines.append(f'    "{kind}": {{')
        for dtype, makers in dtypes.items():
            lines += wrapped(f'        "{dtype}": ', {maker: tuple(releases) for maker, releases in makers.items()})
        lines.append("    },")
    alike, single = changes(about)
    lines += ["}", "#: From these releases on a rule of its cache was another."]
    lines += ["CHANGES: Final[Any] = (", *_indented(", ".join(map(str, sorted(alike))), 4), ")"] if alike else [_UNCHANGED]
    lines += ["#: The same, of single model types.", "CHANGES_OF: Final[dict[str, Any]] = {"]
    lines += [f'    "{kind}": {tuple(sorted(since))!r},' for kind, since in sorted(single.items())]
    return HEAD.format(name=about.name) + "\n".join([*lines, "}", "# fmt: on", ""])


def wrapped(start: str, makers: dict[str, tuple[Release, ...]]) -> list[str]:
    """One dtype's makers and releases in lines of at most 130 characters."""
    parts = []
    for maker, releases in makers.items():
        parts.append(f'"{maker}": ({", ".join(str(release) for release in releases)},)')
    text = f"{start}{{{', '.join(parts)}}},"
    if len(text) <= 130:
        return [text]
    return [f"{start}{{", *_indented(", ".join(parts), 12), "        },"]


def _indented(text: str, spaces: int) -> list[str]:
    import textwrap

    return textwrap.wrap(text + ",", 130, initial_indent=" " * spaces, subsequent_indent=" " * spaces)


def main() -> int:
    """Write or check the files."""
    wanted = [word for word in sys.argv[1:] if not word.startswith("-")]
    stale = []
    for about in engines():
        if wanted and about.name not in wanted:
            continue
        path = ROOT / (about.recorded.replace(".", "/") + ".py")
        blank = ModuleType(about.recorded)  # so that a stale or missing file cannot get in the way
        blank.__dict__.update(HELD={}, CHANGES=(), CHANGES_OF={})
        sys.modules.setdefault(blank.__name__, blank)
        text = written(about)
        if "--check" in sys.argv[1:]:
            stale += [path] if not path.is_file() or path.read_text(encoding="utf-8") != text else []
        else:
            path.write_text(text, encoding="utf-8")
    for path in stale:
        print(f"stale: {path.relative_to(ROOT)}; run `python tools/make_recorded.py`", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
