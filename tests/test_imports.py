"""What import-linter (`make lint`, [tool.importlinter]) does not see: modules named by strings, printing, heavy packages."""

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from each import each
from golden import ROOT as REPOSITORY

import kvplan
from kvplan.api.validate import ON_A_DEVICE
from kvplan.architectures import FAMILIES
from kvplan.architectures.parameters.index import MODULES as MODULES_OF_PARAMETERS
from kvplan.cli.app import COMMANDS

ROOT = Path(kvplan.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
assert len(MODULES) > 200  # an empty walk would pass every test below

CONTRACTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]["contracts"]
#: The layers of import-linter's contract, the highest first; what shares a line has one number.
LAYERS: dict[str, int] = {
    name.strip(): number
    for contract in CONTRACTS
    if contract["type"] == "layers"
    for number, line in enumerate(contract["layers"])
    for name in line.split("|")
}
#: Functions that import what a text names.
IMPORTERS = {"import_module", "importlib.import_module", "__import__", "located"}
#: Where such a text is put together, with every module that it may name.
PUT_TOGETHER = {
    "kvplan": {f"kvplan.{home}" for home in kvplan._HOMES.values()},
    "kvplan.architectures": {f"kvplan.architectures.families.{name}" for name in FAMILIES},
    "kvplan.architectures.parameters": {f"kvplan.architectures.parameters.{name}" for name in MODULES_OF_PARAMETERS},
    "kvplan.api.validate": {f"kvplan.questions.validate.{module}" for module, _ in ON_A_DEVICE.values()},
    "kvplan.cli.app": {f"kvplan.cli.{module}" for module, *_ in COMMANDS.values()},
}
#: Where a name that came from elsewhere is imported: the texts themselves are checked wherever they are written.
HANDED_ON = {
    "kvplan.api.placement": "an About's `spread`",
    "kvplan.api.places": "an About's `spread`",
    "kvplan.engines": "`located`, for the texts of an About",
    "kvplan.engines.kernel.evidence": "an About's `recorded`",
    "kvplan.loading.installs": "an About's `installs`",
    "kvplan.loading.machine": "an About's `machine_file`",
    "kvplan.questions.audit": "an auditor, named by an About or in `_OTHERS`",
    "kvplan.questions.audit.fieldlog": "an About's `field_logs`",
    "kvplan.questions.audit.logs": "an About's `logs`",
    "kvplan.questions.media": "an About's `media`",
    "kvplan.questions.committee.dealt": "an About's `spread`",
    "kvplan.questions.placement.making": "an About's `spread`",
    "kvplan.questions.tiers": "an About's `tiers`",
    "kvplan.questions.validate.library_model": "a module of transformers",
    "kvplan.report.answers.estimate": "an About's `tables`",
    "kvplan.report.answers.reserve": "an About's `tables`",
    "kvplan.report.formats": "a row of FORMATS",
    "kvplan.report.notebook": "what `displayed` is told",
}
#: Package -> the packages and modules where it may be imported.
HOMES = {
    "torch": ("questions.validate", "questions.measure"),
    "transformers": ("questions.validate", "questions.measure"),
    "psutil": ("questions.validate", "questions.measure"),
    "numpy": (
        "questions.sweep",
        "questions.replay",
        "questions.media_traffic",
        "domain.traffic",
        "loading.trace",
        "engines.kernel.native",
        "engines.vllm.scheduler",
        "engines.sglang.scheduler",
        "engines.llama_cpp.slots",
    ),
    "llvmlite": ("engines.kernel.native",),
    "pandas": ("questions.sweep",),
    "pyarrow": ("questions.sweep", "report.formats.parquet", "loading.trace"),
    "matplotlib": ("report.formats.figure",),
    "distributed": ("api.workers",),
    "rich": ("report", "cli"),
    "typer": ("cli",),
}


