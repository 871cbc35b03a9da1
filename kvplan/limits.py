"""What kvplan takes at most: of files, of text, of time. docs/reference/limits.md says them to users."""

from contextvars import ContextVar
from time import monotonic
from typing import Final

MIB: Final = 2**20

#: A message's characters; a hint's.
MESSAGE: Final = 600
HINT: Final = 1200

CONFIG_BYTES: Final = 32 * MIB
DESCRIPTION_BYTES: Final = MIB  # a YAML description or plan
DIGITS: Final = 18  # of a number, wherever one is meant
#: A size that is typed or written, and a cell of a sweep, whose formulas keep three bits of room below 64.
SIZE_BYTES: Final = 2**60

LAYERS: Final = 10_000
MEMORIES: Final = 100_000  # memories x layers of a model
HEADS: Final = 2**20

PLAN_MEMBERS: Final = 64
PLAN_FILES: Final = 64
PLAN_DEPTH: Final = 8  # files inside files
ADVICE_SECONDS: Final = 2.0

WORKLOADS: Final = 1_000  # lengths x batch sizes of an estimate or a comparison; `sweep` has no such bound
CELLS: Final = 3_000  # of a table of capacities; each takes a hundredth of a second
PAGE_CELLS: Final = 20_000  # settings of one page; each takes a few thousandths, and its cells of GPUs are bounded by CELLS

SERVERS_BYTES: Final = 4 * MIB  # of a file that starts servers
SERVERS: Final = 2_000  # of one such file

LIVE_BYTES: Final = 16 * MIB  # of one answer of a running server
LIVE_SECONDS: Final = 15.0  # for all of them
INSTALL_BYTES: Final = MIB  # a manifest of a local install, or a blob beside the model
INSTALL_LAYERS: Final = 256

GGUF_HEADER_BYTES: Final = 128 * MIB  # of all parts together
GGUF_KEYS: Final = 65_536
GGUF_TENSORS: Final = 1_000_000
GGUF_NUMBERS: Final = 65_536  # kept of arrays, of a file
GGUF_PARTS: Final = 100

SAFETENSORS_HEADER_BYTES: Final = 32 * MIB
SAFETENSORS_INDEX_BYTES: Final = 64 * MIB
SHARDS: Final = 10_000
FILE_NAME_BYTES: Final = 255
#: What a checkpoint weighs at most: a number of 18 digits, which a description can hold (below 2**60).
WEIGHTS_BYTES: Final = 10**DIGITS - 1

AUDIT_LINE_BYTES: Final = 4 * MIB
AUDIT_FILE_BYTES: Final = 2**30
AUDIT_CASES: Final = 10_000  # of one file that are listed one by one
AUDIT_RANGES: Final = 10_000  # of layers, in one record
AUDIT_STARTS: Final = 100  # of servers, in one log

REPLAY_STEPS: Final = 100_000  # of a recorded scenario
REPLAY_PROMPT_BLOCKS: Final = 1_000_000  # of all prompts of one, in units of the prefix cache
REPLAY_POOL_BLOCKS: Final = 2_000_000
#: Requests looked at in steps, and blocks looked up for those that wait: some ten seconds.
REPLAY_WORK: Final = 4_000_000

TRACE_LINE_BYTES: Final = 4 * MIB
TRACE_FILE_BYTES: Final = 8 * 2**30
TRACE_REQUESTS: Final = 20_000_000
TRACE_HASHES: Final = 100_000_000
TRACE_TOKENS: Final = 2**31 - 1  # of a prompt, of an output
TRACE_MEDIA: Final = 100_000  # different images, videos and clips of a trace, together as requests have them
TRACE_BLOCKS: Final = 2**26  # of a server's cache: how long each number of them was in use is counted
TRACE_LEAP: Final = 2**20  # steps that are counted at once
TRACE_SECONDS: Final = 10**8  # three years, from the first arrival to the last
REPLICAS: Final = 4096
#: Tokens of output and blocks of prompts of one server, replayed with host memory below it: ten minutes and more.
OFFLOADED_WORK: Final = 20_000_000

#: A class that is measured: how long its runs may take, what its process may, and what it may answer.
MEASURE_SECONDS: Final = 60.0
MEASURE_MOST_SECONDS: Final = 3600
MEASURE_MEMORY_BYTES: Final = 8 * 2**30
MEASURE_BYTES: Final = 64 * MIB
MEASURE_CODE_BYTES: Final = 4 * MIB

HUB_SECONDS: Final = 30.0  # a question
HUB_REDIRECTS: Final = 5

RANKS: Final = 4096
RANK_SECONDS: Final = 60.0  # for a rank that does not come
RANK_WORD_SECONDS: Final = 5.0  # before it is said what is waited for

#: Address space below which a library ends the process, or leaves Python broken, in place of an exception.
PYARROW_SPACE_BYTES: Final = 384 * MIB
TORCH_SPACE_BYTES: Final = 1024 * MIB

#: When the question that is being asked has waited long enough for the hub; None: each fetch has a clock of its own.
question_deadline: ContextVar[float | None] = ContextVar("question_deadline", default=None)


def start_question() -> None:
    """Start the one clock of a question; the command line does so once."""
    question_deadline.set(monotonic() + HUB_SECONDS)


def need_space(library: str, least_bytes: int) -> None:
    """To be called before a library is loaded that does not end well without its address space (`ulimit -v`).

    Raises:
        MemoryError: this process may not have so much.
    """
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    most = resource.getrlimit(resource.RLIMIT_AS)[0]
    if most != resource.RLIM_INFINITY and most < least_bytes:
        raise MemoryError(f"{library} needs {least_bytes} bytes of address space")
