"""What is known of an engine without loading it: true of the engine, and known nowhere else."""

import ast
import re
import shlex
from collections.abc import Iterator
from functools import cache
from pathlib import Path, PurePosixPath
from typing import NamedTuple, get_args

import pytest
from each import each
from hypothesis import given
from hypothesis import strategies as st

import kvplan
from kvplan.domain.dtypes import DTYPES, lookup
from kvplan.domain.workload import Workload
from kvplan.engines import ABOUTS, PREDICTED, default_engine, engine_class, located, make_engine, option_names
from kvplan.engines.kernel.about import SHARED, About, Role
from kvplan.engines.kernel.engine import Engine, Served, Serving, footprint
from kvplan.engines.kernel.evidence import HOST, records
from kvplan.errors import OptionError

ROOT = Path(kvplan.__file__).parent
KNOWN = [pytest.param(about, id=name) for name, about in ABOUTS.items()]
ENGINES = [pytest.param(ABOUTS[name], id=name) for name in PREDICTED]
LLAMA = kvplan.load("llama-3.1-8b")


def folder(about: About) -> str:
    return re.sub(r"\W", "_", about.name)


# What an About says is so.


@each("about", KNOWN)
def test_an_engine_has_a_folder_of_its_own_that_costs_only_its_about(about: About) -> None:
    lines = ast.parse((ROOT / "engines" / folder(about) / "__init__.py").read_text(encoding="utf-8")).body
    (export,) = (line for line in lines if isinstance(line, ast.ImportFrom | ast.Import))
    assert isinstance(export, ast.ImportFrom)
    assert export.module == f"kvplan.engines.{folder(about)}.about"
    places = (about.engine, about.audit, about.logs, about.field_logs, about.tables)
    assert all(place.startswith(f"kvplan.engines.{folder(about)}.") for place in places if place)
    assert about.rules or not about.predicted


@each("about", ENGINES)
def test_its_texts_name_what_is_there(about: About) -> None:
    cls = located(about.engine)
    assert issubclass(cls, Engine)
    assert cls.about is about
    assert cls().version == about.latest == ".".join(map(str, cls().release))
    if about.audit:
        assert callable(located(about.audit).recorded)
        assert callable(located(about.audit).predict)
    if about.logs:
        assert located(about.logs).MARKS
        assert callable(located(about.logs).judge_log)
    if about.field_logs:
        assert callable(located(about.field_logs).predict)
    if about.tables:
        assert callable(located(about.tables).tables)
        if isinstance(cls().on(LLAMA), Served):
            assert callable(located(about.tables).pool_tables)


@each("about", ENGINES)
def test_its_roles_are_options_of_the_engine(about: About) -> None:
    options = set(engine_class(about.name).Options.__struct_fields__)
    assert set(about.roles) | set(about.also) <= set(get_args(Role))
    assert set(about.roles.values()) | {name for names in about.also.values() for name in names} <= options
    assert len(set(about.roles.values())) == len(about.roles)
    assert option_names(about.name) == options | (set(SHARED) & set(about.roles)) | ({"offline"} if about.offline else set())


@each("about", KNOWN)
def test_its_cache_dtypes_are_kvplans_the_widest_first(about: About) -> None:
    assert set(about.cache_dtypes) <= set(DTYPES)
    assert all(about.cache_dtypes.values())
    widths = [lookup(name).row_bytes(1, 128) for name in about.cache_dtypes]
    assert widths == sorted(widths, reverse=True)


@each("about", KNOWN)
def test_its_share_of_a_card_is_told_with_its_source(about: About) -> None:
    assert "{}" in about.share.flag or not about.share.flag
    assert about.share.split_flag.format(2)[:2] in {"--", ""}
    assert about.share.source or not about.share.flag
    assert about.reserve.bytes > 0
    assert about.reserve.reason


def test_a_file_means_one_engine() -> None:
    endings = [ending for about in ABOUTS.values() for ending in about.suffixes]
    assert len(endings) == len(set(endings)) > 0
    assert default_engine("x.gguf") != default_engine("x")
    assert {default_engine(f"x{ending}") for ending in endings} | {default_engine("x")} <= set(PREDICTED)


# Evidence: what is written is what the recorded cases hold.


def test_an_engine_that_is_recorded_says_whose_devices_it_runs_on() -> None:
    for about in ABOUTS.values():
        assert bool(about.makers) == bool(about.rules_of_device)
        assert about.predicted or not about.recorded
        for makers in (makers for dtypes in records(about).held.values() for makers in dtypes.values()):
            assert set(makers) <= {HOST, *about.makers}


# What is typed.