def name_of(path: Path) -> str:
    return ".".join(("kvplan", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


Nodes = tuple[ast.AST, ...]


class Facts(NamedTuple):
    """What the tests below ask of a module; its tree is not kept."""

    named: frozenset[str]
    imported: frozenset[str]
    mentioned: frozenset[tuple[str, str]]
    by_name: tuple[str, ...]
    relative: bool
    ends: tuple[str, ...]


@cache
def facts(path: Path) -> Facts:
    nodes = walked(ast.parse(path.read_text(encoding="utf-8")))
    name = name_of(path)
    return Facts(
        named=named_modules(nodes),
        imported=frozenset(imported(nodes)),
        mentioned=frozenset(mentioned(nodes)),
        by_name=tuple(by_name(name, nodes)),
        relative=any(isinstance(node, ast.ImportFrom) and node.level for node in nodes),
        ends=tuple(f"{name}:{end}" for end in ends(nodes)),
    )


def walked(*found: ast.AST) -> Nodes:
    """As `ast.walk`, in a third of its time."""
    every = [*found]
    for node in every:  # which grows
        for value in vars(node).values():
            if isinstance(value, list):
                every += [part for part in value if isinstance(part, ast.AST)]
            elif isinstance(value, ast.AST):
                every.append(value)
    return tuple(every)


def inside(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def docstrings(nodes: Nodes) -> set[int]:
    """The ids of the nodes that are documentation."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {id(n.body[0].value) for n in nodes if isinstance(n, owners) and isinstance(n.body[0], ast.Expr)}


def dotted(node: ast.AST) -> str:
    """`a.b.c` as it is written, or nothing: of what is called or computed no name is asked."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join((node.id, *reversed(parts))) if isinstance(node, ast.Name) else ""


def called(node: ast.AST) -> str:
    """The dotted name of what is called, or nothing."""
    return dotted(node.func) if isinstance(node, ast.Call) else ""


def texts(nodes: Nodes) -> Iterator[str]:
    """Every text of a module that is not documentation or part of a longer one."""
    skipped = docstrings(nodes) | {id(part) for n in nodes if isinstance(n, ast.JoinedStr) for part in n.values}
    yield from (n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in skipped)


def named_modules(nodes: Nodes) -> frozenset[str]:
    """What looks like one of our modules, with or without a name in it: `kvplan.a.b`, `kvplan.a.b:c`."""
    return frozenset(text for text in texts(nodes) if re.fullmatch(r"kvplan(\.[A-Za-z_]\w*)+(:[A-Za-z_]\w*)?", text))


def layer(module: str) -> int | None:
    """The number of a module's layer; None for `kvplan` itself, which stands above all."""
    _, _, rest = module.partition(".")
    return LAYERS[rest.partition(".")[0]] if rest else None


def resolved(text: str) -> Any:
    module, _, attribute = text.partition(":")
    loaded = import_module(module)
    return getattr(loaded, attribute) if attribute else loaded


def points_up(importer: str, text: str) -> bool:
    """Whether a module names one that stands above it, or beside it on its own line."""
    own, other = layer(importer), layer(text.partition(":")[0])
    if own is None:
        return False
    return other is None or other < own or (other == own and text.split(".")[1] != importer.split(".")[1])


@cache
def written() -> list[tuple[str, str]]:
    return sorted((name_of(path), text) for path in MODULES for text in facts(path).named)


MADE = sorted((importer, text) for importer, modules in PUT_TOGETHER.items() for text in modules)


def test_there_are_modules_named_by_texts() -> None:
    assert len(written()) > 15
    assert len(MADE) > 40


@each(("importer", "text"), lambda: written() + MADE)
def test_a_module_named_by_a_text_is_there_and_not_above(importer: str, text: str) -> None:
    assert resolved(text) is not None
    assert not points_up(importer, text)


def test_what_stands_above_is_seen() -> None:
    assert points_up("kvplan.engines.vllm.about", "kvplan.questions.estimate")
    assert points_up("kvplan.engines.vllm.about", "kvplan.architectures")  # beside it
    assert points_up("kvplan.errors", "kvplan.units")
    assert not points_up("kvplan.report.formats", "kvplan.engines")


def by_name(name: str, nodes: Nodes) -> Iterator[str]:
    """Calls that import what none of the tables above knows."""
    for call in (n for n in nodes if isinstance(n, ast.Call) and called(n) in IMPORTERS):
        (what,) = call.args
        if isinstance(what, ast.JoinedStr) and name in PUT_TOGETHER:
            continue
        if not isinstance(what, ast.Constant) and name not in HANDED_ON:
            yield f"{name}:{call.lineno} {ast.unparse(call)}"


def test_every_import_by_name_is_known() -> None:
    """`import_module` of anything but a plain text is one of the places above."""
    assert [call for path in MODULES for call in facts(path).by_name] == []


def test_imports_are_absolute() -> None:
    """A package that is moved keeps its meaning, and the eye finds the layer."""
    assert [name_of(path) for path in MODULES if facts(path).relative] == []


def imported(nodes: Nodes) -> Iterator[str]:
    """Every module that a file imports at run time, by a statement or by a plain text."""
    guards = (n for n in nodes if isinstance(n, ast.If) and dotted(n.test).endswith("TYPE_CHECKING"))
    for_types = {id(node) for guard in guards for node in walked(*guard.body)}
    for node in nodes:
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield str(node.module)
        elif isinstance(node, ast.Call) and called(node) in IMPORTERS:
            yield from (part.value for part in node.args if isinstance(part, ast.Constant))


@each("package", HOMES)
def test_a_heavy_package_has_one_home(package: str) -> None:
    users = {name_of(path) for path in MODULES if any(inside(name, package) for name in facts(path).imported)}
    homes = tuple(f"kvplan.{home}" for home in HOMES[package])
    assert users
    assert {user for user in users if not inside(user, *homes)} == set()


def mentioned(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """What a file imports anywhere, for types or in a function, too: a module, or a module and a name of it."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((str(node.module), alias.name) for alias in node.names)


def needed(path: Path, known: set[str]) -> set[str]:
    """Our modules among them: the name where it is a module, or else where it is from."""
    found = {whole if (whole := f"{module}.{name}") in known else module for module, name in facts(path).mentioned}
    return (found & known) - {name_of(path)}


def test_modules_form_no_circle() -> None:
    known = {name_of(path) for path in MODULES}
    TopologicalSorter({name_of(path): needed(path, known) for path in MODULES}).prepare()


def ends(nodes: Nodes) -> Iterator[str]:
    """Where a module prints or exits."""
    for node in nodes:
        if isinstance(node, ast.Call) and called(node) in {"print", "sys.exit", "exit", "quit", "os._exit"}:
            yield f"{node.lineno} {ast.unparse(node)[:60]}"
        if isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc):
            yield f"{node.lineno} raises SystemExit"


def test_nothing_below_the_command_line_prints_or_exits() -> None:
    below = [path for path in MODULES if not inside(name_of(path), "kvplan.cli", "kvplan.__main__")]
    assert [end for path in below for end in facts(path).ends] == []


def test_the_layers_are_the_packages() -> None:
    there = {path.name.removesuffix(".py") for path in ROOT.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    assert set(LAYERS) == there - {"__init__", "__main__"}
    assert all(find_spec(f"kvplan.{name}") for name in LAYERS)
