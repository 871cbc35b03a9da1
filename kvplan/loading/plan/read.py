"""YAML plans of several models on one GPU or node, decoded strictly: every complaint names file and line.

    gpu: rtx-4090:2                    | members:
    reserve: 500MiB                    |   - name: chat
    include: shared-members.yaml       |     model: llama-3.1-8b
                                       |     engine: vllm
                                       |     tensor_parallel: 2
                                       |     context: 8k
                                       |     users: 4

docs/guides/committee.md describes every key.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from msgspec.structs import replace

from kvplan.architectures.weights import stored_weights
from kvplan.domain.budget import given_memory, gpu_memory, kept_free
from kvplan.domain.gpus import Gpu, counted, gpu
from kvplan.domain.ledger import Line
from kvplan.domain.model import Model
from kvplan.domain.plan import Member, Plan
from kvplan.engines import ABOUTS, deals_out, engine_name, pipeline_stages, with_dtype
from kvplan.errors import KvplanError, OptionError, SpecError, nearest
from kvplan.files import expanded, read_bounded
from kvplan.limits import SIZE_BYTES
from kvplan.loading import load
from kvplan.loading.plan.files import PlanFiles
from kvplan.loading.weights.find import find_weights
from kvplan.loading.yaml_spec.fields import Fields, shown
from kvplan.loading.yaml_spec.nodes import MAX_BYTES, ListNode, MapNode, Node, Scalar, at, from_python, parse_yaml
from kvplan.units import parse_count, parse_size

T = TypeVar("T")

_PLAN_KEY: Final = re.compile(rb"^(members|include)\s*:", re.MULTILINE)
#: What the description of a model has on top.
_MODEL: Final = (
    frozenset({"layers", "attention", "config", "pattern", "model_type", "hub", "num_hidden_layers"}),
    "this describes a model: `kvplan estimate FILE`",
)
_TOP: Final = ("gpu", "memory", "reserve", "include", "members", "notes")
_MEMBER: Final = (
    "name", "model", "engine", "context", "users", "share", "tensor_parallel", "cards", "weights", "weights_dtype", "reserve",
    "cache", "kv_dtype", "encoder_len", "options",
)  # fmt: skip
_MAX_CARDS: Final = 128  # a node has 1, 2, 4, 8, 16; a rack of them 72


def is_plan(text: str) -> bool:
    """Whether a path leads to a plan rather than to one model's description: YAML with `members` or `include` on top."""
    path = expanded(text)
    if path.suffix.lower() not in {".yaml", ".yml"} or not path.is_file():
        return False
    try:
        return _PLAN_KEY.search(read_bounded(path, MAX_BYTES, SpecError, "a YAML plan")) is not None
    except SpecError:  # its reader says what is wrong with it
        return False


def load_plan(source: str | Path | Mapping[str, Any], overrides: Mapping[str, str] | None = None) -> Plan:
    """Read a plan.

    Args:
        source: a YAML file, or a Python mapping of the same form.
        overrides: `gpu`, `memory`, or `MEMBER.KEY`, and the value that replaces the plan's.

    Raises:
        SpecError: unreadable, not a plan, or inconsistent; the message names the line.
        OptionError: an override that the plan has no place for.
    """
    if isinstance(source, Mapping):
        root, name, files, folder = from_python(source, "plan"), "plan", PlanFiles(None), None
    else:
        path = expanded(source, SpecError)
        root = parse_yaml(read_bounded(path, MAX_BYTES, SpecError, "a YAML plan"), str(path))
        name, files, folder = str(path), PlanFiles(path), path.parent
    changes = dict(overrides or {})
    top = Fields(
        _overridden(root, {key: changes.pop(key) for key in ("gpu", "memory") if key in changes}), name, "", _TOP, other=_MODEL
    )
    members = _members(files.members(top, folder), top, changes)
    card, gpus, memory = _cards(top)
    reserve = _size(top, "reserve", minimum=0)
    kept = kept_free(card, memory)
    if reserve is not None:
        kept = Line(name="kept free", bytes=reserve, basis="given", source="`reserve` of the plan")
    for member in members:
        _check_cards(member, gpus)
    _check_shares(members, gpus)
    return Plan(gpu=card, gpus=gpus, memory=memory, reserve=kept, members=members, source="" if folder is None else name)


