"""A process that holds an embedded stack: `python -m tests.config.holder DIR [--fork]` prints its pids and waits.

With `--fork`, a forked child lives as long as this process and a second more.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict
from pathlib import Path

from config.embedded import EmbeddedStack, StackError


def main() -> None:
    # As a supervisor that waits for its signals may have it; the servers must not inherit it.
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    stack = EmbeddedStack(Path(sys.argv[1]))
    try:
        stack.start()
    except StackError as error:
        sys.exit(f"refused: {error}")
    said: dict[str, object] = {"parent": os.getpid(), "pids": stack.pids, "urls": asdict(stack.urls)}
    if "--fork" in sys.argv:
        said["fork"] = child = os.fork()
        if child == 0:
            while os.getppid() == said["parent"]:
                time.sleep(0.1)
            time.sleep(1)
            os._exit(0)
    try:
        print(json.dumps(said), flush=True)
        signal.pause()
    finally:
        stack.stop()


if __name__ == "__main__":
    main()
