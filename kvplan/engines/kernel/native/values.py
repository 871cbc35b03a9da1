"""Numbers, conditions and elements of arrays as the text of LLVM's instructions."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Sequence
from itertools import pairwise
from textwrap import dedent
from types import FunctionType, ModuleType
from typing import Any, Final

#: An array of a state: (its name, dimensions, bits of an element).
Field = tuple[str, int, int]

WORDS: Final = 4  # of the table, a field: where it lies, and up to three lengths
_COMPARED: Final = {ast.Lt: "slt", ast.LtE: "sle", ast.Gt: "sgt", ast.GtE: "sge", ast.Eq: "eq", ast.NotEq: "ne"}
_COMPUTED: Final = {
    ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor", ast.LShift: "shl",
    ast.RShift: "ashr",
}  # fmt: skip
_CALLED: Final = {ast.FloorDiv: "python.floor_divide", ast.Mod: "python.remainder"}


class Untranslatable(Exception):
    """A function does what is not translated: a mistake of whoever wrote it."""


class Place:
    """An array of the state, or the part of it that the first indices name."""

    def __init__(self, number: int, field: Field, indices: tuple[str, ...] = ()) -> None:
        self.number, self.field, self.indices = number, field, indices


class Values:
    """The instructions of one function, and the names that it knows."""

    def __init__(self, function: FunctionType, fields: Sequence[Field]) -> None:
        tree = ast.parse(dedent(inspect.getsource(function))).body[0]
        if not isinstance(tree, ast.FunctionDef):
            raise Untranslatable(f"{function.__name__} is no function")
        self.function, self.tree, self.fields = function, tree, {field[0]: (i, field) for i, field in enumerate(fields)}
        self.lines: list[str] = []
        self.slots: dict[str, str] = {}  # a name and where its value lies
        self.places: dict[str, Place] = {}  # a name for an array, or for a part of one
        self.calls: list[FunctionType] = []
        self.loops: list[tuple[str, str]] = []  # where `continue` goes, and `break`
        self.number = 0
        self.state = ""

    def _wrong(self, node: ast.AST) -> Untranslatable:
        return Untranslatable(f"{self.function.__module__}:{self.function.__name__}: `{ast.unparse(node)}` is not translated")

    def _add(self, line: str) -> None:
        self.lines.append(f"  {line}")

    def _new(self, line: str) -> str:
        self.number += 1
        self._add(f"%v{self.number} = {line}")
        return f"%v{self.number}"

    def _labels(self, *names: str) -> list[str]:
        self.number += 1
        return [f"{name}{self.number}" for name in names]

    def _at(self, label: str) -> None:
        """What follows stands at a label, and is reached from what stands before it."""
        self._add(f"br label %{label}")
        self.lines.append(f"{label}:")

    def _store(self, name: str, value: str) -> None:
        slot = self.slots.setdefault(name, f"%at.{name}")
        self._add(f"store i64 {value}, ptr {slot}")

    def _branch(self, test: ast.expr, then: str, other: str) -> None:
        """Go on at one of two labels; what stands behind an `and` is looked at only if what stands before it is so."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            self._branch(test.operand, other, then)
            return
        if isinstance(test, ast.BoolOp):
            for value in test.values[:-1]:
                (behind,) = self._labels("and")
                self._branch(value, *((behind, other) if isinstance(test.op, ast.And) else (then, behind)))
                self.lines.append(f"{behind}:")
            self._branch(test.values[-1], then, other)
            return
        true = self._new(f"icmp ne i64 {self._value(test)}, 0")
        self._add(f"br i1 {true}, label %{then}, label %{other}")

    # Values.

    def _value(self, node: ast.expr) -> str:
        match node:
            case ast.Constant(value=bool() | int() as value):
                return str(int(value))
            case ast.Name(id=name) if name in self.slots:
                return self._new(f"load i64, ptr {self.slots[name]}")
            case ast.Name() | ast.Attribute():
                return self._told(node)
            case ast.Subscript():
                return self._element(node)
            case ast.BinOp(left=left, op=op, right=right):
                return self._computed(node, op, self._value(left), self._value(right))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self._new(f"sub i64 0, {self._value(operand)}")
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARED:
                truth = self._new(f"icmp {_COMPARED[type(op)]} i64 {self._value(left)}, {self._value(right)}")
                return self._new(f"zext i1 {truth} to i64")
            case ast.Compare(left=left, ops=ops, comparators=comparators):
                pairs = zip(pairwise([left, *comparators]), ops, strict=True)
                return self._value(ast.BoolOp(ast.And(), [ast.Compare(a, [op], [b]) for (a, b), op in pairs]))
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                return self._chosen(node, ast.Constant(1), ast.Constant(0))
            case ast.IfExp(test=test, body=body, orelse=orelse):
                return self._chosen(test, body, orelse)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._called(node, name, arguments)
            case _:
                raise self._wrong(node)

    def _told(self, node: ast.expr) -> str:
        """A constant of the function's module, or of one that it imports."""
        spaces = self.function.__globals__
        found: Any = None
        if isinstance(node, ast.Name):
            found = spaces.get(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = spaces.get(node.value.id)
            found = getattr(module, node.attr) if isinstance(module, ModuleType) else None
        if not isinstance(found, int):
            raise self._wrong(node)
        return str(int(found))

    def _chosen(self, test: ast.expr, body: ast.expr, orelse: ast.expr) -> str:
        then, other, end = self._labels("then", "else", "end")
        name = f"chosen.{end}"
        self._branch(test, then, other)
        for label, value in ((then, body), (other, orelse)):
            self.lines.append(f"{label}:")
            self._store(name, self._value(value))
            self._add(f"br label %{end}")
        self.lines.append(f"{end}:")
        return self._new(f"load i64, ptr {self.slots[name]}")

    def _computed(self, node: ast.AST, op: ast.operator, left: str, right: str) -> str:
        if type(op) in _CALLED:
            return self._new(f"call i64 @{_CALLED[type(op)]}(i64 {left}, i64 {right})")
        if type(op) not in _COMPUTED:
            raise self._wrong(node)
        return self._new(f"{_COMPUTED[type(op)]} i64 {left}, {right}")

    def _called(self, node: ast.Call, name: str, arguments: list[ast.expr]) -> str:
        if name == "bool":
            return self._chosen(arguments[0], ast.Constant(1), ast.Constant(0))
        if name == "prefetch":
            self._add(f"call void @llvm.prefetch.p0(ptr {self._address(arguments[0])[0]}, i32 1, i32 3, i32 1)")
            return "0"
        if name == "len":
            return self._length(node, arguments[0], 0)
        if name == "int":
            return self._value(arguments[0])
        if name in {"min", "max"}:
            found, *others = [self._value(argument) for argument in arguments]
            for other in others:
                found = self._new(f"call i64 @llvm.s{name}.i64(i64 {found}, i64 {other})")
            return found
        function = self.function.__globals__.get(name)
        if not isinstance(function, FunctionType):
            raise self._wrong(node)
        self.calls.append(function)
        given = [
            "ptr %table" if isinstance(argument, ast.Name) and argument.id == self.state else f"i64 {self._value(argument)}"
            for argument in arguments
        ]
        return self._new(f"call i64 @{symbol(function)}({', '.join(given)})")

    # Arrays.

    def _place(self, node: ast.expr) -> Place | None:
        """The array, or the part of one, that is named; None: it is a number."""
        if isinstance(node, ast.Name):
            return self.places.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == self.state:
            return Place(*self.fields[node.attr])
        if isinstance(node, ast.Subscript) and (place := self._place(node.value)) is not None:
            indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
            if len(place.indices) + len(indices) < place.field[1]:
                return Place(place.number, place.field, (*place.indices, *map(self._value, indices)))
        return None

    def _word(self, number: int) -> str:
        """An entry of the table: they never change."""
        where = self._new(f"getelementptr inbounds i64, ptr %table, i64 {number}")
        return self._new(f"load i64, ptr {where}, !invariant.load !0")

    def _length(self, node: ast.AST, of: ast.expr, dimension: int) -> str:
        place = self._place(of)
        if place is None:
            raise self._wrong(node)
        return self._word(WORDS * place.number + 1 + len(place.indices) + dimension)

    def _element(self, node: ast.Subscript) -> str:
        if isinstance(node.value, ast.Attribute) and node.value.attr == "shape":
            return self._length(node, node.value.value, ast.literal_eval(node.slice))
        where, bits, kind = self._address(node)
        found = self._new(f"load i{bits}, ptr {where}, !tbaa !{kind}")
        return found if bits == 64 else self._new(f"sext i{bits} {found} to i64")

    def _address(self, node: ast.expr) -> tuple[str, int, int]:
        """Where an element lies, its bits, and the number of what LLVM is told of its kind."""
        if not isinstance(node, ast.Subscript) or (place := self._place(node.value)) is None:
            raise self._wrong(node)
        indices = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        at, *others = [*place.indices, *map(self._value, indices)]
        _, dimensions, bits = place.field
        if 1 + len(others) != dimensions:
            raise self._wrong(node)
        for i, index in enumerate(others, start=2):
            wide = self._word(WORDS * place.number + i)
            at = self._new(f"add i64 {self._new(f'mul i64 {at}, {wide}')}, {index}")
        base = self._new(f"inttoptr i64 {self._word(WORDS * place.number)} to ptr")
        return self._new(f"getelementptr inbounds i{bits}, ptr {base}, i64 {at}"), bits, kind(place.number)


def symbol(function: FunctionType) -> str:
    """The name of a function among all."""
    return f"{function.__module__}.{function.__name__}"


def kind(number: int) -> int:
    """The number of what LLVM is told of a field: no other one overlaps it."""
    return 2 * number + 3


def prefetch(_: int) -> None:
    """Have an element at hand, for it is soon needed: the processor waits for others meanwhile. In Python it does nothing."""
