"""What people put before a server: sudo, env, numactl, uv run, sh -c, docker run. What is left is the process itself."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from kvplan.engines.kernel.commandline.commands import program_name
from kvplan.engines.kernel.commandline.words import Call, Word
from kvplan.loading.servers.shell_words import TooMuch

#: Program -> its options that take a word. What begins with a dash and is not among them takes none.
_OPTIONS: Final[Mapping[str, frozenset[str]]] = {
    name: frozenset(options.split())
    for name, options in {
        "sudo": "-u -g -p -C -h -r -t -U -D --user --group --chdir",
        "doas": "-u -C",
        "nohup": "",
        "exec": "-a",
        "command": "",
        "time": "-o -f",
        "setsid": "",
        "nice": "-n --adjustment",
        "ionice": "-c -n -p -t",
        "chrt": "-T -P -D",
        "stdbuf": "-i -o -e",
        "unbuffer": "",
        "numactl": "-i -N -m -C -p -P -l -s -L -o --cpunodebind --membind --physcpubind --interleave --preferred",
        "catchsegv": "",
        "tini": "-p -e",
        "dumb-init": "--rewrite",
        "systemd-run": "-p --property -u --unit -E --setenv --slice --uid --gid",
        "systemd-inhibit": "--what --who --why --mode",
        "caffeinate": "-t -w",
        "uvx": "--from --with --python -p --index-url --extra-index-url --index --env-file --refresh-package",
        "trtllm-llmapi-launch": "",
        "mpirun": "-n -np -c -N -H -x --host --hostfile --map-by --bind-to --mca -mca --npernode --output-filename",
        "mpiexec": "-n -np -c -N -H -x --host --hostfile --map-by --bind-to --mca -mca",
        "srun": "-N -n -c -p -t -J -w -G -A -q -o -e -x -D --nodes --ntasks --gres --gpus --partition --time --job-name "
        "--container-image --container-mounts --container-name --mpi --nodelist --cpus-per-task --ntasks-per-node --account",
        "firejail": "",
        "gdb": "-ex -x",
        "strace": "-o -e -p -s",
        "nsys": "-o -t -s -w -f -c -x --output --trace --sample --force-overwrite --delay --duration --capture-range",
        "ncu": "-o -k -c --set --section",
        "mamba": "-n -p --name --prefix",
        "conda": "-n -p --name --prefix --cwd",
        "micromamba": "-n -p --name --prefix",
        "apptainer": "-B --bind -H --home --env --env-file --pwd -W --workdir --overlay",
        "singularity": "-B --bind -H --home --env --env-file --pwd -W --workdir --overlay",
        "uv": "--with --python -p --extra --group --project --directory --env-file --index-url --index",
        "poetry": "-C -P --directory --project",
        "pdm": "-p --project",
        "hatch": "-e --env",
        "pixi": "-e --environment --manifest-path",
        "pipenv": "",
        "rye": "",
        "screen": "-S -c -h -s -t -T -p",
        "tmux": "-s -n -t -c -F -e -x -y -L -f",
        "torchrun": "--nproc-per-node --nnodes --node-rank --master-addr --master-port --nproc_per_node --rdzv-endpoint",
    }.items()
}
#: Programs whose next word is a command of theirs: only with it they start something.
_SUBCOMMANDS: Final = {
    "uv": ("run",), "poetry": ("run",), "pdm": ("run",), "hatch": ("run",), "pixi": ("run",), "pipenv": ("run",), "rye": ("run",),
    "conda": ("run",), "mamba": ("run",), "micromamba": ("run",), "apptainer": ("exec", "run"), "singularity": ("exec", "run"),
    "nsys": ("profile", "launch"),
}  # fmt: skip
#: Words between the program and what it starts: a duration, a mask, an image.
_OPERANDS: Final = {"timeout": 1, "taskset": 1, "apptainer": 1, "singularity": 1, "flock": 1}
_VALUE_OPTIONS: Final = {
    "timeout": frozenset({"-s", "-k", "--signal", "--kill-after"}),
    "taskset": frozenset(),
    "flock": frozenset({"-w"}),
}
_SHELLS: Final = frozenset({"sh", "bash", "zsh", "dash", "ash", "ksh"})
CONTAINERS: Final = frozenset({"docker", "podman", "nerdctl", "nvidia-docker"})
_RESERVED: Final = frozenset({"then", "do", "else", "elif", "if", "while", "until", "{", "!", "&", "time", "$", ">", "%", "PS"})
_SET: Final = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=(.*)", re.DOTALL)
_DEPTH: Final = 8

#: What reads a text as a shell would: (text, call with the words before, depth) -> calls.
Inner = Callable[[str, Call, int], Iterator[Call]]


def without_wrappers(call: Call, inner: Inner, depth: int = 0) -> Iterator[Call]:
    """The processes behind a call's wrappers, with the environment that they set; of a container, what starts it.

    Raises:
        TooMuch: shells inside shells without end.
    """
    if depth > _DEPTH:
        raise TooMuch(f"commands inside commands, more than {_DEPTH} deep", hint="give the part that starts the server")
    words, environment = list(call.words), dict(call.environment)
    while words:
        first = words[0]
        name = program_name(first) if first.known else ""
        if first.text in _RESERVED and len(words) > 1:
            words = words[1:]
        elif name == "env":
            words = _env(words[1:], environment)
        elif found := _SET.fullmatch(first.text) if name not in _OPTIONS else None:
            environment[found[1]] = Word(found[2], first.line, first.known)
            words = words[1:]
        elif name in _SHELLS:
            text = _script(words)
            if text is not None:
                yield from inner(text.text, _with(call, (Word("", text.line),), environment), depth + 1)
            return
        elif name == "eval":
            yield from inner(
                " ".join(word.text for word in words[1:]), _with(call, (Word("", first.line),), environment), depth + 1
            )
            return
        elif name in CONTAINERS:
            yield _with(call, tuple(words), environment)
            return
        elif name in _OPTIONS or name in _VALUE_OPTIONS:
            rest = _behind(name, words)
            if rest is None:
                return
            words = rest
            if name in {"screen", "tmux"} and len(words) == 1 and " " in words[0].text:
                yield from inner(words[0].text, _with(call, (Word("", words[0].line),), environment), depth + 1)
                return
        else:
            break
    if words:
        yield _with(call, tuple(words), environment)


def _with(call: Call, words: tuple[Word, ...], environment: Mapping[str, Word]) -> Call:
    return Call(
        words=words, environment=dict(environment), image=call.image, gpus=call.gpus, pinned=call.pinned, files=call.files,
        place=call.place, line=call.line or (words[0].line if words else 0), alternative=call.alternative,
    )  # fmt: skip


def _env(words: Sequence[Word], environment: dict[str, Word]) -> list[Word]:
    """`env -i -u X A=b …`."""
    at = 0
    while at < len(words):
        text = words[at].text
        if text in {"-u", "--unset"} and at + 1 < len(words):
            environment.pop(words[at + 1].text, None)
            at += 2
        elif text in {"-i", "--ignore-environment", "-"}:
            environment.clear()
            at += 1
        elif found := _SET.fullmatch(text):
            environment[found[1]] = Word(found[2], words[at].line, words[at].known)
            at += 1
        elif text.startswith("-"):
            at += 1
        else:
            break
    return list(words[at:])


def _script(words: Sequence[Word]) -> Word | None:
    """What `sh -c`, `bash -lc -- TEXT` is given; None where it runs a file."""
    wants = False
    for word in words[1:]:
        if word.text == "--":
            continue
        if word.text.startswith(("-", "+")) and not (wants and " " in word.text):
            wants = wants or (word.text.startswith("-") and not word.text.startswith("--") and "c" in word.text)
            continue
        return word if wants and word.text else None
    return None


def _behind(name: str, words: Sequence[Word]) -> list[Word] | None:
    """The words behind a wrapper and its options; None where it starts nothing."""
    with_word = _OPTIONS.get(name, _VALUE_OPTIONS.get(name, frozenset()))
    left = _OPERANDS.get(name, 0)
    wanted: tuple[str, ...] = _SUBCOMMANDS.get(name, ())
    at = 1
    while at < len(words):
        text = words[at].text
        if text == "--":
            at += 1
            if not wanted and not left:
                break
        elif text.startswith("-") and len(text) > 1:
            if name == "taskset" and text in {"-c", "--cpu-list"}:
                at += 1
                continue
            at += 1 + (text in with_word)
        elif wanted:
            if text not in wanted:
                return None
            wanted = ()
            at += 1
        elif name == "tmux" and text in {"new-session", "new", "new-window", "neww", "send-keys", "send", "split-window"}:
            at += 1
        elif left:
            left -= 1
            at += 1
        else:
            break
    return list(words[at:]) or None
