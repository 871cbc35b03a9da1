"""Numbers of a processor: what its files say, over what the row assumes; the row may take an assumption from the config."""

from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import Any, Final

from msgspec import Struct

from kvplan.domain.media.images import ImageRule
from kvplan.domain.media.sounds import SoundRule
from kvplan.domain.media.videos import VideoRule
from kvplan.domain.origin import Settings
from kvplan.errors import shown

#: A side, or a number of pixels, at most.
_SIDE: Final = 2**16
_PIXELS: Final = 2**40
_CANDIDATES: Final = 400


class From(Struct, frozen=True):
    """An assumption that the model's config may answer: the first of `paths` that it has, else `default`."""

    paths: tuple[str, ...]
    default: Any


def config(*paths: str, default: Any) -> From:
    """See `From`: `config("vision_config.patch_size", default=14)`."""
    return From(paths, default)


class Values(Struct, frozen=True, eq=False):
    """Of one part of a processor: its own keys, the processor's, and the config's."""

    part: Settings
    whole: Settings
    config: Settings

    def side(self, key: str, default: int = 0) -> int:
        """A number of pixels or patches: a number, a pair of equal ones, or an object with `height` or `longest_edge`.

        Raises:
            ConfigError: none of these, or missing without a default.
        """
        value = self.part.data.get(key)
        if isinstance(value, list | tuple) and value:
            value = value[0]
        section = Settings({key: value}, self.part.source, self.part.path)
        if isinstance(value, Mapping):
            inner = self.part.section(key)
            names = ("height", "longest_edge", "max_height", "shortest_edge")
            key = next((name for name in names if inner.has(name)), "height")
            pair = inner.data.get(key)
            section = Settings({key: pair[0]}, inner.source, inner.path) if isinstance(pair, list | tuple) and pair else inner
        found = section.whole(key, default, least=1, most=_SIDE)
        if not found:
            section.refuse(key, "is missing")
        return found

    def patched(self, key: str, patch: str = "patch_size") -> tuple[int, int]:
        """A side and the patches that it is cut into, at least one.

        Raises:
            ConfigError: a patch is larger than the side.
        """
        side, size = self.side(key), self.side(patch)
        if size > side:
            self.part.refuse(patch, f"is larger than `{key}`: {size:,} and {side:,} pixels")
        return side, size

    def count(self, key: str, default: int = 0, least: int = 1, most: int = _SIDE) -> int:
        """A whole number of this part.

        Raises:
            ConfigError: not one in that range, or missing without a default.
        """
        found = self.part.whole(key, default, least=least, most=most)
        if found < least:
            self.part.refuse(key, "is missing")
        return found

    def pixels(self) -> tuple[int, int]:
        """The range of pixels: `min_pixels` and `max_pixels`, or the edges of `size`."""
        size = self.part.section("size")
        least = self.part.whole("min_pixels", size.whole("shortest_edge", 1, least=1, most=_PIXELS), least=1, most=_PIXELS)
        most = self.part.whole("max_pixels", size.whole("longest_edge", _PIXELS, least=1, most=_PIXELS), least=1, most=_PIXELS)
        if least > most:
            self.part.refuse("size", f"holds a range of pixels that is none: {least:,} to {most:,}")
        return least, most

    def sizes(self, key: str, least: int) -> tuple[tuple[int, int], ...]:
        """A list of pairs of sides, each of at least `least` pixels."""
        found = []
        for pair in self.part.items(key, most=_CANDIDATES):
            sides = tuple(pair) if isinstance(pair, list | tuple) else ()
            if len(sides) != 2 or not all(isinstance(side, int) and least <= side <= _SIDE for side in sides):
                self.part.refuse(key, f"must hold pairs of sides of {least:,} to {_SIDE:,} pixels, got {shown(pair)}")
            found.append((sides[0], sides[1]))
        if not found:
            self.part.refuse(key, "must hold at least one resolution")
        return tuple(found)


class Part(Struct, frozen=True, eq=False):
    """One kind of media of a row: what reads it, the file's section it is in, and what is assumed."""

    read: Callable[[Values], ImageRule | VideoRule | SoundRule]
    sections: tuple[str, ...]
    assumed: Mapping[str, Any]


def image(read: Callable[[Values], ImageRule], **assumed: Any) -> Part:
    """Images: read from `image_processor`, over what is assumed."""
    return Part(read, ("image_processor",), assumed)


def video(read: Callable[[Values], VideoRule], **assumed: Any) -> Part:
    """Videos: read from `video_processor`, over what is assumed."""
    return Part(read, ("video_processor",), assumed)


def audio(read: Callable[[Values], SoundRule], **assumed: Any) -> Part:
    """Clips: read from `feature_extractor` or `audio_processor`, over what is assumed."""
    return Part(read, ("feature_extractor", "audio_processor"), assumed)


class Row(Struct, frozen=True, kw_only=True, eq=False):
    """A family: the model types that are preprocessed alike, what it takes, and what the processor itself assumes.

    `section`: a key that the config must have, where text models have the same type. `assumed`: no published file was found,
    the numbers are class defaults.
    """

    types: tuple[str, ...]
    source: str
    image: Part | None = None
    video: Part | None = None
    audio: Part | None = None
    processor: Mapping[str, Any] = {}
    section: str = ""
    assumed: bool = False


def _found(config: Mapping[str, Any], path: str) -> Any:
    value: Any = config
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _settled(assumed: Mapping[str, Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The assumptions, those that the config answers with its answer."""

    def settle(value: Any) -> Any:
        if isinstance(value, From):
            said = (_found(config, path) for path in value.paths)
            return next((found for found in said if found is not None), value.default)
        return {key: settle(inner) for key, inner in value.items()} if isinstance(value, Mapping) else value

    return {key: settle(value) for key, value in assumed.items()}


def read_part(part: Part, row: Row, config: Mapping[str, Any], files: Mapping[str, Any], source: str) -> Any:
    """The rule of one kind of media.

    Raises:
        ConfigError: a number of the files is out of range.
    """
    name = next((name for name in part.sections if isinstance(files.get(name), Mapping)), part.sections[0])
    said = Settings(files, source).section(name)
    whole = Settings(files, source).section("processor")
    values = Values(
        Settings(_over(said.data, _settled(part.assumed, config)), source, said.path),
        Settings(_over(whole.data, _settled(row.processor, config)), source, whole.path),
        Settings(config, source),
    )
    return part.read(values)


def _over(said: Mapping[str, Any], assumed: dict[str, Any]) -> Mapping[str, Any]:
    """What is said, over what is assumed; null says nothing."""
    return ChainMap({key: value for key, value in said.items() if value is not None}, assumed)
