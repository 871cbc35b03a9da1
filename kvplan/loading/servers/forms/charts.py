"""Values of Helm charts: production-stack's models, llm-d's model service, and charts that name an image with its command."""

import re
from collections.abc import Iterator
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.containers import contained, count_of
from kvplan.loading.servers.forms.kubernetes import container_cards, container_environment, words
from kvplan.loading.servers.forms.shell import calls as shell_calls
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.source import Read, Source
from kvplan.loading.servers.yaml_tree import Map, Node, Text, documents, walk

#: production-stack helm/templates/deployment-vllm-multi.yaml: values that become flags, in their order.
_FLAGS: Final = {
    "maxModelLen": "--max-model-len", "dtype": "--dtype", "tensorParallelSize": "--tensor-parallel-size",
    "pipelineParallelSize": "--pipeline-parallel-size", "maxNumSeqs": "--max-num-seqs",
    "gpuMemoryUtilization": "--gpu-memory-utilization", "maxLoras": "--max-loras",
}  # fmt: skip
_SWITCHES: Final = {
    "enablePrefixCaching": ("--enable-prefix-caching", "--no-enable-prefix-caching"),
    "enableChunkedPrefill": ("--enable-chunked-prefill", "--no-enable-chunked-prefill"),
}
_URL: Final = re.compile(r"(?:hf|huggingface)://(.+)|pvc\+hf://[^/]+/(.+)")
#: What a value may say of another of the same file.
_VALUE: Final = re.compile(r"\"?\{\{\s*\.Values\.([\w.]{1,200})\s*\}\}\"?")
#: llm-d's modelCommand: the server, or the image's own entrypoint with the chart's --model.
_SERVE: Final = "vllmServe"
_IMAGE: Final = "imageDefault"


def reads(root: Node) -> bool:
    """Values that hold models or images."""
    if not isinstance(root, Map) or root.text("kind") or root.entries.get("services"):
        return False
    if root.get("servingEngineSpec") or (root.get("modelArtifacts") and (root.get("decode") or root.get("prefill"))):
        return True
    return any(_image(holder) for _, holder in walk(root))


def found(source: Source) -> Read:
    """The servers that the chart would start."""
    calls: list[Call] = []
    for root in documents(source.text):
        if not isinstance(root, Map):
            continue
        if root.get("servingEngineSpec"):
            calls += (call for one in root.list("servingEngineSpec", "modelSpec") if isinstance(one, Map) for call in _model(one))
        elif root.get("modelArtifacts"):
            calls += (call for role in ("decode", "prefill") for call in _role(root, role))
        else:
            calls += (call for _, holder in walk(root) if _image(holder) for call in _plain(holder))
    return Read(tuple(calls))


def _model(one: Map, image: str = "") -> Iterator[Call]:
    """A model of production-stack."""
    image = image or (f"{one.text('repository')}:{one.text('tag')}" if one.text("repository") else "")
    config = one.map("vllmConfig")
    environment = container_environment(one, {})
    given: list[Word] = []
    for key, node in config.entries.items():
        if key not in {*_FLAGS, *_SWITCHES} or not isinstance(node, Text) or node.value is None:
            continue
        line = config.lines[key]
        if key in _FLAGS:
            given += [Word(_FLAGS[key], line), Word(node.text, line)]
        elif isinstance(node.value, bool):
            given.append(Word(_SWITCHES[key][0 if node.value else 1], line))
    if one.text("enableLoRA") == "true" or config.text("enableLoRA") == "true":
        given.append(Word("--enable-lora", one.line))
    given += words(config.get("extraArgs"), environment)
    url = one.get("modelURL")
    line = url.line if isinstance(url, Text) else one.line
    reader = next((r for r in READERS if r.knows(_FLAGS["maxModelLen"])), None)
    if reader is None or not one.text("modelURL"):
        return
    start = reader.serving(Word(one.text("modelURL"), line))
    call = Call(
        words=(), environment=environment, image=image, gpus=count_of(one.text("requestGPU")), place=one.text("name"), line=line,
    )  # fmt: skip
    yield from contained(call, (*start, *given), (), shell_calls)


