"""Batch files of cmd (`^` joins, `set "X=y"`, `%X%`) and PowerShell (a backtick joins, `$env:X = "y"`)."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.containers import unwrapped
from kvplan.loading.servers.forms.shell import calls as shell_calls
from kvplan.loading.servers.forms.shell import with_cards
from kvplan.loading.servers.source import Read, Source

_ENDINGS: Final = (".bat", ".cmd", ".ps1")
# No two neighbouring parts match the same blanks: a long run of them costs one look, not one for each pair of places in it.
_SET: Final = re.compile(r'\s*(?:@\s*)?set\s+(?:/[ap]\s+)?"?([A-Za-z_]\w*)=(.*)', re.IGNORECASE)
_PS_ENV: Final = re.compile(r"\s*\$env:([A-Za-z_]\w*)\s*=\s*(\S.*)", re.IGNORECASE)
_PS_SET: Final = re.compile(r"\s*(?:\[\w+\]\s*)?\$([A-Za-z_]\w*)\s*=\s*(\S.*)")
_PERCENT: Final = re.compile(r"%([A-Za-z_]\w*)%|!([A-Za-z_]\w*)!")
_DOLLAR: Final = re.compile(r"\$(?:env:)?\{?([A-Za-z_]\w*)\}?", re.IGNORECASE)
#: A word: quoted (nothing is escaped), or up to a blank.
_WORD: Final = re.compile(r"""(?:"[^"]*"|'[^']*'|[^\s"'])+""")
_MARKS: Final = ("$env:", "@echo off", "rem ")
_VALUE: Final = 65_536


def reads(source: Source) -> bool:
    """By the file's ending, or by what only these write."""
    if source.file.endswith(_ENDINGS):
        return True
    low = source.text[:4000].lower()
    return low.lstrip().startswith(_MARKS) or bool(re.search(r"(?m)^[^\S\n]*\$env:\w+\s*=|\s\^[^\S\n]*$", low))


def found(source: Source) -> Read:
    """The processes that such a file starts."""
    return Read(tuple(_calls(source)))


def _calls(source: Source) -> Iterator[Call]:
    power = source.file.endswith(".ps1") or bool(re.search(r"(?m)\$env:\w+\s*=|`[^\S\n]*$|^[^\S\n]*&\s", source.text))
    values: dict[str, str] = dict(source.variables)
    environment: dict[str, Word] = {}
    for line, text in _lines(source.text, "`" if power else "^"):
        if re.match(r"\s*(?:#|::|rem\b|@rem\b)", text, re.IGNORECASE):
            continue
        for piece in re.split(r"&&|(?<!^)\s;\s" if power else r"&&?", text) if not text.lstrip().startswith("&") else [text]:
            yield from _line(piece, line, power, values, environment)


def _line(text: str, line: int, power: bool, values: dict[str, str], environment: dict[str, Word]) -> Iterator[Call]:
    if power and (found := _PS_ENV.match(text)):
        word = _expanded(_ended(found[2]), values, power)
        environment[found[1].upper()] = Word(_unquoted(word.text), line, word.known)
        values[found[1].lower()] = _unquoted(word.text) if word.known else "\0"
        return
    if power and (found := _PS_SET.match(text)):
        word = _expanded(_ended(found[2]), values, power)
        values[found[1].lower()] = _unquoted(word.text)[:_VALUE] if word.known else "\0"
        return
    if not power and (found := _SET.match(text)):
        word = _expanded(found[2].rstrip().removesuffix('"'), values, power)
        values[found[1].lower()] = word.text[:_VALUE] if word.known else "\0"
        environment[found[1].upper()] = Word(word.text[:_VALUE], line, word.known)
        return
    words = []
    for one in _WORD.findall(text):
        word = _expanded(one, values, power) if not one.startswith("'") else Word(one)
        words.append(Word(_unquoted(word.text), line, word.known))
    while words and words[0].text.lstrip("@").lower() in {"&", "start", "call", "", "start-process", "cmd", "/c", "if", "not"}:
        if words.pop(0).text.lower().lstrip("@") == "start":
            while words and (words[0].text.startswith("/") or " " in words[0].text or words[0].text == ""):
                words.pop(0)
    if words:
        first = Word(words[0].text.lstrip("@"), line, words[0].known)
        for call in unwrapped(Call(words=(first, *words[1:]), environment=dict(environment), line=line), shell_calls):
            yield with_cards(call)


def _lines(text: str, mark: str) -> Iterator[tuple[int, str]]:
    """Lines with those that a mark at their end joins; (where it begins, the text)."""
    begun, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        begun = begun or number
        stripped = line.rstrip()
        if stripped.endswith(mark):
            joined += stripped[: -len(mark)] + " "
            continue
        yield begun, joined + line
        begun, joined = 0, ""
    if joined:
        yield begun, joined


def _expanded(text: str, values: Mapping[str, str], power: bool) -> Word:
    """A text with its variables; one that has no value leaves it open."""
    known = True

    def value(match: re.Match[str]) -> str:
        nonlocal known
        name = next(group for group in match.groups() if group)
        found = values.get(name.lower(), "\0")
        known = known and found != "\0"
        return found.replace("\0", "")

    shown = (_DOLLAR if power else _PERCENT).sub(value, text)
    return Word(shown[:_VALUE], 0, known)


def _ended(text: str) -> str:
    """A value without the mark that ends its statement."""
    return text.rstrip().removesuffix(";").rstrip()


def _unquoted(text: str) -> str:
    text = text.strip()
    return re.sub(r'"([^"]*)"', r"\1", text) if '"' in text else text.strip("'") if text.startswith("'") else text