PARTS = ["'", '"', " ", ";", "$(reboot)", "`id`", "\\", "\n", "{", "}", "{model}", "%s", "#", "&&", "|", "*", "ü", "/", "a", "-x"]
hostile = st.lists(st.sampled_from(PARTS), min_size=1, max_size=8).map("".join) | st.text(min_size=1, max_size=30)


#: Engines that are told a model's folder, whatever path or hub id it has; one that is told a repository of GGUF files.
BY_FOLDER = {"exllamav3"}
BY_FILE = {"llama.cpp"}
#: One whose server is started without a model: which it then runs is a line of its own.
WITHOUT_MODEL = {"ollama"}


@each("about", ENGINES)
@given(name=hostile, context=st.integers(1, 2**40), batch_size=st.integers(1, 256), replicas=st.sampled_from([1, 4]))
def test_a_command_keeps_a_hostile_name_together(about: About, name: str, context: int, batch_size: int, replicas: int) -> None:
    options = {role: value for role, value in (("kv_dtype", "bf16"), ("tensor_parallel", 2)) if role in about.roles}
    prepared = make_engine(about.name, options).on(LLAMA)
    name = f"owner/{''.join(name.split('/'))}-GGUF" if about.name in BY_FILE else name
    serving = Serving(model=name, context=context, batch_size=batch_size, utilization=0.9, replicas=replicas, options=options)
    command = prepared.command(serving)
    if about.name in WITHOUT_MODEL:
        assert command.startswith(about.program)
        assert any(name in shlex.split(needed) for needed in prepared.needs(serving))
        return
    if not command:
        assert not about.command
        assert not about.program
        return
    if about.program:
        words = shlex.split(command)
        assert command.startswith(about.program)
        assert {name, PurePosixPath(name).name if about.name in BY_FOLDER else name} & set(words)
    else:
        constants = [n.value for n in ast.walk(ast.parse(command)) if isinstance(n, ast.Constant)]
        assert name in constants
        assert context in constants


def test_some_engines_are_started_by_a_command() -> None:
    assert len([name for name in PREDICTED if ABOUTS[name].program]) >= 2


@pytest.mark.parametrize("front", ["server", "cli", "python"])
@given(name=hostile)
def test_every_front_end_of_llama_cpp_keeps_a_hostile_name_together(front: str, name: str) -> None:
    prepared, hub = make_engine("llama.cpp", {"frontend": front}).on(LLAMA), f"owner/{''.join(name.split('/'))}-GGUF"
    command = prepared.command(Serving(model=hub, context=100, batch_size=1))
    assert hub in shlex.split(command) if front != "python" else ast.parse(command)


TWICE = [(name, word) for name in PREDICTED for word in SHARED if ABOUTS[name].roles.get(word, word) != word]


@each(("name", "word"), TWICE)
def test_an_option_given_under_two_names_is_refused(name: str, word: Role) -> None:
    own = ABOUTS[name].roles[word]
    for first, second in ((word, own), (own, word)):
        with pytest.raises(OptionError, match=f"one option is given twice, as `{first}` and as `{second}`"):
            make_engine(name, {first: "2", second: "2"})


def test_several_engines_have_names_of_their_own() -> None:
    assert len(TWICE) > 2


BAD: dict[Role, tuple[str, ...]] = {"kv_dtype": ("fp9",), "tensor_parallel": ("0", "many")}


@each(("name", "word"), [(name, word) for name in PREDICTED for word in SHARED if word in ABOUTS[name].roles])
def test_a_complaint_about_an_option_names_it(name: str, word: Role) -> None:
    """Plans find the line at fault by it."""
    about = ABOUTS[name]
    for value in BAD[word]:
        with pytest.raises(OptionError) as caught:
            footprint(make_engine(name, {word: value}).on(LLAMA), Workload(seq_len=8))
        assert caught.value.option in {word, about.roles[word], *about.also.get(word, ())}, value


# Nobody else knows an engine.