class _Runtimes:
    """production-stack's operator: a `VLLMRuntime` says what the chart's values do, in other places."""

    @staticmethod
    def reads(root: Node) -> bool:
        """By its `apiVersion`."""
        return isinstance(root, Map) and root.text("apiVersion").startswith("production-stack.vllm.ai/")

    @staticmethod
    def found(source: Source) -> Read:
        """The server of every runtime."""
        roots = [root for root in documents(source.text) if isinstance(root, Map) and root.text("kind") == "VLLMRuntime"]
        return Read(tuple(call for root in roots for call in _runtime(root)))


RUNTIMES: Final = _Runtimes()


def _runtime(root: Map) -> Iterator[Call]:
    """The operator's arguments: operator/internal/controller/vllmruntime_controller.go:deploymentForVLLMRuntime."""
    model, config, deployed = root.map("spec", "model"), root.map("spec", "vllmConfig"), root.map("spec", "deploymentConfig")
    both = Map({**config.entries, **model.entries}, {**config.lines, **model.lines}, model.line)
    if model.text("enableLoRA") != "true":
        both.entries.pop("maxLoras", None)
    image = "/".join(part for part in (deployed.text("image", "registry"), deployed.text("image", "name")) if part)
    entries = {
        **model.entries, "vllmConfig": both, "name": root.get("metadata", "name") or Text("", root.line, root.line, ""),
        "requestGPU": deployed.get("resources", "gpu") or Text("", root.line, root.line, ""),
    }  # fmt: skip
    yield from _model(Map(entries, model.lines, model.line), image)


def _role(root: Map, role: str) -> Iterator[Call]:
    """llm-d's decode or prefill pods."""
    part = root.map(role)
    uri = _VALUE.sub(lambda match: root.text(*match[1].split(".")) or match[0], root.text("modelArtifacts", "uri"))
    address = _URL.match(uri)
    if not part.entries or part.text("create") == "false":
        return
    reader = next((r for r in READERS if r.knows(_FLAGS["maxModelLen"])), None)
    for one in part.list("containers"):
        if not isinstance(one, Map) or reader is None:
            continue
        environment = container_environment(one, {})
        line = one.lines.get("args", one.line)
        given = list(words(one.get("args"), environment))
        parallel = part.text("parallelism", "tensor")
        call = Call(words=(), environment=environment, image=one.text("image"), gpus=container_cards(one), place=role, line=line)
        own = one.text("modelCommand") == _IMAGE and "sim" not in one.text("image")  # its simulator holds no model
        if one.text("modelCommand") == _SERVE or own:
            model = Word((address[1] or address[2]) if address else uri, line)
            start = list(reader.serving(model))
            start += [Word("--tensor-parallel-size", line), Word(parallel, line)] if parallel else []
            yield from contained(call, (*start, *given), (), shell_calls)
        else:
            command = one.get("command")
            started = None if command is None else list(words(command, environment))
            yield from contained(call, started, given, shell_calls)


def _image(holder: Map) -> bool:
    """Whether a mapping names an image: `image: a/b:c`, or `{repository, tag}` with a command beside it."""
    image = holder.get("image")
    begun = any(holder.get(key) for key in ("command", "args", "extraArgs"))
    return (isinstance(image, Map) and bool(image.text("repository")) and (begun or bool(image.get("command")))) or (
        isinstance(image, Text) and "/" in image.text and begun
    )


def _plain(holder: Map) -> Iterator[Call]:
    image = holder.get("image")
    inner = image if isinstance(image, Map) else Map({}, {}, holder.line)
    name = image.text if isinstance(image, Text) else f"{inner.text('repository')}:{inner.text('tag')}"
    environment = container_environment(holder, {})
    command = holder.get("command") or inner.get("command")
    given = [word for key in ("args", "extraArgs") for word in words(holder.get(key), environment)]
    started = None if command is None else list(words(command, environment))
    call = Call(
        words=(), environment=environment, image=name, gpus=container_cards(holder), place=holder.text("name"), line=holder.line
    )
    yield from contained(call, started, given, shell_calls)
