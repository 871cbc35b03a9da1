"""What `fit --emit` writes: a verdict as the file that starts its server, complete, minimal and commented. Pure text."""

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from typing import Final, Literal

from msgspec import Struct

from kvplan.engines import about, command_readers
from kvplan.errors import OptionError, printable
from kvplan.questions.fit.question import Fit

Form = Literal["shell", "compose", "k8s", "systemd", "modelfile"]
FORMS: Final[tuple[Form, ...]] = ("shell", "compose", "k8s", "systemd", "modelfile")
_PAIR: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_SHARED: Final = "16g"  # of memory between the processes of one server, as the engines' own examples have it
_RESOURCES: Final = {"amd": "amd.com/gpu", "intel": "gpu.intel.com/xe"}


class Started(Struct, frozen=True):
    """A command line in its parts, with what is said of it."""

    environment: Sequence[tuple[str, str]]
    program: Sequence[str]
    arguments: Sequence[Sequence[str]]  # a flag with its words, or a word
    image: str
    comments: Sequence[str]
    name: str
    cards: int
    resource: str
    parameters: Sequence[tuple[str, str]] = ()
    loads: Sequence[str] = ()  # what loads the model once the server runs

    @property
    def words(self) -> list[str]:
        """The whole command line."""
        return [*self.program, *(word for group in self.arguments for word in group)]

    @property
    def both(self) -> str:
        """The server and what loads its model, as one script."""
        return f"{shlex.join(self.words)} & sleep 5; {shlex.join(self.loads)} ''; wait"


def emitted(fit: Fit, form: str) -> str:
    """The file for a verdict.

    Raises:
        OptionError: no such form, or one that this engine does not have.
    """
    if form not in FORMS:
        raise OptionError(f"«emit»: unknown form `{form[:40]}`", hint=f"one of {', '.join(FORMS)}")
    started = _started(fit, form)
    if form == "modelfile":
        return "\n".join(_modelfile(started)) + "\n"
    if form in {"compose", "k8s"} and not started.image:
        raise OptionError(f"«emit»: {fit.question.engine} has no image for {form}", hint="«emit shell» or «emit systemd»")
    made = {"shell": _shell, "compose": _compose, "k8s": _kubernetes, "systemd": _systemd}[form]
    return "\n".join(made(started)) + "\n"


def _started(fit: Fit, form: str) -> Started:
    q = fit.question
    name = q.engine.partition("@")[0]
    if q.model.design:
        raise OptionError(
            f"«emit»: no checkpoint of {q.model.name} is known", hint="`hub: owner/name` in its description names one"
        )
    reader = next((one for one in command_readers() if one.name == name), None)
    if not fit.flags or reader is None or not about(name).program:
        raise OptionError(f"«emit»: kvplan knows no command line of {q.engine}", hint="another engine: «engine vllm»")
    if form == "modelfile" and not reader.describes:
        raise OptionError(f"«emit modelfile» is of engines that have Modelfiles, and {name} has none", hint="«emit shell»")
    version = q.engine.partition("@")[2] or (fit.allocation.engine_version if fit.allocation else "") or about(name).latest
    lines = reader.written(fit.flags.splitlines()[0], q.model.hub or q.model.name, _mix(fit))
    words = shlex.split(lines)
    environment = []
    while words and (pair := _PAIR.fullmatch(words[0])):
        environment.append((pair[1], pair[2]))
        words.pop(0)
    begun = reader.program_words(words)
    image = reader.container.format(version=version) if version else reader.container.partition(":")[0]
    return Started(
        environment=environment,
        program=words[:begun],
        arguments=_grouped(words[begun:]),
        image=image,
        comments=_comments(fit),
        name=re.sub(r"[^a-z0-9]+", "-", q.model.name.lower()).strip("-")[:50] or "model",
        cards=q.gpus,
        resource=_RESOURCES.get(q.gpu.vendor, "nvidia.com/gpu"),
        parameters=[(option, str(fit.context)) for option in about(name).lengths[:1]],
        loads=reader.loads(q.model.hub or q.model.name, _mix(fit)),
    )


def _mix(fit: Fit) -> str:
    """The format of the weights, as GGUF files are called by it."""
    asked = fit.question.weights_flag.removeprefix("--weights-dtype ").strip()
    plain = asked if re.fullmatch(r"[a-z0-9_]{2,12}", asked.lower()) else fit.question.model.dtype
    return {"bfloat16": "BF16", "float16": "F16", "float32": "F32", "bf16": "BF16", "fp16": "F16"}.get(plain, plain.upper())


def _comments(fit: Fit) -> list[str]:
    q = fit.question
    cards = f"{q.gpus} x {q.gpu.id}" if q.gpus > 1 else q.gpu.id
    verdict = "fits" if fit.fits else "DOES NOT FIT"
    said = [f"kvplan: {q.model.name} · {q.engine} on {cards}: {fit.batch_size:,} x {fit.context:,} tokens, {verdict}"]
    said += [f"needs {need}" if not need.startswith(("needs", "then")) else need for need in fit.needs]
    return [printable(one, 200) for one in said]


