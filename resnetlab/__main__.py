"""`python -m resnetlab`, which torchrun starts several times, is the command `resnetlab`."""

import os
import sys

from resnetlab.cli import main

if __name__ == "__main__":
    try:
        main()
    except SystemExit as leaving:
        if os.environ.get("WORLD_SIZE", "") in ("", "1"):
            raise
        # Threads of the process group can outlive it, and on a busy machine abort the interpreter while
        # it is torn down: seen as "terminate called without an active exception" after a finished run.
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(int(leaving.code or 0))