def overridden(plan: Plan, changes: Mapping[str, str]) -> Plan:
    """A `Plan` value with `gpu`, `memory`, or `MEMBER.KEY` replaced: a member's context, users, share, kv_dtype or
    tensor_parallel.

    Raises:
        OptionError: a key or a value that the plan has no place for.
    """
    for key, value in changes.items():
        if key == "gpu":
            name, number = counted(value)
            card = gpu(name)
            memory = gpu_memory(card)
            kept = kept_free(card, memory) if plan.reserve.basis == "assumed" or card.vendor == "apple" else plan.reserve
            gpus = number or plan.gpus
            plan = replace(plan, gpu=card, memory=memory, reserve=kept, gpus=gpus)
        elif key == "memory":
            plan = replace(plan, memory=given_memory(plan.gpu.id, parse_size(value, what="memory")))
        else:
            plan = replace(plan, members=_changed_members(plan, key, value))
    return plan


def _changed_members(plan: Plan, key: str, value: str) -> tuple[Member, ...]:
    name, _, word = key.partition(".")
    if not any(member.name == name for member in plan.members):
        raise OptionError(f"overrides: the plan has no member `{name[:60]}`", hint="write MEMBER.KEY, such as chat.users")

    def changed(member: Member) -> Member:
        if word in {"context", "users", "tensor_parallel"}:
            return replace(member, **{word: parse_count(value, what=key)})
        if word == "kv_dtype":
            return replace(member, options=with_dtype(member.engine, member.options, value))
        if word == "share":
            try:
                return replace(member, share=float(value))
            except ValueError as problem:
                raise OptionError(f"{key}: expected a share such as 0.5, got `{value[:40]}`") from problem
        raise OptionError(
            f"overrides: `{word[:40]}` of a `Plan` value cannot be replaced by a text",
            hint="context, users, share, kv_dtype and tensor_parallel can; or make another `Plan`",
        )

    return tuple(changed(member) if member.name == name else member for member in plan.members)


def _overridden(node: Node, values: Mapping[str, str]) -> Node:
    """A mapping node with some values replaced by what was typed."""
    if not isinstance(node, MapNode) or not values:
        return node
    typed = {key: parse_yaml(value.encode("utf-8", "replace"), f"«overrides {key}»") for key, value in values.items()}
    return MapNode(node.line, {**node.entries, **typed}, {**dict.fromkeys(typed, 0), **node.lines})


def _cards(top: Fields) -> tuple[Gpu, int, Line]:
    """The kind of card, how many (`NAME:N`), and the memory of one."""
    name, number = _at(top, "gpu", lambda: counted(top.text("gpu", limit=200)))
    gpus = number or 1
    if gpus > _MAX_CARDS:
        top.refuse("gpu", f"names {gpus:,} cards, and at most {_MAX_CARDS} are allowed")
    card, memory = _at(top, "gpu", lambda: gpu(name)), _size(top, "memory")
    if memory is not None:
        line = given_memory(card.id, memory)
        return card, gpus, Line(name=line.name, bytes=line.bytes, basis=line.basis, source="`memory` of the plan")
    return card, gpus, _at(top, "gpu", lambda: gpu_memory(card))


def _members(nodes: list[tuple[Node, str]], top: Fields, changes: dict[str, str]) -> tuple[Member, ...]:
    found: list[Member] = []
    models: dict[str, Model] = {}  # each is loaded once, however many members have it
    if not nodes:
        top.refuse_here("needs `members`", hint="list what runs on the card; see docs/guides/committee.md")
    for i, (node, source) in enumerate(nodes):
        named = node.entries.get("name") if isinstance(node, MapNode) else None
        name = named.shown if isinstance(named, Scalar) else ""
        mine = {key.partition(".")[2]: changes.pop(key) for key in list(changes) if key.partition(".")[0] == name and name}
        fields = Fields(_overridden(node, mine), source, f"members[{i}]", _MEMBER)
        member = _member(fields, models)
        if any(member.name == other.name for other in found):
            fields.refuse("name", f"`{member.name[:60]}` is taken by another member", hint="names are unique")
        found.append(member)
    if changes:
        key = next(iter(changes))
        near = nearest(key.partition(".")[0], (m.name for m in found))
        raise OptionError(
            f"«overrides»: no member for `{key[:60]}`",
            hint=f"did you mean `{near}`?" if near else "write «overrides MEMBER.KEY=VALUE»",
        )
    return tuple(found)


