"""An S3 server for tests: `rclone serve s3` over a folder. It verifies signatures and knows multipart uploads.

It answers a range with the right bytes and headers, but with status 200, which clients of S3 refuse: `_Corrected` in
front of it says 206 and passes everything else on as it is.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    front = ThreadingHTTPServer(("127.0.0.1", 0), type("Front", (_Corrected,), {"behind": port}))
    threading.Thread(target=front.serve_forever, daemon=True).start()
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
            "AWS_ENDPOINT": f"http://127.0.0.1:{front.server_port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_REGION": "us-east-1",
        }
        yield S3("s3://bucket/files", environment, bucket / "files")
    finally:
        front.shutdown()
        front.server_close()
        process.kill()
        process.wait()


class _Corrected(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind: int  # the port of rclone

    def pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.behind)) as server:
            server.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():  # `Host` too: it is signed
                server.putheader(name, value)
            server.endheaders(body)
            answer = server.getresponse()
            content = answer.read()
        self.send_response_only(206 if "Content-Range" in answer.headers else answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in {"connection", "transfer-encoding", "content-length"}:
                self.send_header(name, value)
        size = answer.headers["Content-Length"] if self.command == "HEAD" else str(len(content))
        if size is not None and answer.status != 204:
            self.send_header("Content-Length", size)
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = pass_on

    def log_message(self, format: str, *args: object) -> None:
        pass


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
