"""Facts of recorded runs of Ollama's own code: command lines and what led to them, names, paths, environment, printed sizes.

What a record is of, its inputs say: a manifest or a name, a digest, variables alone, sizes, a log, or a request.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Final

from kvplan.engines.kernel.cases import Case, InvalidCase, Read, whole
from kvplan.engines.ollama.environment import Environment, duration_words, environment
from kvplan.engines.ollama.guess import cache_by_layer, flash_by_default, takes_cache_type, takes_flash_attention
from kvplan.engines.ollama.launch import Device, Subject, System, options_of, start
from kvplan.engines.ollama.metadata import Metadata
from kvplan.engines.ollama.names import blob_path, manifest_path, parse_name
from kvplan.engines.ollama.printed import held_in_log, human_bytes, human_bytes2
from kvplan.errors import OptionError

#: For reading.
_LEFT_OUT: Final = frozenset({"load_error", "by_device"})
#: The recorder's home folder, where the record sets none.
_HOME: Final = "/home/u"
#: Keys of a manifest and of its layers in the order in which they are written.
_MANIFEST: Final = ("schemaVersion", "mediaType", "config", "layers")
_LAYER: Final = ("mediaType", "digest", "size", "from", "name")
#: Go's words for a JSON text that ends before it should.
_CUT: Final = "unexpected EOF"
_MOST_DEVICES: Final = 256


def recorded(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """Every fact but those that are for reading."""
    return {name: value for name, value in expected.items() if name not in _LEFT_OUT}


def asked(case: Case, expected: Mapping[str, Any]) -> dict[str, Any]:
    """That a manifest was there and cut short: a record of one holds neither its text nor that it was there."""
    return {"cut": True} if "name" in case.options and expected.get("error") == _CUT else {}


def predict(case: Case, asked: Mapping[str, Any], read: Read) -> dict[str, Any]:
    """The facts, by what the record gives."""
    options, workload = case.options, case.workload
    if "name" in options:
        return _named(case, cut=bool(asked.get("cut")))
    if "digest" in options:
        path = blob_path(_environment(case).models, _text(options["digest"], "options.digest"))
        return {"error": "invalid digest format"} if path is None else {"path": path}
    if "bytes" in workload:
        return _spelled(workload["bytes"])
    if "log" in workload:
        held = held_in_log(_text(workload["log"], "workload.log"), case.count("model_file_size"))
        return {"total": held.total, "vram": held.vram}
    if "num_ctx_total" in workload:
        return _predicted(case)
    if "num_batch" in workload:
        return _guessed(case)
    if "gpus" in workload:
        return _started(case)
    if "default_num_ctx" in workload:
        subject = Subject(keys={}, options=_mapping(options, "model_options"))
        request = _mapping(options, "request_options")
        return {"options_num_ctx": options_of(subject, _environment(case), request, case.count("default_num_ctx")).num_ctx}
    return _variables(_environment(case))


def _environment(case: Case) -> Environment:
    variables = {str(name): str(value) for name, value in _mapping(case.options, "env").items()}
    return environment(variables, variables.get("HOME", _HOME))


def _mapping(data: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = data.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise InvalidCase(f"`options.{name}` must be an object")
    return found


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise InvalidCase(f"`{what}` must be a text")
    return value


def _variables(found: Environment) -> dict[str, Any]:
    return {
        "context_length": found.context_length,
        "num_parallel": found.num_parallel,
        "kv_cache_type": found.kv_cache_type,
        "flash_attention_default_false": bool(found.flash_attention),
        "flash_attention_default_true": found.flash_attention is not False,
        "gpu_overhead": found.gpu_overhead,
        "max_loaded_models": found.max_loaded_models,
        "models": found.models,
        "keep_alive": duration_words(found.keep_alive),
    }


def _named(case: Case, *, cut: bool) -> dict[str, Any]:
    """A name alone, or a manifest under it."""
    name, models = parse_name(_text(case.options["name"], "options.name")), _environment(case).models
    facts: dict[str, Any] = {
        "valid": name.valid,
        "fully_qualified": name.valid,
        "string": name.full,
        "display_shortest": name.shortest,
    }
    if not name.valid:
        return {**facts, "error": f"unqualified name: {name.full}"}
    path = manifest_path(models, name)
    facts |= {"filepath": name.file, "manifest_path": path}
    manifest = case.workload.get("manifest")
    if not isinstance(manifest, Mapping):
        return {**facts, "error": _CUT if cut else f"open {path}: no such file or directory"}
    listed = manifest.get("layers")
    if not isinstance(listed, list):
        raise InvalidCase("`workload.manifest.layers` must be a list")
    layers = [_layer(layer) for layer in listed]
    config = _layer(manifest.get("config"))
    text = json.dumps({**_ordered(manifest, _MANIFEST), "config": config, "layers": layers})
    facts["digest"] = sha256(text.encode()).hexdigest()  # of the file, which the recorder wrote in this order
    facts["size"] = sum(whole(layer.get("size"), "workload.manifest size") for layer in (*layers, config))
    facts["layers"] = [
        {
            "mediaType": layer.get("mediaType"),
            "path": blob_path(models, str(layer.get("digest"))) or "error: invalid digest format",
            "size": layer.get("size"),
        }
        for layer in layers
    ]
    return facts


def _layer(data: object) -> dict[str, Any]:
    if not isinstance(data, Mapping):
        raise InvalidCase("a layer of `workload.manifest` must be an object")
    return _ordered(data, _LAYER)


def _ordered(data: Mapping[str, Any], order: tuple[str, ...]) -> dict[str, Any]:
    return {key: data[key] for key in order if key in data} | {key: value for key, value in data.items() if key not in order}


def _spelled(sizes: object) -> dict[str, Any]:
    if not isinstance(sizes, list):
        raise InvalidCase("`workload.bytes` must be a list of whole numbers")
    checked = [whole(size, "workload.bytes") for size in sizes]
    return {"human_bytes": [human_bytes(size) for size in checked], "human_bytes2": [human_bytes2(size) for size in checked]}


def _predicted(case: Case) -> dict[str, Any]:
    keys, size = Metadata(case.config), case.count("model_file_bytes")
    return {
        "architecture": keys.architecture,
        "file_size": size,
        "predicted_vram": keys.predicted_vram(size, case.count("num_ctx_total")),
        "train_ctx": keys.context_length,
    }


def _guessed(case: Case) -> dict[str, Any]:
    keys, kind = Metadata(case.config), str(case.options.get("kv_cache_type", ""))
    batch, slots = case.count("num_batch"), case.count("num_parallel", default=1, minimum=1)
    layers = cache_by_layer(keys, case.count("num_ctx"), slots, batch, kind)
    return {
        "kv_per_layer": layers,
        "kv_total": sum(layers),
        "supports_kv_cache_type": takes_cache_type(kind),
        "supports_flash_attention": takes_flash_attention(keys),
        "default_flash_attention": flash_by_default(keys),
    }


def _started(case: Case) -> dict[str, Any]:
    options, workload = case.options, case.workload
    said = options.get("capabilities")
    draft = workload.get("draft_architecture") if options.get("draft_model") else None
    memory = workload.get("system_memory")
    total, free = memory if isinstance(memory, list) and len(memory) == 2 else (0, 0)
    subject = Subject(
        keys=case.config,
        file_bytes=case.count("model_file_bytes"),
        family=str(options.get("model_family", "")),
        capabilities=frozenset(map(str, said)) if isinstance(said, list) else frozenset({"completion"}),
        options=_mapping(options, "model_options"),
        draft=None if draft is None else str(draft),
    )
    system = System(total=whole(total, "workload.system_memory"), free=whole(free, "workload.system_memory"))
    try:
        found = start(
            subject,
            _environment(case),
            _devices(workload["gpus"]),
            _mapping(options, "request_options"),
            system,
            runs_out=bool(workload.get("first_start_fails_with_out_of_memory")),
        )
    except OptionError as problem:
        return {"error": str(problem)}
    model, drafter = f"<{case.model}.gguf>", "" if subject.draft is None else f"<{subject.draft}.gguf>"
    return {
        "command_lines": [one.arguments(model, drafter) for one in found.launches],
        "total_vram": found.total_vram,
        "default_num_ctx": found.default_num_ctx,
        "options_num_ctx": found.options_num_ctx,
        "num_ctx_auto": found.num_ctx_auto,
        "scheduled_num_ctx": found.scheduled_num_ctx,
        "retries": found.retries,
    }


def _devices(listed: object) -> list[Device]:
    if not isinstance(listed, list) or len(listed) > _MOST_DEVICES or not all(isinstance(gpu, Mapping) for gpu in listed):
        raise InvalidCase(f"`workload.gpus` must be a list of at most {_MOST_DEVICES} objects")
    return [
        Device(
            library=str(gpu.get("Library", "")),
            name=str(gpu.get("Name", "")),
            total=whole(gpu.get("Total", 0), "workload.gpus Total"),
            free=whole(gpu.get("Free", 0), "workload.gpus Free"),
            major=whole(gpu.get("Major", 0), "workload.gpus Major"),
            minor=whole(gpu.get("Minor", 0), "workload.gpus Minor"),
            driver_major=whole(gpu.get("DriverMajor", 0), "workload.gpus DriverMajor"),
            integrated=gpu.get("Integrated") is True,
        )
        for gpu in listed
    ]