def _member(f: Fields, models: dict[str, Model]) -> Member:
    name = f.text("name", limit=60)
    engine = f.text("engine", limit=60) if f.has("engine") else ""
    model, source, weights = _model_and_weights(f, models)
    cache = _size(f, "cache", minimum=0)
    users = _count(f, "users")
    share = _share(f)
    if model is None and cache is None:
        cache = 0
    if model is not None and cache is None and users is None and share is None:
        f.refuse_here("needs `users` (requests at once) or `share` (of the card)", hint="add `users: 4` or `share: 0.5`")
    if model is not None and cache is None and not f.has("context"):
        f.refuse_here("needs `context`, the tokens of one request", hint="add `context: 8k`")
    if cache is not None and users is not None:
        f.refuse("users", "and `cache` are two answers to one question", hint="keep one of them")
    reserve = _size(f, "reserve", minimum=0)
    options = _options(f)
    return Member(
        name=name,
        engine=engine,
        model=model,
        source=source,
        weights_dtype=f.text("weights_dtype", limit=40) if f.has("weights_dtype") and not _stored_so(model, weights) else "",
        weights=weights,
        context=_count(f, "context") or 1,
        users=users,
        share=share,
        reserve=None if reserve is None else Line(name="reserve", bytes=reserve, basis="given", source="`reserve` of the plan"),
        cache_bytes=cache,
        tensor_parallel=_count(f, "tensor_parallel") or 1,
        stages=pipeline_stages(engine, options),
        cards=_named_cards(f),
        encoder_len=_count(f, "encoder_len", minimum=0) or 0,
        options=options,
        lines={"": at(f.source, f.line), **{key: f.where(key) for key in f.entries}},
    )


def _stored_so(model: Model | None, weights: Line) -> bool:
    """Whether the checkpoint itself holds such weights."""
    own = stored_weights(model) if model is not None else None
    return own is not None and own.bytes == weights.bytes


def _model_and_weights(f: Fields, models: dict[str, Model]) -> tuple[Model | None, str, Line]:
    given = _size(f, "weights", minimum=0)
    if not f.has("model"):
        if given is None:
            f.refuse_here("needs `model`, or `weights` for something that keeps no cache", hint="add `model: llama-3.1-8b`")
        return None, "", Line(name="weights", bytes=given, basis="given", source="`weights` of the plan")
    source = f.text("model", limit=4096)
    if source not in models:
        models[source] = _at(f, "model", lambda: load(source))
    model = models[source]
    dtype = f.text("weights_dtype", limit=40) if f.has("weights_dtype") else None
    key = "weights_dtype" if dtype else "model"
    try:
        line = find_weights(source, model, given_bytes=given, dtype=dtype)
    except OptionError as problem:
        hint = "add `weights: 16GB`" + ("" if dtype else ", or `weights_dtype: fp8`")
        raise SpecError(f"{f.where(key)}: {str(problem).replace('weights_dtype=', '`weights_dtype` ')}", hint=hint) from problem
    except KvplanError as problem:
        raise problem.at(f.where(key), SpecError) from problem
    if given is not None:
        line = Line(name=line.name, bytes=line.bytes, basis=line.basis, source="`weights` of the plan")
    return model, source, line


def _options(f: Fields) -> dict[str, Any]:
    """`options` by the engine's own names, and the shared `kv_dtype`; engines check the values."""
    options: dict[str, Any] = {}
    if f.has("kv_dtype"):
        options["kv_dtype"] = f.text("kv_dtype", limit=40)
    if f.has("options"):
        node = f.entries["options"]
        if not isinstance(node, MapNode):
            f.refuse("options", f"must be a mapping of the engine's options, got {shown(node)}")
        for key, value in node.entries.items():
            if not isinstance(value, Scalar):
                f.refuse("options", f"must hold plain values, and `{key[:40]}` is {shown(value)}")
            options[key] = value.value
    return options


