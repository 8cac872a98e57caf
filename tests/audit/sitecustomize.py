"""Python imports this before anything else where this folder is on PYTHONPATH: notes every file that a stage opens.

What a stage opens to note its digest alone (stages/given.py) is no use of it, and left out.
With AUDIT_LOG naming a folder, each DVC stage leaves there `<stage>.jsonl`: "r" or "w" and the path, one per line.
"""

import json
import os
import sys

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT

if os.environ.get("AUDIT_LOG") and os.environ.get("DVC_STAGE"):
    log = os.open(f"{os.environ['AUDIT_LOG']}/{os.environ['DVC_STAGE']}.jsonl", os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def note(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            flags = arguments[2] if isinstance(arguments[2], int) else 0
            opened = "w" if flags & WRITING else "r"
            caller = sys._getframe().f_back  # None where no Python code called
            if caller and caller.f_code.co_filename.endswith("stages/given.py"):
                return
            os.write(log, json.dumps([opened, os.path.abspath(os.fsdecode(arguments[0]))]).encode() + b"\n")
        elif event == "os.rename":
            os.write(log, json.dumps(["w", os.path.abspath(os.fsdecode(str(arguments[1])))]).encode() + b"\n")

    sys.addaudithook(note)
