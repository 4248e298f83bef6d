"""An S3 server for tests: `rclone serve s3` over a folder. It verifies signatures and knows multipart uploads.

What it does not do as S3 does: it answers a range with status 200 (and the right bytes).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class S3:
    """`url` for the settings, `environment` for the process that uses it, `folder` where the objects are files."""

    url: str
    environment: dict[str, str]
    folder: Path


@contextmanager
def s3_server(root: Path) -> Iterator[S3]:
    """A running server with one bucket."""
    bucket = root / "bucket"
    bucket.mkdir(parents=True)
    port, key, secret = _free_port(), secrets.token_hex(8), secrets.token_hex(16)
    rclone = Path(sys.executable).with_name("rclone")
    process = subprocess.Popen(
        [rclone, "serve", "s3", "--addr", f"127.0.0.1:{port}", "--auth-key", f"{key},{secret}", root],
        env={"HOME": str(root), "PATH": os.environ.get("PATH", ""), "RCLONE_CONFIG": ""},
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            assert process.poll() is None, "rclone ended"
            assert time.monotonic() < deadline, "rclone does not listen"
            time.sleep(0.02)
        environment = {
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_ENDPOINT": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        }
        yield S3("s3://bucket/files", environment, bucket / "files")
    finally:
        process.kill()
        process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