def _grouped(words: Sequence[str]) -> list[list[str]]:
    """A flag with its words on one line."""
    found: list[list[str]] = []
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-\d.*", word):
            found.append([word])
        elif found and found[-1][0].startswith("-"):
            found[-1].append(word)
        else:
            found.append([word])
    return found


def _shell(s: Started) -> Iterator[str]:
    yield "#!/bin/sh"
    yield from (f"# {line}" for line in s.comments)
    yield from (f"export {name}={shlex.quote(value)}" for name, value in s.environment)
    line = " \\\n  ".join([shlex.join(s.program), *map(shlex.join, s.arguments)])
    yield f"{line} &" if s.loads else line
    if s.loads:
        yield "sleep 5"
        yield f"{shlex.join(s.loads)} ''"
        yield "wait"


def _systemd(s: Started) -> Iterator[str]:
    yield from (f"# {line}" for line in s.comments)
    yield "[Unit]"
    yield f"Description=Serves {s.name}"
    yield "After=network-online.target"
    yield ""
    yield "[Service]"
    yield from (f"Environment={_unit(f'{name}={value}')}" for name, value in s.environment)
    groups = [" ".join(map(_unit, ["/usr/bin/env", *s.program])), *(" ".join(map(_unit, group)) for group in s.arguments)]
    yield "ExecStart=" + " \\\n  ".join(groups)
    if s.loads:
        yield "ExecStartPost=" + " ".join(map(_unit, ["/usr/bin/env", *s.loads, ""]))
    yield "Restart=on-failure"
    yield ""
    yield "[Install]"
    yield "WantedBy=multi-user.target"


def _unit(text: str) -> str:
    """A word as systemd reads it."""
    plain = text.replace("%", "%%").replace("$", "$$")
    return plain if re.fullmatch(r"[\w./:=@%,+-]+", plain) else "'" + plain.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _compose(s: Started) -> Iterator[str]:
    yield from (f"# {line}" for line in s.comments)
    yield "services:"
    yield f"  {s.name}:"
    yield f"    image: {s.image}"
    yield f"    entrypoint: {json.dumps(['sh', '-c'] if s.loads else list(s.program))}"
    if s.loads:
        yield f"    command: [{json.dumps(_dollars(s.both), ensure_ascii=False)}]"
    elif s.arguments:
        yield "    command:"
        yield from (f"      - {json.dumps(_dollars(word), ensure_ascii=False)}" for group in s.arguments for word in group)
    if s.environment:
        yield "    environment:"
        yield from (f"      {name}: {json.dumps(_dollars(value))}" for name, value in s.environment)
    if s.cards > 1:
        yield f"    shm_size: {_SHARED}  # between its {s.cards} processes"
    yield "    deploy:"
    yield "      resources:"
    yield "        reservations:"
    yield "          devices:"
    yield f"            - {{driver: nvidia, count: {s.cards}, capabilities: [gpu]}}"


def _dollars(text: str) -> str:
    return text.replace("$", "$$")


def _kubernetes(s: Started) -> Iterator[str]:
    yield from (f"# {line}" for line in s.comments)
    yield "apiVersion: apps/v1"
    yield "kind: Deployment"
    yield f"metadata: {{name: {s.name}}}"
    yield "spec:"
    yield "  replicas: 1"
    yield f"  selector: {{matchLabels: {{app: {s.name}}}}}"
    yield "  template:"
    yield f"    metadata: {{labels: {{app: {s.name}}}}}"
    yield "    spec:"
    yield "      containers:"
    yield "        - name: server"
    yield f"          image: {s.image}"
    yield f"          command: {json.dumps(['sh', '-c', s.both] if s.loads else list(s.program), ensure_ascii=False)}"
    if s.arguments and not s.loads:
        yield "          args:"
        yield from (
            f"            - {json.dumps(word.replace('$(', '$$('), ensure_ascii=False)}"
            for group in s.arguments
            for word in group
        )
    if s.environment:
        yield "          env:"
        yield from (f"            - {{name: {name}, value: {json.dumps(value)}}}" for name, value in s.environment)
    yield "          resources:"
    yield f"            limits: {{{s.resource}: {s.cards}}}"
    if s.cards > 1:
        yield f"          volumeMounts: [{{name: shm, mountPath: /dev/shm}}]  # between its {s.cards} processes"
        yield "      volumes:"
        yield f"        - {{name: shm, emptyDir: {{medium: Memory, sizeLimit: {_SHARED.upper()}i}}}}"


def _modelfile(s: Started) -> Iterator[str]:
    yield from (f"# {line}" for line in s.comments)
    yield from (f"# in the server's environment: {name}={value}" for name, value in s.environment)
    yield f"FROM {s.loads[-1]}"
    yield from (f"PARAMETER {name} {value}" for name, value in s.parameters)
