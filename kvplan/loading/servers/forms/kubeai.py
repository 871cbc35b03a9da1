"""KubeAI's Model: a URL, an engine's name, arguments, and a resource profile that ends in a number of cards."""

import re
from collections.abc import Iterator
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.containers import count_of
from kvplan.loading.servers.forms.kubernetes import container_environment, words
from kvplan.loading.servers.forms.shell import with_cards
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.source import Read, Source
from kvplan.loading.servers.yaml_tree import Map, Node, documents

_API: Final = "kubeai.org/"
_URL: Final = re.compile(r"(?:hf|ollama|pvc|s3|gs|oss)://([^?]+)")


def reads(root: Node) -> bool:
    """By its `apiVersion`."""
    return isinstance(root, Map) and root.text("apiVersion").startswith(_API)


def found(source: Source) -> Read:
    """The server of every Model."""
    return Read(tuple(call for root in documents(source.text) if isinstance(root, Map) for call in _model(root)))


def _model(root: Map) -> Iterator[Call]:
    spec = root.map("spec")
    engine = spec.text("engine").lower().replace("_", "-")
    reader = next((one for one in READERS if one.name.replace(".", "").replace("-", "") == engine.replace("-", "")), None)
    if not root.text("apiVersion").startswith(_API) or root.text("kind") != "Model" or reader is None:
        return
    environment = container_environment(spec, {})
    address = _URL.match(spec.text("url"))
    line = spec.lines.get("url", spec.line)
    model = Word(address[1] if address else spec.text("url"), line)
    yield with_cards(
        Call(
            words=(*reader.serving(model), *words(spec.get("args"), environment)),
            environment=environment,
            gpus=count_of(spec.text("resourceProfile").rpartition(":")[2]),
            place=root.text("metadata", "name"),
            line=line,
            image=spec.text("image"),
        )
    )