#: Where an engine is named outside its folder: the default of a question, and what `validate --against` runs.
NAMED = {
    "api/__init__.py": {"ideal"},
    "api/compare.py": {"ideal"},
    "api/diff.py": {"ideal"},
    "api/explain.py": {"ideal"},
    "api/models.py": {"ideal"},
    "api/validate.py": {"exllamav3", "ideal", "mlx-lm", "transformers"},
    "cli/compare.py": {"ideal"},
    "cli/estimate.py": {"ideal"},
    "cli/explain.py": {"ideal"},
    "cli/sweep.py": {"ideal"},
    "cli/validate.py": {"ideal"},
    "engines/__init__.py": {"vllm"},
    "questions/compare.py": {"ideal"},
    "questions/estimate.py": {"ideal"},
    "questions/explain/explanation.py": {"ideal"},
    "questions/fit/question.py": {"ideal"},
    "questions/page/caches.py": {"ideal"},
    "questions/sweep/grid.py": {"ideal"},
    "questions/validate/exllamav3_library.py": {"exllamav3"},
    "questions/validate/library_model.py": {"transformers"},
    "questions/validate/mlx_lm_model.py": {"mlx-lm"},
}
#: Options by an engine's own name outside its folder: public names of an answer. (`validate --against` calls a library.)
OPTIONS_NAMED = {
    "domain/storage/schemes.py": {"q_group_size"},  # a key of a quantization_config
    "domain/pool.py": {"max_model_len"},
    "loading/gguf_file.py": {"context_length"},  # a key of GGUF
    "loading/servers/forms/kserve.py": {"max_length"},  # an option of KServe's own
    "questions/replay.py": {"max_model_len"},
    "report/answers/sweep.py": {"max_tokens"},  # of a model
    "loading/foreign.py": {"max_seq_len"},  # a key of a TensorRT-LLM config
    "loading/yaml_spec/read.py": {"max_tokens"},  # of a model
    "loading/yaml_spec/write.py": {"max_tokens"},
    "report/answers/models.py": {"max_tokens"},
    "questions/audit/fieldlog.py": {"num_gpu_blocks"},
    "questions/explain/explanation.py": {"layer_map"},
    "questions/fit/question.py": {"max_model_len"},
    "questions/receipt.py": {"max_model_len"},
    "report/answers/reserve.py": {"max_model_len"},
}  # fmt: skip
#: Packages in which a text may be an engine's option (elsewhere it is a key of a config or of a GGUF file).
ASKING = ("api", "cli", "questions", "report", "domain", "loading", "engines")


class Written(NamedTuple):
    """What a module says: its texts, and whether it looks at the origin of anything but a fact."""

    texts: frozenset[str]
    reads_origin: bool


@cache
def written() -> dict[Path, Written]:
    """Every module of kvplan, by its path in there."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        texts = frozenset(n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str))
        origins = (n for n in nodes if isinstance(n, ast.Attribute) and n.attr == "origin")
        found[path.relative_to(ROOT)] = Written(texts, any(ast.unparse(n.value) not in {"f", "fact"} for n in origins))
    return found


def outside() -> Iterator[tuple[str, frozenset[str]]]:
    """The texts of every module that belongs to no single engine, with its path."""
    for path, module in written().items():
        if path.parts[0] != "engines" or len(path.parts) == 2 or path.parts[1] == "kernel":
            yield path.as_posix(), module.texts


def test_no_engine_is_named_outside_its_folder() -> None:
    found = {path: names for path, texts in outside() if (names := texts & set(ABOUTS))}
    assert found == NAMED


#: What builds and runs the libraries themselves, with the words of their configs.
RUNS_LIBRARIES = ("questions/validate/", "questions/measure/")


def test_no_option_of_an_engine_is_named_outside_its_folder() -> None:
    """Names of one plain word are anybody's (`cache`, `dtype`), and so are kvplan's own words."""
    options = {option for name in PREDICTED for option in engine_class(name).Options.__struct_fields__ if "_" in option}
    options -= set(get_args(Role)) | set(Workload.__struct_fields__)
    assert len(options) > 30
    asking = [(path, texts) for path, texts in outside() if path.startswith(ASKING) and not path.startswith(RUNS_LIBRARIES)]
    found = {path: names for path, texts in asking if (names := texts & options)}
    assert found == OPTIONS_NAMED


#: Who looks at a model's raw config: the model itself, the front ends that count, describe and preprocess it, the lengths that a
#: config says, an engine's `models.py`, llama.cpp's converter, whether the checkpoint is quantised, copies whose format a hub id
#: says, what compares two configs, the report of a config's own keys, and the libraries that are built from a config.
READERS = {
    "architectures/media/__init__.py",
    "architectures/describe.py",
    "architectures/weights.py",
    "domain/lengths.py",
    "domain/model.py",
    "domain/variants.py",
    "engines/*/models.py",
    "engines/llama_cpp/convert/__init__.py",
    "loading/copies.py",
    "loading/installs.py",
    "questions/diff.py",
    "questions/validate/against.py",
    "questions/validate/against_*.py",
    "questions/validate/exllamav3_library.py",
    "report/answers/models.py",
}


def test_a_raw_config_is_read_in_few_places() -> None:
    """`.origin` of a model; a fact of its provenance has one too."""
    readers = {path for path, module in written().items() if module.reads_origin}
    strangers = {path.as_posix() for path in readers if not any(path.match(pattern) for pattern in READERS)}
    assert strangers == set()
    assert all(any(path.match(pattern) for path in readers) for pattern in READERS)
