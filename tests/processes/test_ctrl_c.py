"""What a person sees after Ctrl-C: one traceback, the caller's."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import sys, time
from millpond import Pool

def nap(x):
    sys.stdout.write(f"{x}\\n")  # one write: the workers share the pipe
    sys.stdout.flush()
    time.sleep(600)

if __name__ == "__main__":
    with Pool(2, start_method=sys.argv[1]) as pool:
        pool.map(nap, [1, 2, 3], chunksize=1)
"""


def test_ctrl_c_prints_the_caller_s_traceback_and_no_other(method: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(program), method],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert sorted([process.stdout.readline(), process.stdout.readline()]) == ["1\n", "2\n"]
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
    assert out == ""
    assert process.returncode == -signal.SIGINT
    lines = err.splitlines()
    assert lines[:3] == [
        "Traceback (most recent call last):",
        f'  File "{program}", line 12, in <module>',
        "    pool.map(nap, [1, 2, 3], chunksize=1)",
    ]
    ours = re.compile(r'  File ".*/millpond/.*", line \d+, in \w+|    .*')
    assert [line for line in lines[3:] if not ours.fullmatch(line)] == ["KeyboardInterrupt"]