def _share(f: Fields) -> float | None:
    if not f.has("share"):
        return None
    node = f.entries["share"]
    value = node.value if isinstance(node, Scalar) else None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
        f.refuse("share", f"must be above 0 and at most 1, got {shown(node)}", hint="0.5 is half of the card")
    return float(value)


def _named_cards(f: Fields) -> tuple[int, ...]:
    """The cards that a member must be on: a number, or a list of them; the first is 0."""
    if not f.has("cards"):
        return ()
    node = f.entries["cards"]
    nodes = node.items if isinstance(node, ListNode) else (node,)
    cards = tuple(sorted(f.checked(entry, f.name("cards"), 0, _MAX_CARDS - 1) for entry in nodes))
    if len(set(cards)) != len(cards) or not cards:
        f.refuse("cards", "must name each card once", hint="such as `cards: [0, 1]`; the first card is 0")
    return cards


def _check_cards(member: Member, gpus: int) -> None:
    """Whether the node has as many cards as the member takes, and those that it names."""
    there = "there is one card" if gpus == 1 else f"there are {gpus} cards"
    if member.devices > gpus:
        raise SpecError(
            f"{member.where('tensor_parallel')}: {member.name} takes {member.devices:,} cards, and {there}",
            hint=f"write `gpu: NAME:{member.devices}`, or split it less" if member.devices <= _MAX_CARDS else "split it less",
        )
    if not member.cards:
        return
    if member.cards[-1] >= gpus:
        raise SpecError(
            f"{member.where('cards')}: {member.name} names card {member.cards[-1]}, and {there}", hint="the first card is 0"
        )
    if len(member.cards) != member.devices and not (member.dealt_over and _deals_out(member)):
        raise SpecError(
            f"{member.where('cards')}: {member.name} names {len(member.cards)} of the cards and takes {member.devices}",
            hint=f"name {member.devices}, or set `tensor_parallel`",
        )


def _deals_out(member: Member) -> bool:
    """Whether its engine deals layers out; one that is not known is complained of elsewhere."""
    return engine_name(member.engine) in ABOUTS and deals_out(member.engine)


def _check_shares(members: tuple[Member, ...], gpus: int) -> None:
    """Whether the shares are parts of the cards: of all together, and of each that is named."""
    from fractions import Fraction

    together, named = Fraction(0), [Fraction(0)] * gpus
    for member in members:
        if member.share is None:
            continue
        share = Fraction(str(member.share))
        together += share * member.devices
        for card in member.cards:
            named[card] += share
        over = next((card for card in member.cards if named[card] > 1), None)
        if over is not None and gpus > 1:
            raise SpecError(
                f"{member.where('share')}: the shares add up to {float(named[over]):g} of card {over}",
                hint="shares are parts of 1",
            )
        if together > gpus:
            what = "the card" if gpus == 1 else f"the {gpus} cards"
            raise SpecError(
                f"{member.where('share')}: the shares add up to {float(together):g}, which is more than {what}",
                hint="shares are parts of 1",
            )


def _count(f: Fields, key: str, minimum: int = 1) -> int | None:
    """A count as a number or as people write it (`8k`)."""
    if not f.has(key):
        return None
    text = f.text(key, limit=40)
    return _at(f, key, lambda: parse_count(text, what=f"`{f.name(key)}`", minimum=minimum))


def _size(f: Fields, key: str, minimum: int = 1) -> int | None:
    """A size with its unit; 0 needs none."""
    if not f.has(key):
        return None
    text = f.text(key, limit=40)
    amount = 0 if text == "0" else _at(f, key, lambda: parse_size(text, what=f"`{f.name(key)}`"))
    if not minimum <= amount <= SIZE_BYTES:
        f.refuse(key, f"must be a size above 0 and at most 2**60 bytes, got `{text}`", hint="write `16GB` or `15GiB`")
    return amount


def _at(f: Fields, key: str, make: Callable[[], T]) -> T:
    """The value of `make()`; its objections get the line of `key`."""
    try:
        return make()
    except KvplanError as problem:
        _refuse_at(f.where(key), problem)


def _refuse_at(where: str, problem: KvplanError) -> NoReturn:
    if problem.exit_code != 2:
        raise problem
    raise problem.at(where, SpecError) from problem
