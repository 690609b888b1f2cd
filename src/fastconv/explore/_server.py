"""The server of the page: `http.server` of the standard library, and what it refuses.

It answers only who knows the token in the address, asks for it under the server's own name, and is
no page of another site. A path in a request names a file of the package or a question, never a
file of the disk. What is refused is answered in JSON, ``{"error": "..."}``.
"""

from __future__ import annotations

import contextlib
import hmac
import ipaddress
import json
import secrets
import socket
import threading
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from fastconv.explore._application import Application
from fastconv.explore._page import CONTENT_TYPES, page_files
from fastconv.explore._protocol import MOST_BYTES, Refusal

__all__ = ["Server", "is_loopback"]

MOST_CONNECTIONS = 64
CLOSING_SECONDS = 1
"""How long a connection waits for another to be closed in its favour."""
IDLE_SECONDS = 60
"""How long a connection may be silent before it is closed."""
MESSAGE_TYPE = "application/octet-stream"
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data: blob:; media-src blob: mediastream:; base-uri 'none'; "
        "form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",  # The address holds the token.
    "X-Content-Type-Options": "nosniff",
}
FAULTS_OF_CLIENTS = {501: HTTPStatus.METHOD_NOT_ALLOWED, 505: HTTPStatus.BAD_REQUEST}
"""What the standard library calls faults of the server, though the request is what is wrong."""


class Server(ThreadingHTTPServer):
    """Serves one application until it is told to stop.

    Parameters
    ----------
    application : Application
        What answers.
    host : str, default "127.0.0.1"
        The address to bind to. Other computers reach it unless it is a loopback address.
    port : int, default 0
        The port, by default one that is free.

    Raises
    ------
    OSError
        If the address cannot be bound to.
    """

    daemon_threads = True
    request_queue_size = 64  # Browsers open several connections at once; the usual 5 drops some.
    block_on_close = False

    def __init__(self, application: Application, host: str = "127.0.0.1", port: int = 0) -> None:
        self.application = application
        self.token = secrets.token_urlsafe(16)
        self.host = host
        self._is_wildcard = host in ("", "0.0.0.0", "::")
        self._connections = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self._waiting: dict[socket.socket, None] = {}
        self._waiting_lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), Handler)

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """The address of the page on this computer, with the token."""
        return self.url_at("localhost" if self._is_wildcard else self.host)

    def url_at(self, host: str) -> str:
        """Return the address of the page under a name or an address of this computer."""
        name = f"[{host}]" if ":" in host else host
        return f"http://{name}:{self.port}/{self.token}/"

    def knows(self, authority: str) -> bool:
        """Tell whether a request for ``name:port`` means this server.

        A page of another site can reach it under a name of its own, which it lets point here. Such
        a name is refused; the addresses themselves are not, as nobody can let them point elsewhere.
        """
        try:
            parts = urlsplit(f"//{authority}")
            name, port = parts.hostname or "", parts.port
        except ValueError:
            return False
        if (port or 80) != self.port or parts.path or parts.username is not None:
            return False
        if name in ("localhost", self.host.lower()):
            return True
        own = socket.gethostname().lower()
        if not is_loopback(self.host) and name in (own, f"{own}.local"):
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not is_loopback(self.host)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, unless there are too many."""
        if not self._connections.acquire(blocking=False):
            # Browsers keep up to six connections open. Those of a class would leave none.
            self._close_longest_waiting()
            if not self._connections.acquire(timeout=CLOSING_SECONDS):
                self.shutdown_request(request)
                return
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._connections.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer all requests of a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._connections.release()

    def note_waiting(self, connection: socket.socket, is_waiting: bool) -> None:
        """Note that a connection has begun to wait for a request, or has one."""
        with self._waiting_lock:
            self._waiting.pop(connection, None)
            if is_waiting:
                self._waiting[connection] = None

    def _close_longest_waiting(self) -> None:
        """Close the connection that has been waiting for a request longest, if there is one."""
        with self._waiting_lock, contextlib.suppress(OSError):
            connection = next(iter(self._waiting), None)
            if connection is not None:
                del self._waiting[connection]
                connection.shutdown(socket.SHUT_RDWR)  # Its thread reads the end, and leaves.

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore connections that break: browsers drop them whenever a page is closed."""


