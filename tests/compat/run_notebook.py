"""Executes a notebook with the cells that come on stdin, and prints what its cells print."""

from __future__ import annotations

import json
import sys
from typing import Any

import nbclient
import nbformat


def main() -> None:
    v4: Any = nbformat.v4
    notebook = v4.new_notebook(cells=[v4.new_code_cell(text) for text in json.load(sys.stdin)])
    client: Any = nbclient.NotebookClient(notebook, timeout=50, kernel_name="python3")
    client.create_kernel_manager()
    client.km.transport = "ipc"  # over TCP the kernel warns
    client.execute()
    for cell in notebook.cells:
        for output in cell.outputs:
            print(output.get("text", output))


if __name__ == "__main__":
    main()
