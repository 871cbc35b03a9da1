"""One rank that answers several command lines of `kvplan validate`, one after the other: to load torch is the dear part.

`rank_of_many.py CASES FOLDER PORT…`: CASES is a JSON list of command lines. All but the last are captured, and what each ended
with and said is left in FOLDER as `rank-N.json`; the last is the process's own: its words, and its exit code. The first meets
the other ranks at torchrun's port, the others each at one of the PORTs.
"""

import io
import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from kvplan.cli.app import main


def answered(arguments: list[str]) -> tuple[int, str, str]:
    """What the command line ended with, printed, and said."""
    out, said = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(said):
        code = main(arguments)
    return code, out.getvalue(), said.getvalue()


if __name__ == "__main__":
    cases, folder, *ports = sys.argv[1:]
    *captured, last = json.loads(cases)
    told = [answered(captured[0])]  # these ranks meet as torchrun says
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "False"  # which serves one meeting
    for arguments, port in zip((*captured[1:], last), ports, strict=True):
        os.environ["MASTER_PORT"] = port
        if arguments is not last:
            told.append(answered(arguments))
    Path(folder, f"rank-{os.environ['RANK']}.json").write_text(json.dumps(told), encoding="utf-8")
    sys.exit(main(last))
