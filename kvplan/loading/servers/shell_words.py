"""Shell text as commands: quotes, continuations, comments, heredocs. Nothing is expanded here, and nothing is ever run."""

import re
from typing import Final

from msgspec import Struct

from kvplan.errors import InputError

#: Characters that end a word; of them these stand alone or in pairs.
_OPERATORS: Final = (";;", "&&", "||", "|&", ";", "&", "|", "(", ")")
_REDIRECT: Final = re.compile(r"(\d{0,4}|&)(>>|>&|>\||<<-|<<<|<<|<>|<&|>|<)")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
#: A blank to fill in, as documentation writes it: `<your_model>`.
_BLANK: Final = re.compile(r"<[A-Za-z_][\w./:-]{0,80}>")
_SPECIAL: Final = "@*#?$!-0123456789"
_DEPTH: Final = 16
#: Commands and words of one text.
MOST_WORDS: Final = 50_000


class TooMuch(InputError):
    """A text that is too large or too deep to be anybody's command line."""


class Part(Struct, frozen=True):
    """A piece of a word: literal text, a variable with what to take where it is not set, or what nobody here can know."""

    kind: str  # text, variable, open
    text: str = ""
    quoted: bool = False
    operator: str = ""  # :-, -, :=, =, :+, +, :?, ?, [@]
    default: "tuple[Part, ...]" = ()


class Raw(Struct, frozen=True):
    """A word before variables."""

    parts: tuple[Part, ...]
    line: int

    @property
    def plain(self) -> str:
        """Its text where it is literal and without quotes; else empty."""
        return "".join(p.text for p in self.parts) if all(p.kind == "text" and not p.quoted for p in self.parts) else ""


class Assigned(Struct, frozen=True):
    """NAME=VALUE, or NAME=(VALUES)."""

    name: str
    values: tuple[Raw, ...]
    array: bool = False
    appends: bool = False


class Written(Struct, frozen=True):
    """A heredoc: its text."""

    text: tuple[Part, ...]
    line: int


class Command(Struct):
    """One simple command."""

    assigned: list[Assigned]
    words: list[Raw]
    into: list[Raw]  # files that its output goes to
    heredocs: list[Written]
    line: int
    ended: str = ""  # the operator after it
    unclosed: int = 0  # the line of a quote in it that nothing closes


def commands(text: str, first_line: int = 1) -> list[Command]:
    """The simple commands of a text, in order.

    Raises:
        TooMuch: more words, or deeper, than anybody types.
    """
    return _Reader(text, first_line).all()


