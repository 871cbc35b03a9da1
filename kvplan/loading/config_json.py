"""config.json files: bounded, strict JSON, and quick even when a quantiser wrote megabytes into one."""

import json
from pathlib import Path
from typing import Any, Final, NoReturn

from kvplan import architectures
from kvplan.domain.model import Model
from kvplan.errors import ConfigError
from kvplan.files import read_bounded
from kvplan.limits import CONFIG_BYTES

#: Above this, sections that no family reads (per-layer quantisation tables) are checked but not built.
_LARGE: Final = 64 * 2**10


def load_config(path: Path, *, infer: bool = False, name: str = "") -> Model:
    """Read a config.json as a model; its name is the folder's, or the file's own.

    Raises:
        ConfigError: not a JSON object, or not a consistent config.
        UnknownArchitecture: no family claims it.
    """
    data = parse_config(read_bounded(path, CONFIG_BYTES, ConfigError, "a config.json"), str(path))
    return architectures.read(data, source=str(path), name=name or _name_of(path, data), infer=infer)


def parse_config(raw: bytes, source: str) -> dict[str, Any]:
    """The JSON object in `raw`.

    Raises:
        ConfigError: not UTF-8, not JSON, nested too deeply, or not an object.
    """
    try:
        data = _parse_large(raw) if len(raw) > _LARGE else None
        if data is None:
            data = json.loads(raw)
    except UnicodeDecodeError as problem:
        raise ConfigError(f"{source}: not UTF-8 text", hint="give a model's config.json") from problem
    except json.JSONDecodeError as problem:
        raise ConfigError(
            f"{source}:{problem.lineno}: not valid JSON: {problem.msg.lower()}", hint="is the file complete?"
        ) from problem
    except RecursionError as problem:
        raise ConfigError(f"{source}: nested too deeply", hint="give a model's config.json") from problem
    except ValueError as problem:  # a number of more than 4,300 digits
        raise ConfigError(f"{source}: holds a number that is too long to read", hint="check its numbers") from problem
    if not isinstance(data, dict):
        _refuse_shape(source, data)
    return data


def _refuse_shape(source: str, data: object) -> NoReturn:
    kind = {list: "a list", str: "a text", type(None): "null"}.get(type(data), "a bare value")
    raise ConfigError(f"{source}: expected a JSON object, got {kind}", hint="give a model's config.json")


def _parse_large(raw: bytes) -> dict[str, Any] | None:
    """A large config without its bulk: only the top level is split, and `quantization_config` one level deeper.

    None when the text is not what msgspec takes (Python's JSON also allows NaN and Infinity, as some configs have).
    """
    import msgspec

    split = msgspec.json.Decoder(dict[str, msgspec.Raw])

    def built(key: str, value: msgspec.Raw) -> Any:
        if key == "quantization_config" and len(memoryview(value)) > _LARGE:
            inner = split.decode(value)
            return {k: msgspec.json.decode(v) for k, v in inner.items() if len(memoryview(v)) <= _LARGE}
        return msgspec.json.decode(value)

    try:
        return {key: built(key, value) for key, value in split.decode(raw).items()}
    except (msgspec.DecodeError, msgspec.ValidationError, RecursionError):
        return None


def _name_of(path: Path, data: dict[str, Any]) -> str:
    resolved = path.resolve()
    if path.name == "config.json":
        return resolved.parent.name or "config"
    return resolved.stem.split("__")[-1] or str(data.get("model_type", "model"))
