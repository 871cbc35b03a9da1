"""KServe: InferenceService (a predictor's model and arguments, or containers) and LLMInferenceService."""

import re
from collections.abc import Iterator
from typing import Final

from kvplan.engines.kernel.commandline.words import Call, Gpus, Word
from kvplan.loading.servers.containers import contained
from kvplan.loading.servers.forms.kubernetes import container_cards, container_environment, words
from kvplan.loading.servers.forms.shell import calls as shell_calls
from kvplan.loading.servers.readers import READERS
from kvplan.loading.servers.source import Read, Source
from kvplan.loading.servers.yaml_tree import Map, Node, Text, documents, walk

_API: Final = "serving.kserve.io/"
#: Words of KServe's own runtime (python/huggingfaceserver), which hands the others to the engine.
_OWN: Final = frozenset(
    {
        "model_name", "model_dir", "model_id", "model_revision", "tokenizer_revision", "task", "backend", "return_token_type_ids",
        "http_port", "grpc_port", "workers", "max_length", "disable_lower_case", "disable_special_tokens",
        "enable_latency_logging",
        "predictor_host", "tensor_input_names", "return_raw_logits", "return_probabilities", "disable_log_requests",
    }
)  # fmt: skip
#: A volume says nothing of the model that lies in it; its name beside it does, where it is a hub's.
_VOLUME: Final = re.compile(r"pvc://")
_URL: Final = re.compile(r"(?:hf|huggingface)://(.+)")
#: The engine behind KServe's own runtime: what its arguments are, and what LLMInferenceService starts.
_RUNTIME: Final = "--max-model-len"
_PARALLEL: Final = (
    ("tensor", "--tensor-parallel-size"),
    ("pipeline", "--pipeline-parallel-size"),
    ("data", "--data-parallel-size"),
)


def reads(root: Node) -> bool:
    """By its `apiVersion`."""
    return isinstance(root, Map) and root.text("apiVersion").startswith(_API)


def found(source: Source) -> Read:
    """The server of every service; the runtimes of the same file say what starts them."""
    roots = [root for root in documents(source.text) if isinstance(root, Map) and root.text("apiVersion").startswith(_API)]
    calls: list[Call] = []
    for root in roots:
        kind = root.text("kind")
        if kind == "InferenceService":
            calls += _service(root)
        elif kind == "LLMInferenceService":
            calls += _llm(root)
        elif kind in {"ServingRuntime", "ClusterServingRuntime"}:
            calls += _runtime(root)
    return Read(tuple(calls))


def _service(root: Map) -> Iterator[Call]:
    predictor = root.map("spec", "predictor")
    model = predictor.map("model")
    if not model.entries:
        yield from _containers(predictor)
        return
    environment = container_environment(model, {})
    own, others = _sorted(list(words(model.get("args"), environment)))
    form = model.text("modelFormat", "name").lower()
    runtime = model.text("runtime").lower()
    reader = next((one for one in READERS if one.name in f"{form} {runtime} {model.text('image').lower()}"), None)
    if reader is None and (form == "huggingface" or own):
        reader = next((one for one in READERS if one.knows(_RUNTIME)), None)
    if reader is None or own.get("backend") == "huggingface":
        return
    address = _URL.match(model.text("storageUri"))
    named = own.get("model_id") or (address[1] if address else model.text("storageUri") or own.get("model_dir"))
    line = model.line
    start = reader.serving(Word(named, line)) if named else reader.serving(None)
    gpus = container_cards(model)
    given = Call(
        words=(*start, *others),
        environment=environment,
        image=model.text("image"),
        gpus=gpus,
        place=root.text("metadata", "name"),
        line=line,
    )
    yield from contained(given, given.words, (), shell_calls)


def _containers(holder: Map, gpus: Gpus = None) -> Iterator[Call]:
    for _, inner in walk(holder):
        for one in inner.list("containers"):
            if isinstance(one, Map):
                environment = container_environment(one, {})
                command = one.get("command")
                started = None if command is None else list(words(command, environment))
                call = Call(
                    words=(), environment=environment, image=one.text("image"), gpus=container_cards(one) or gpus,
                    place=one.text("name"), line=one.line,
                )  # fmt: skip
                yield from contained(call, started, list(words(one.get("args"), environment)), shell_calls)


def _runtime(root: Map) -> Iterator[Call]:
    """A runtime is a server only where its words name one's program."""
    yield from _containers(root.map("spec"))


def _llm(root: Map) -> Iterator[Call]:
    """LLMInferenceService: a URI, parallelism, and containers that may add arguments."""
    spec = root.map("spec")
    runtime = spec.text("runtime").lower()
    reader = next((one for one in READERS if (one.name == runtime if runtime else one.knows(_RUNTIME))), None)
    uri = spec.text("model", "uri")
    if reader is None or not uri:
        return
    address = _URL.match(uri)
    kept = spec.text("model", "name") if _VOLUME.match(uri) and "/" in spec.text("model", "name") else uri
    line = spec.map("model").lines.get("uri", spec.line)
    parallel = [
        word
        for key, flag in _PARALLEL
        if spec.text("parallelism", key)
        for word in (Word(flag, line), Word(spec.text("parallelism", key), line))
    ]
    parallel += [Word("--enable-expert-parallel", line)] if spec.text("parallelism", "expert") == "true" else []
    for template in (spec.map("template"), *(spec.map("prefill", "template") for _ in range(bool(spec.map("prefill").entries)))):
        mains = [one for one in template.list("containers") if isinstance(one, Map)]
        main = next((one for one in mains if one.text("name") in {"main", ""}), mains[0] if mains else Map({}, {}, line))
        environment = container_environment(main, {})
        more = environment.get("VLLM_ADDITIONAL_ARGS")
        extra = [Word(text, more.line, more.known) for text in more.text.split()] if more is not None else []
        given = (
            *reader.serving(Word(address[1] if address else kept, line)),
            *parallel,
            *words(main.get("args"), environment),
            *extra,
        )
        call = Call(
            words=given,
            environment=environment,
            image=main.text("image"),
            gpus=container_cards(main),
            place=root.text("metadata", "name"),
            line=line,
        )
        yield from contained(call, given, (), shell_calls)


def _sorted(given: list[Word]) -> tuple[dict[str, str], list[Word]]:
    """(KServe's own words, the engine's)."""
    own: dict[str, str] = {}
    others: list[Word] = []
    at = 0
    while at < len(given):
        name, equals, value = given[at].text.partition("=")
        key = name.lstrip("-").replace("-", "_")
        if not name.startswith("--") or key not in _OWN:
            others.append(given[at])
            at += 1
        elif equals:
            own[key] = value
            at += 1
        else:
            follows = at + 1 < len(given) and not given[at + 1].text.startswith("--")
            own[key] = given[at + 1].text if follows else ""
            at += 1 + follows
    return own, others


def texts(node: Node | None) -> str:
    """A scalar's text."""
    return node.text if isinstance(node, Text) else ""