class _Reader:
    def __init__(self, text: str, line: int) -> None:
        self.text, self.at, self.line = text, 0, line
        self.found: list[Command] = []
        self.words = self.unclosed = 0
        self.waiting: list[tuple[Command, str, bool, bool]] = []  # heredocs whose text follows the line

    def all(self) -> list[Command]:
        command = self._new()
        while self.at < len(self.text):
            self._blanks()
            if self.at >= len(self.text):
                break
            char = self.text[self.at]
            if char == "\n":
                self._newline()
                command = self._close(command, "\n")
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif self._redirect(command):
                continue
            elif operator := next((one for one in _OPERATORS if self.text.startswith(one, self.at)), ""):
                self.at += len(operator)
                command = self._close(command, operator)
            else:
                self._word_of(command)
        self._close(command, "")
        return self.found

    def _new(self) -> Command:
        return Command([], [], [], [], self.line)

    def _close(self, command: Command, operator: str) -> Command:
        if command.words or command.assigned or command.heredocs:
            command.ended, command.unclosed = operator, self.unclosed
            self.found.append(command)
        self.unclosed = 0
        return self._new()

    def _blanks(self) -> None:
        while self.at < len(self.text):
            if self.text[self.at] in " \t\r":
                self.at += 1
            elif self.text.startswith(("\\\n", "\\\r\n"), self.at):
                self.at = self.text.index("\n", self.at) + 1
                self.line += 1
            else:
                return

    def _newline(self) -> None:
        self.at += 1
        self.line += 1
        for command, end, quoted, stripped in self.waiting:
            self._heredoc(command, end, quoted, stripped)
        self.waiting = []

    def _heredoc(self, command: Command, end: str, quoted: bool, stripped: bool) -> None:
        lines, first = [], self.line
        while self.at < len(self.text):
            until = self.text.find("\n", self.at)
            until = len(self.text) if until < 0 else until
            line = self.text[self.at : until].rstrip("\r")
            self.at = min(until + 1, len(self.text))
            self.line += 1
            line = line.lstrip("\t") if stripped else line
            if line.strip() == end:
                break
            lines.append(line)
        body = "\n".join(lines) + "\n" if lines else ""
        command.heredocs.append(Written((Part("text", body, True),) if quoted else self._inside(body), first))

    def _inside(self, body: str) -> tuple[Part, ...]:
        """The text of a heredoc whose variables count."""
        inner = _Reader(body, 0)
        parts: list[Part] = []
        while inner.at < len(body):
            inner._double_piece(parts, body[inner.at], 0)
        return tuple(parts)

    def _redirect(self, command: Command) -> bool:
        """`> file`, `2>&1`, `<<EOF`; a blank to fill in is no redirection."""
        if _BLANK.match(self.text, self.at):
            return False
        found = _REDIRECT.match(self.text, self.at)
        if found is None:
            return False
        sign = found[2]
        self.at = found.end()
        self._blanks()
        if self.at >= len(self.text) or self.text[self.at] in "\n;|)":
            return True
        word = self._word(0)
        if sign in {"<<", "<<-"}:
            end = "".join(part.text for part in word.parts)
            self.waiting.append((command, end, any(part.quoted for part in word.parts), sign == "<<-"))
        elif sign in {">", ">>", ">|"} and found[1] in {"", "1", "&"}:
            command.into.append(word)
        return True

    def _word_of(self, command: Command) -> None:
        found = _ASSIGNMENT.match(self.text, self.at) if not command.words or self._exports(command) else None
        if found is None:
            command.words.append(self._word(0))
            return
        name, appends = found[1], bool(found[2])
        self.at = found.end()
        if self.at < len(self.text) and self.text[self.at] == "(":
            self.at += 1
            command.assigned.append(Assigned(name, tuple(self._array()), True, appends))
            return
        value = self._word(0) if self.at < len(self.text) and self.text[self.at] not in " \t\n;&|" else Raw((), self.line)
        command.assigned.append(Assigned(name, (value,), False, appends))

    @staticmethod
    def _exports(command: Command) -> bool:
        return command.words[0].plain in {"export", "declare", "local", "readonly", "typeset"}

    def _array(self) -> list[Raw]:
        found: list[Raw] = []
        while self.at < len(self.text):
            self._blanks()
            if self.at >= len(self.text):
                break
            char = self.text[self.at]
            if char == ")":
                self.at += 1
                break
            if char == "\n":
                self._newline()
            elif char == "#":
                end = self.text.find("\n", self.at)
                self.at = len(self.text) if end < 0 else end
            elif char in ";&|(<>":
                self.at += 1
            else:
                found.append(self._word(0))
        return found

    def _word(self, depth: int) -> Raw:
        """One word from here to a blank or an operator."""
        self.words += 1
        if self.words > MOST_WORDS:
            raise TooMuch(f"more than {MOST_WORDS:,} words", hint="give the part that starts the server")
        start, line, parts = self.at, self.line, list[Part]()
        blank = _BLANK.match(self.text, self.at)
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "<" and (blank := _BLANK.match(self.text, self.at)):
                parts.append(Part("open", blank[0]))
                self.at = blank.end()
            elif char in " \t\r\n;&|()<>":
                break
            else:
                self._piece(parts, char, depth)
        if self.at == start:
            self.at += 1  # a character that begins nothing
        return Raw(tuple(parts), line)

    def _piece(self, parts: list[Part], char: str, depth: int) -> None:
        if char == "\\":
            following = self.text[self.at + 1 : self.at + 2]
            if following == "\n" or self.text.startswith("\\\r\n", self.at):
                self.at = self.text.index("\n", self.at) + 1
                self.line += 1
            else:
                parts.append(Part("text", following, True))
                self.at += 2
        elif char == "'":
            self._single(parts)
        elif char == '"':
            self._double(parts, depth)
        elif char == "$" and self.text.startswith("$'", self.at):
            self.at += 1
            self._single(parts)
        elif char == "$":
            parts.append(self._dollar(False, depth))
        elif char == "`":
            parts.append(self._backticks(False))
        else:
            end = self.at + 1
            while end < len(self.text) and self.text[end] not in " \t\r\n;&|()<>\\'\"$`":
                end += 1
            parts.append(Part("text", self.text[self.at : end]))
            self.at = end

    def _single(self, parts: list[Part]) -> None:
        end = self.text.find("'", self.at + 1)
        if end < 0:  # an apostrophe, not a quote
            parts.append(Part("text", "'"))
            self.at, self.unclosed = self.at + 1, self.line
            return
        body = self.text[self.at + 1 : end]
        self.line += body.count("\n")
        parts.append(Part("text", body, True))
        self.at = end + 1

    def _double(self, parts: list[Part], depth: int) -> None:
        if not self._closes():
            parts.append(Part("text", '"'))
            self.at, self.unclosed = self.at + 1, self.line
            return
        self.at += 1
        parts.append(Part("text", "", True))
        while self.at < len(self.text) and self.text[self.at] != '"':
            self._double_piece(parts, self.text[self.at], depth)
        self.at += 1

    def _closes(self) -> bool:
        at = self.at + 1
        while at < len(self.text):
            if self.text[at] == "\\":
                at += 2
            elif self.text[at] == '"':
                return True
            else:
                at += 1
        return False

    def _double_piece(self, parts: list[Part], char: str, depth: int) -> None:
        """A piece of what stands in double quotes, or in a heredoc."""
        if char == "\\":
            following = self.text[self.at + 1 : self.at + 2]
            if following == "\n":
                self.line += 1
            elif following and following in '$`"\\':
                parts.append(Part("text", following, True))
            else:
                parts.append(Part("text", "\\" + following, True))
            self.at += 2
        elif char == "$":
            parts.append(self._dollar(True, depth))
        elif char == "`":
            parts.append(self._backticks(True))
        else:
            end = self.at + 1
            while end < len(self.text) and self.text[end] not in '\\$`"':
                end += 1
            body = self.text[self.at : end]
            self.line += body.count("\n")
            parts.append(Part("text", body, True))
            self.at = end

    def _backticks(self, quoted: bool) -> Part:
        end = self.text.find("`", self.at + 1)
        if end < 0:
            self.at += 1
            return Part("text", "`", quoted)
        self.line += self.text.count("\n", self.at, end)
        self.at = end + 1
        return Part("open", "`…`", quoted)

    def _dollar(self, quoted: bool, depth: int) -> Part:
        if depth > _DEPTH:
            raise TooMuch(f"variables inside variables, more than {_DEPTH} deep", hint="write the values out")
        after = self.text[self.at + 1 : self.at + 2]
        if after == "(":
            self._skip_parentheses()
            return Part("open", "$(…)", quoted)
        if after == "{":
            return self._braces(quoted, depth)
        name = _NAME.match(self.text, self.at + 1)
        if name:
            self.at = name.end()
            return Part("variable", name[0], quoted)
        if after and after in _SPECIAL:
            self.at += 2
            return Part("open", f"${after}", quoted)
        self.at += 1
        return Part("text", "$", quoted)

    def _skip_parentheses(self) -> None:
        level, quote = 0, ""
        while self.at < len(self.text):
            char = self.text[self.at]
            if char == "\n":
                self.line += 1
            if char == "\\" and quote != "'":
                self.at += 1
            elif quote:
                quote = "" if char == quote else quote
            elif char in "'\"":
                quote = char
            elif char == "(":
                level += 1
            elif char == ")":
                level -= 1
                if not level:
                    self.at += 1
                    return
            self.at += 1

    def _braces(self, quoted: bool, depth: int) -> Part:
        """`${X}`, `${X:-y}`; what else a shell does with braces is open."""
        start = self.at
        name = _NAME.match(self.text, self.at + 2) or re.compile(r"\d(?=:?-)").match(self.text, self.at + 2)
        if name is None:
            self._skip_braces()
            return Part("open", self.text[start : self.at][:40], quoted)
        self.at = name.end()
        if self.text.startswith(("[@]}", "[*]}"), self.at):
            self.at += 4
            return Part("variable", name[0], quoted, "[@]")
        if self.text.startswith("}", self.at):
            self.at += 1
            return Part("variable", name[0], quoted)
        operator = next((one for one in (":-", ":=", ":+", ":?", "-", "=", "+", "?") if self.text.startswith(one, self.at)), "")
        if not operator:
            self.at = start
            self._skip_braces()
            return Part("open", self.text[start : self.at][:40], quoted)
        self.at += len(operator)
        parts: list[Part] = []
        while self.at < len(self.text) and self.text[self.at] != "}":
            char = self.text[self.at]
            if char == "'" and not quoted:
                self._single(parts)
            elif char == '"':
                self._double(parts, depth + 1)
            elif char in "\\$`":
                if char == "$":
                    parts.append(self._dollar(quoted, depth + 1))
                else:
                    self._double_piece(parts, char, depth)
            else:
                end = self.at + 1
                while end < len(self.text) and self.text[end] not in "}\\$`\"'":
                    end += 1
                self.line += self.text.count("\n", self.at, end)
                parts.append(Part("text", self.text[self.at : end], quoted))
                self.at = end
        self.at += 1
        return Part("variable", name[0], quoted, operator, tuple(parts))

    def _skip_braces(self) -> None:
        level = 0
        while self.at < len(self.text):
            char = self.text[self.at]
            self.at += 1
            level += char == "{"
            level -= char == "}"
            if not level and char == "}":
                return