def is_loopback(host: str) -> bool:
    """Tell whether only this computer reaches an address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Handler(BaseHTTPRequestHandler):
    """Answers the requests of one connection."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fastconv", ""
    timeout = IDLE_SECONDS
    # An answer is written at once and sent at once: a pause of 40 ms would be felt at every key.
    wbufsize = -1
    disable_nagle_algorithm = True

    def handle_one_request(self) -> None:
        """Wait for a request, and answer it."""
        self.server.note_waiting(self.connection, True)
        try:
            super().handle_one_request()
        finally:
            self.server.note_waiting(self.connection, False)

    def do_GET(self) -> None:
        """Give a file of the page."""
        self._respond(self._file)

    def do_POST(self) -> None:
        """Answer a question."""
        self._respond(self._answer)

    def _respond(self, what: Any) -> None:
        self.server.note_waiting(self.connection, False)
        try:
            kind, body = what(self._path())
            self._send(HTTPStatus.OK, kind, body)
        except Refusal as error:
            self._refuse(error.status, str(error))
        except OSError:  # The browser has left.
            self.close_connection = True
        except Exception as error:
            self._refuse(500, f"this is an error in fastconv: {type(error).__name__}: {error}")

    # ---- what is asked for -----------------------------------------------------------------

    def _path(self) -> str:
        """Check who asks, and return what stands behind the token."""
        hosts = self.headers.get_all("Host", [])
        if len(hosts) != 1 or not self.server.knows(hosts[0]):
            raise Refusal("the Host of the request is not this server's", 421)
        origin = self.headers.get("Origin")
        if origin is not None:
            scheme, _, authority = origin.partition("://")
            if scheme != "http" or not self.server.knows(authority):
                raise Refusal("requests of other sites are refused", 403)
        token, slash, path = self.path.removeprefix("/").partition("/")
        if not hmac.compare_digest(token.encode(), self.server.token.encode()) or not slash:
            raise Refusal("open the address that fastconv explore printed, with its token", 403)
        return path

    def _file(self, path: str) -> tuple[str, bytes]:
        if self._length():
            raise Refusal("a GET request has no body", 400)
        name = path or "index.html"
        text = page_files().get(name)
        if text is None:
            raise Refusal("there is no such file", 404)
        return CONTENT_TYPES[name.rpartition(".")[2]], text.encode()

    def _answer(self, path: str) -> tuple[str, bytes]:
        if path not in self.server.application.questions:
            raise Refusal("there is no such question", 404)
        if self.headers.get("Content-Type") != MESSAGE_TYPE:
            raise Refusal(f"the body must be of type {MESSAGE_TYPE}", 415)
        length = self._length()
        if length is None:
            raise Refusal("the request must have a Content-Length", 411)
        if length > MOST_BYTES:
            raise Refusal(f"a request has at most {MOST_BYTES:,} bytes, got {length:,}", 413)
        body = self.rfile.read(length)
        if len(body) < length:
            raise Refusal(f"the body ends after {len(body)} of {length} bytes", 400)
        return MESSAGE_TYPE, self.server.application.answer(path, body)

    def _length(self) -> int | None:
        """Read how long the body is; None if the request does not say."""
        if "Transfer-Encoding" in self.headers:
            raise Refusal("the body must have a Content-Length, and no Transfer-Encoding", 411)
        lengths = self.headers.get_all("Content-Length", [])
        if not lengths:
            return None
        if len(lengths) > 1 or not lengths[0].isascii() or not lengths[0].isdigit():
            raise Refusal("Content-Length must be one whole number", 400)
        if len(lengths[0]) > 12:
            raise Refusal(f"a request has at most {MOST_BYTES:,} bytes", 413)
        return int(lengths[0])

    # ---- answers ---------------------------------------------------------------------------

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if getattr(self, "command", None) != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def _refuse(self, status: int, message: str) -> None:
        # What is left of a body that nobody read would be taken for the next request.
        self.close_connection = True
        try:
            self._send(status, "application/json", json.dumps({"error": message}).encode())
        except OSError:
            return

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Answer what the standard library refuses as all else is refused."""
        status = FAULTS_OF_CLIENTS.get(code, HTTPStatus(code))
        if not hasattr(self, "headers"):
            self.headers = Message()
        # A first line that cannot be read has no version, without which no headers are sent.
        self.request_version = self.protocol_version
        self._refuse(status, message or HTTPStatus(status).phrase)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: the terminal shows the address and nothing else."""
