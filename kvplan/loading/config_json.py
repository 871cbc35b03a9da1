"""config.json files: bounded, strict JSON, and quick even when a quantiser wrote megabytes into one."""

import json
from pathlib import Path
from typing import Any, Final, NoReturn

from kvplan import architectures
from kvplan.domain.model import Model
from kvplan.errors import ConfigError
from kvplan.files import read_bounded
from kvplan.limits import CONFIG_BYTES
from kvplan.loading.foreign import as_hub_config

#: Above this, parts of `quantization_config` that nobody reads (a line for each layer) are checked but not built.
_LARGE: Final = 64 * 2**10


def load_config(path: Path, *, infer: bool = False, name: str = "") -> Model:
    """Read a config.json as a model; its name is the folder's, or the file's own.

    Raises:
        ConfigError: not a JSON object, or not a consistent config.
        UnknownArchitecture: no family claims it.
    """
    data = parse_config(read_bounded(path, CONFIG_BYTES, ConfigError, "a config.json"), str(path))
    return architectures.read(as_hub_config(data, str(path)), source=str(path), name=name or _name_of(path, data), infer=infer)


def parse_config(raw: bytes, source: str, what: str = "a model's config.json") -> dict[str, Any]:
    """The JSON object in `raw`.

    Raises:
        ConfigError: not UTF-8, not JSON, nested too deeply, not an object, or a key is given twice.
    """
    try:
        data = json.loads(_slimmed(raw) if len(raw) > _LARGE else raw, object_pairs_hook=_each_once)
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{source}: not UTF-8 text", hint=f"give {what}") from problem
    except json.JSONDecodeError as problem:
        raise ConfigError(
            f"{source}:{problem.lineno}: not valid JSON: {problem.msg.lower()}", hint="is the file complete?"
        ) from problem
    except RecursionError as problem:
        raise ConfigError(f"{source}: nested too deeply", hint=f"give {what}") from problem
    except _Twice as problem:
        raise ConfigError(f"{source}: `{problem.key[:60]}` is given twice", hint="keep one of the two") from problem
    except ValueError as problem:  # a number of more than 4,300 digits
        raise ConfigError(f"{source}: holds a number that is too long to read", hint="check its numbers") from problem
    if not isinstance(data, dict):
        _refuse_shape(source, data, what)
    return data


class _Twice(Exception):
    """An object has a key twice; which of the two is meant, nobody can tell."""

    def __init__(self, key: str) -> None:
        super().__init__(key)
        self.key = key


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of a JSON text.

    Raises:
        _Twice: a key stands there twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        raise _Twice(next(key for place, key in enumerate(keys) if key in keys[:place]))
    return found


def _refuse_shape(source: str, data: object, what: str) -> NoReturn:
    kind = {list: "a list", str: "a text", type(None): "null"}.get(type(data), "a bare value")
    raise ConfigError(f"{source}: expected a JSON object, got {kind}", hint=f"give {what}")


def _slimmed(raw: bytes) -> bytes:
    """A large config whose `quantization_config` has null for its bulk, a line for each of thousands of layers.

    The text as it is where msgspec does not take it: Python's JSON also allows NaN and Infinity, as some configs have.
    """
    import msgspec

    split = msgspec.json.Decoder(dict[str, msgspec.Raw])
    try:
        quant = bytes(split.decode(raw).get("quantization_config") or b"")
        if len(quant) <= _LARGE:
            return raw
        slim = quant
        for value in split.decode(quant).values():
            if len(memoryview(value)) > _LARGE:
                slim = slim.replace(bytes(value), b"null", 1)
        return raw.replace(quant, slim, 1)
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return raw


def _name_of(path: Path, data: dict[str, Any]) -> str:
    resolved = path.resolve()
    if path.name in {"config.json", "params.json"}:
        return resolved.parent.name or "config"
    return resolved.stem.split("__")[-1] or str(data.get("model_type", "model"))
