"""Functions of Python as the text of LLVM's instructions."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from types import FunctionType
from typing import Final

from kvplan.engines.kernel.native.values import Field, Values, kind, symbol

#: Division as Python's: towards minus infinity.
_PRELUDE: Final = """
declare i64 @llvm.smin.i64(i64, i64)
declare i64 @llvm.smax.i64(i64, i64)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
define internal i64 @python.floor_divide(i64 %a, i64 %b) alwaysinline nounwind {
  %q = sdiv i64 %a, %b
  %r = srem i64 %a, %b
  %x = xor i64 %r, %b
  %other = icmp slt i64 %x, 0
  %some = icmp ne i64 %r, 0
  %below = and i1 %other, %some
  %one = zext i1 %below to i64
  %found = sub i64 %q, %one
  ret i64 %found
}
define internal i64 @python.remainder(i64 %a, i64 %b) alwaysinline nounwind {
  %r = srem i64 %a, %b
  %x = xor i64 %r, %b
  %other = icmp slt i64 %x, 0
  %some = icmp ne i64 %r, 0
  %below = and i1 %other, %some
  %more = select i1 %below, i64 %b, i64 0
  %found = add i64 %r, %more
  ret i64 %found
}
"""


class _Function(Values):
    """A whole function."""

    def text(self) -> str:
        """The definition."""
        parameters = []
        for argument in self.tree.args.args:
            if isinstance(argument.annotation, ast.Name) and argument.annotation.id == "State":
                self.state = argument.arg
                parameters.append("ptr %table")
            else:
                self._store(argument.arg, f"%of.{argument.arg}")
                parameters.append(f"i64 %of.{argument.arg}")
        self._all(self.tree.body)
        self._add("ret i64 0")
        reserved = [f"  {slot} = alloca i64" for slot in self.slots.values()]
        first = f"define internal i64 @{symbol(self.function)}({', '.join(parameters)}) nounwind {{"
        return "\n".join([first, "begin:", *reserved, *self.lines, "}"])

    # Statements.

    def _all(self, statements: Iterable[ast.stmt]) -> None:
        for statement in statements:
            self._one(statement)

    def _one(self, node: ast.stmt) -> None:
        match node:
            case ast.Expr(value=ast.Constant()) | ast.Pass():
                pass
            case ast.Expr(value=ast.Call() as call):
                self._value(call)
            case ast.Assign(targets=targets, value=value):
                self._assigned(targets, value)
            case ast.AnnAssign(target=target, value=ast.expr() as value):
                self._assigned([target], value)
            case ast.AugAssign(target=target, op=op, value=value):
                before = self._value(target)
                self._to(target, self._computed(node, op, before, self._value(value)))
            case ast.If():
                self._if(node)
            case ast.While():
                self._while(node)
            case ast.For():
                self._for(node)
            case ast.Return(value=value):
                self._leave(f"ret i64 {'0' if value is None else self._value(value)}")
            case ast.Break():
                self._leave(f"br label %{self.loops[-1][1]}")
            case ast.Continue():
                self._leave(f"br label %{self.loops[-1][0]}")
            case _:
                raise self._wrong(node)

    def _leave(self, line: str) -> None:
        self._add(line)
        self.lines.append(f"{self._labels('behind')[0]}:")

    def _assigned(self, targets: list[ast.expr], value: ast.expr) -> None:
        if isinstance(value, ast.Tuple):
            (target,) = targets
            if not isinstance(target, ast.Tuple):
                raise self._wrong(target)
            names, values = [], []
            for one, what in zip(target.elts, value.elts, strict=True):
                if isinstance(one, ast.Name) and (place := self._place(what)) is not None:
                    self.places[one.id] = place
                else:
                    names.append(one)
                    values.append(self._value(what))
            for one, found in zip(names, values, strict=True):
                self._to(one, found)
            return
        if (place := self._place(value)) is not None:
            (target,) = targets
            if not isinstance(target, ast.Name):
                raise self._wrong(target)
            self.places[target.id] = place
            return
        found = self._value(value)
        for target in targets:
            self._to(target, found)

    def _to(self, target: ast.expr, value: str) -> None:
        if isinstance(target, ast.Name):
            self._store(target.id, value)
            return
        where, bits, kind = self._address(target)
        if bits != 64:
            value = self._new(f"trunc i64 {value} to i{bits}")
        self._add(f"store i{bits} {value}, ptr {where}, !tbaa !{kind}")

    def _if(self, node: ast.If) -> None:
        then, other, end = self._labels("then", "else", "end")
        self._branch(node.test, then, other)
        self.lines.append(f"{then}:")
        self._all(node.body)
        self._add(f"br label %{end}")
        self.lines.append(f"{other}:")
        self._all(node.orelse)
        self._at(end)

    def _while(self, node: ast.While) -> None:
        head, body, end = self._labels("while", "do", "done")
        self._at(head)
        self._branch(node.test, body, end)
        self.lines.append(f"{body}:")
        self._loop(node, head, end)
        self._add(f"br label %{head}")
        self.lines.append(f"{end}:")

    def _loop(self, node: ast.While | ast.For, next_one: str, end: str) -> None:
        if node.orelse:
            raise self._wrong(node)
        self.loops.append((next_one, end))
        self._all(node.body)
        self.loops.pop()

    def _for(self, node: ast.For) -> None:
        call, target = node.iter, node.target
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "range"):
            raise self._wrong(node)
        if not isinstance(target, ast.Name):
            raise self._wrong(node)
        values = [self._value(argument) for argument in call.args]
        first, last = values[:2] if len(values) > 1 else ("0", values[0])
        step = ast.literal_eval(call.args[2]) if len(values) > 2 else 1
        head, body, more, end = self._labels("for", "each", "more", "done")
        counter = f"{target.id}.{head}"  # its own: the body may give the name another value
        self._store(counter, first)
        self._at(head)
        now = self._new(f"load i64, ptr {self.slots[counter]}")
        goes = self._new(f"icmp {'slt' if step > 0 else 'sgt'} i64 {now}, {last}")
        self._add(f"br i1 {goes}, label %{body}, label %{end}")
        self.lines.append(f"{body}:")
        self._store(target.id, now)
        self._loop(node, more, end)
        self._at(more)
        self._store(counter, self._new(f"add i64 {now}, {step}"))
        self._add(f"br label %{head}")
        self.lines.append(f"{end}:")


def translated(entry: FunctionType, fields: Sequence[Field]) -> str:
    """A function, and all that it calls, as a module of LLVM's: `main` takes the address of a table of the arrays.

    Raises:
        Untranslatable: something that is not translated.
    """
    known, open_ones, texts = {entry}, [entry], [_PRELUDE]
    while open_ones:
        one = _Function(open_ones.pop(), fields)
        texts.append(one.text())
        new = set(one.calls) - known
        known |= new
        open_ones += sorted(new, key=symbol)
    texts.append(f"define i64 @main(ptr %table) {{\n  %found = call i64 @{symbol(entry)}(ptr %table)\n  ret i64 %found\n}}")
    texts += ["!0 = !{}", '!1 = !{!"arrays"}']
    for number, (name, _, _) in enumerate(fields):
        at = kind(number)
        texts += [f'!{at - 1} = !{{!"{name}", !1, i64 0}}', f"!{at} = !{{!{at - 1}, !{at - 1}, i64 0}}"]
    return "\n".join(texts)
