"""Imports point one way: cli -> report, planner -> engines, architectures -> model -> units."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvplan

ROOT = Path(kvplan.__file__).parent
MODULES = sorted(ROOT.rglob("*.py"))
assert len(MODULES) > 40  # an empty walk would pass every test below


def _name(path: Path) -> str:
    return ".".join(("kvplan", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def _imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every module that a file imports, and whether only a type checker sees it."""

    def visit(node: ast.AST, typing_only: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from visit(child, True)
            for child in node.orelse:
                yield from visit(child, typing_only)
            return
        if isinstance(node, ast.Import):
            yield from ((alias.name, typing_only) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: relative import"
            yield str(node.module), typing_only
            yield from ((f"{node.module}.{alias.name}", typing_only) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in {"import_module", "importlib.import_module", "__import__"}:
            yield from ((part.value, typing_only) for part in node.args if isinstance(part, ast.Constant))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, typing_only)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


def _run_time(path: Path) -> set[str]:
    return {name for name, typing_only in _imports(path) if not typing_only}


def _inside(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def _under(path: Path, *packages: str) -> bool:
    return _inside(_name(path), *(f"kvplan.{p}" for p in packages))


#: Package -> what it must not import at run time.
FORBIDDEN = {
    "kvplan.units": (
        "kvplan.domain.model",
        "kvplan.engines",
        "kvplan.architectures",
        "kvplan.loading",
        "kvplan.report",
        "kvplan.cli",
    ),
    "kvplan.errors": (
        "kvplan.units",
        "kvplan.domain.model",
        "kvplan.engines",
        "kvplan.architectures",
        "kvplan.loading",
        "kvplan.cli",
    ),
    "kvplan.domain.dtypes": (
        "kvplan.domain.model",
        "kvplan.engines",
        "kvplan.architectures",
        "kvplan.loading",
        "kvplan.report",
        "kvplan.cli",
    ),
    "kvplan.domain.model": ("kvplan.engines", "kvplan.architectures", "kvplan.loading", "kvplan.report", "kvplan.cli"),
    "kvplan.architectures": ("kvplan.engines", "kvplan.loading", "kvplan.report", "kvplan.cli", "kvplan.questions.estimate"),
    "kvplan.engines": ("kvplan.architectures", "kvplan.loading", "kvplan.report", "kvplan.cli", "kvplan.questions.estimate"),
    "kvplan.loading": ("kvplan.engines", "kvplan.report", "kvplan.cli", "kvplan.questions.estimate"),
    "kvplan.questions.estimate": ("kvplan.architectures", "kvplan.loading", "kvplan.report", "kvplan.cli"),
}


@pytest.mark.parametrize("package", FORBIDDEN)
def test_a_package_imports_nothing_that_stands_above_it(package: str) -> None:
    found = {
        f"{_name(path)} imports {name}"
        for path in MODULES
        if _inside(_name(path), package)
        for name in _run_time(path)
        if _inside(name, *FORBIDDEN[package])
    }
    assert not found


def test_nothing_below_the_command_line_knows_it() -> None:
    below = [path for path in MODULES if not _under(path, "cli", "__main__")]
    found = {f"{_name(p)} imports {name}" for p in below for name in _run_time(p) if _inside(name, "kvplan.cli", "typer")}
    assert not found


@pytest.mark.parametrize(
    ("package", "homes"),
    [("torch", ("validation",)), ("numpy", ("grid",)), ("pandas", ("grid",)), ("pyarrow", ("report.columnar",))],
)
def test_a_heavy_package_has_one_home(package: str, homes: tuple[str, ...]) -> None:
    found = {_name(p) for p in MODULES if not _under(p, *homes) and any(_inside(name, package) for name in _run_time(p))}
    assert not found
    assert any(_inside(name, package) for p in MODULES if _under(p, *homes) for name in _run_time(p))


def test_nothing_below_the_command_line_prints_or_exits() -> None:
    found = set()
    for path in MODULES:
        if _under(path, "cli", "__main__"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in {"print", "sys.exit", "exit", "quit", "os._exit"}:
                found.add(f"{_name(path)}:{node.lineno} {ast.unparse(node)[:60]}")
            if isinstance(node, ast.Raise) and node.exc is not None and "SystemExit" in ast.unparse(node.exc):
                found.add(f"{_name(path)}:{node.lineno} raises SystemExit")
    assert not found
