"""The embedded Janus, the media server of live classes: where Debian's package is installed, and never exposed.

Its configuration is ours alone: Debian's loads every plugin and has a known admin secret. Here are the plugin
VideoRoom, its WebSocket on a Unix socket in a private folder, and no admin interface. What is open to the network are
the UDP ports of the media themselves.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

from config.embedded.binaries import find_janus
from config.embedded.child import Child
from config.embedded.errors import StackError
from config.embedded.identity import Identity
from config.embedded.server import Server

_PORTS = "20000-29999"  # UDP, two a connection at most; above them are the ports of outgoing connections
_HELLO = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Protocol: janus-protocol\r\n\r\n"
)


class Janus(Server):
    def __init__(self, data_dir: Path, sockets: Path, identity: Identity) -> None:
        # Without an account of its own: it writes nothing, and must reach a socket in our folder.
        inside = identity if identity.account is None else Identity()
        self.child = Child("janus", data_dir, (signal.SIGTERM,), inside)
        self._config = data_dir / "janus"
        self._socket = sockets / "janus.sock"

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    def starting(self) -> Iterator[None]:
        program, library = find_janus()
        self._socket.unlink(missing_ok=True)
        self._write(library)
        self.child.launch([program, "-F", self._config, "--disable-colors"])
        while not self._answers():
            yield
            if self.child.exit_code is not None:
                raise self.child.failure()

    def _write(self, library: Path) -> None:
        self._config.mkdir(mode=0o700, exist_ok=True)
        unwanted = {
            kind: ",".join(sorted(each.name for each in (library / kind).glob("*.so") if wanted not in each.name))
            for kind, wanted in (("plugins", "videoroom"), ("transports", "websockets"), ("events", " none "))
        }
        if not (library / "plugins" / "libjanus_videoroom.so").exists():
            raise StackError(f"Janus has no plugin VideoRoom in {library}.")
        files = {
            "janus.jcfg": f"""
general: {{
  configs_folder = "{self._config}"
  plugins_folder = "{library / "plugins"}"
  transports_folder = "{library / "transports"}"
  events_folder = "{library / "events"}"
  loggers_folder = "{library / "loggers"}"
  debug_level = 3
  admin_secret = ""
  server_name = "chalkwire"
  session_timeout = 60
  hide_dependencies = true
}}
media: {{ rtp_port_range = "{_PORTS}" }}
nat: {{ ice_ignore_list = "vmnet" }}
plugins: {{ disable = "{unwanted["plugins"]}" }}
transports: {{ disable = "{unwanted["transports"]}" }}
events: {{ broadcast = false, disable = "{unwanted["events"]}" }}
loggers: {{ disable = "libjanus_jsonlog.so" }}
""",
            "janus.plugin.videoroom.jcfg": "general: { string_ids = true }\n",
            "janus.transport.websockets.jcfg": f"""
general: {{ json = "compact", ws = true, ws_unix = "{self._socket}", wss = false }}
admin: {{ admin_ws = false, admin_wss = false }}
""",
        }
        for name, text in files.items():
            path = self._config / name
            path.touch(mode=0o600)
            path.write_text(text)

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(str(self._socket))
                probe.sendall(_HELLO)
                return probe.recv(64).startswith(b"HTTP/1.1 101")
            except OSError:
                return False
