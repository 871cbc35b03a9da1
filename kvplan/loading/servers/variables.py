"""Variables that an input sets, and words with their values; what nothing here decides stays open."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from kvplan.engines.kernel.commandline.words import Word
from kvplan.loading.servers.shell_words import Assigned, Part, Raw, TooMuch

#: Characters of a value, and of all values of an input.
_VALUE: Final = 65_536
_ALL: Final = 8_000_000


class Variables:
    """Names with their values: a text, a list of them (an array), or None where it is set to what nobody here can know."""

    def __init__(self, given: Mapping[str, str] | None = None) -> None:
        self.values: dict[str, Sequence[str] | str | None] = dict(given or {})
        self.exported: set[str] = set()
        self.exports_all = False
        self._made = 0

    def set(self, name: str, value: Sequence[str] | str | None) -> None:
        """Set a variable."""
        self.values[name] = value
        if self.exports_all:
            self.exported.add(name)

    def assign(self, one: Assigned) -> None:
        """What an assignment does."""
        if one.array:
            found = [word for raw in one.values for word in self.fields(raw)]
            texts = [word.text for word in found]
            if any(not word.known for word in found):
                texts = [word.text if word.known else "\0" for word in found]
            before = self.values.get(one.name)
            self.set(one.name, [*(before if isinstance(before, list) else []), *texts] if one.appends else texts)
            return
        word = self.whole(one.values[0].parts, one.values[0].line)
        before = self.values.get(one.name)
        if one.appends and isinstance(before, str):
            self.set(one.name, self._bounded(before + word.text) if word.known else None)
        else:
            self.set(one.name, word.text if word.known else None)

    def environment(self) -> dict[str, Word]:
        """The variables that programs are given."""
        return {name: self.word(name) for name in self.values if name in self.exported}

    def word(self, name: str) -> Word:
        """A variable's value as one word."""
        value = self.values.get(name)
        if isinstance(value, list):
            value = " ".join(value)
        return Word(value) if isinstance(value, str) else Word("", known=False)

    def whole(self, parts: Sequence[Part], line: int = 0) -> Word:
        """A word that is not split, whatever is in it."""
        texts, known = [], True
        for part in parts:
            text = self._value(part)
            if text is None:
                known = False
            elif isinstance(text, str):
                texts.append(text)
            else:
                texts.append(" ".join(text))
                known = known and "\0" not in texts[-1]
        return Word(self._bounded("".join(texts)), line, known)

    def fields(self, raw: Raw) -> Iterator[Word]:
        """The words that one becomes: a variable without quotes is split at blanks, an array into its words."""
        text, known, anything = "", True, False
        for part in raw.parts:
            value = self._value(part)
            if value is None:
                known, anything = False, True
                continue
            if part.kind == "text" or (part.quoted and isinstance(value, str)):
                text += str(value)
                anything = anything or part.quoted or bool(value)
                continue
            pieces = value.split() if isinstance(value, str) else list(value)
            if not pieces:
                continue
            if isinstance(value, str) and value[:1].isspace() and anything:
                yield Word(text, raw.line, known)
                text, known = "", True
            *before, last = pieces
            for piece in before:
                yield self._piece(text + piece, raw.line, known)
                text, known = "", True
            text, anything = text + last, True
        if anything:
            yield self._piece(text, raw.line, known)

    @staticmethod
    def _piece(text: str, line: int, known: bool) -> Word:
        return Word(text.replace("\0", ""), line, known and "\0" not in text)

    def _value(self, part: Part) -> Sequence[str] | str | None:
        if part.kind == "text":
            return part.text
        if part.kind == "open":
            return None
        is_set = part.text in self.values
        value = self.values.get(part.text)
        empty = is_set and value in ("", [])
        if part.operator in {":-", ":=", "-", "="} and (not is_set or (empty and part.operator[0] == ":")):
            word = self.whole(part.default)
            return word.text if word.known else None
        if part.operator in {":+", "+"}:
            if not is_set or (empty and part.operator[0] == ":"):
                return ""
            word = self.whole(part.default)
            return word.text if word.known else None
        if isinstance(value, list) and part.operator != "[@]":
            value = value[0] if value else ""
        self._made += len(value) if value else 0
        if self._made > _ALL:
            raise TooMuch("variables that grow without end", hint="give the part that starts the server")
        return value

    @staticmethod
    def _bounded(text: str) -> str:
        if len(text) > _VALUE:
            raise TooMuch(f"a value of more than {_VALUE:,} characters", hint="give the part that starts the server")
        return text
