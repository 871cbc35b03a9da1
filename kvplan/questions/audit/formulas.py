"""A paper's formula, evaluated without ever running it as code."""

import ast
import re
from collections.abc import Mapping
from fractions import Fraction

from kvplan.engines.kernel.cases import InvalidCase


def evaluate(formula: str, sizes: Mapping[str, int]) -> Fraction:
    """A paper's formula: numbers, the names in `sizes`, + - * / and parentheses; a space between factors multiplies.

    Raises:
        InvalidCase: anything else.

    >>> evaluate("2 n_h d_h l", {"n_h": 2, "d_h": 3, "l": 5})
    Fraction(60, 1)
    """
    text = re.sub(r"(?<=[\w)])\s+(?=[\w(])", "*", formula.replace("d_h^R", "d_r").strip())
    try:
        if len(text) > 200:
            raise InvalidCase("a formula of more than 200 characters")
        return _value(ast.parse(text, mode="eval").body, sizes)
    except (SyntaxError, ZeroDivisionError, RecursionError) as problem:
        raise InvalidCase(f"`{formula[:60]}` is not a formula") from problem


def _value(node: ast.expr, sizes: Mapping[str, int]) -> Fraction:
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return Fraction(str(number))
        case ast.Name(id=name) if name in sizes:
            return Fraction(sizes[name])
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            return _value(left, sizes) * _value(right, sizes)
        case ast.BinOp(left=left, op=ast.Div(), right=right):
            return _value(left, sizes) / _value(right, sizes)
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _value(left, sizes) + _value(right, sizes)
        case ast.BinOp(left=left, op=ast.Sub(), right=right):
            return _value(left, sizes) - _value(right, sizes)
        case _:
            raise InvalidCase("a formula may hold numbers, n_h, n_g, d_h, d_c, d_r, l, + - * / and parentheses")
