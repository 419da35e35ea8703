"""A door in front of the emulator that loses answers: the request arrives and is committed, the reply never does."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

Judge = Callable[[str, str, bytes], bool]


@contextmanager
def lossy(
    origin: str,
    loses: Judge,
    *,
    pause_s: float = 0,
    takes: Callable[[str, str], int | None] = lambda method, path: None,
) -> Iterator[str]:
    """An origin that forwards everything, and cuts the connection instead of answering where `loses` says so.

    `loses` is asked once for each request, with method, path and body, after the far side has answered. A body of more
    than a megabyte is read with a pause in the middle. Where `takes` says how many bytes, no more of a body is read and
    nothing is forwarded.
    """
    client = httpx.Client(base_url=origin, trust_env=False, timeout=60)

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            taken = takes(self.command, self.path)
            if taken is not None:
                self.rfile.read(min(size, taken))
                self.close_connection = True
                return
            body = self.rfile.read(size // 2)
            time.sleep(pause_s if size > 10**6 else 0)
            body += self.rfile.read(size - len(body))
            headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "connection")}
            reply = client.request(self.command, self.path, content=body, headers=headers)
            if loses(self.command, self.path, body):
                self.close_connection = True
                return
            self.send_response_only(reply.status_code)
            for name, value in reply.headers.items():
                if name not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        do_GET = do_POST = do_PUT = do_DELETE = forward

        def log_message(self, *args: object) -> None:
            """Silent: a test speaks for itself."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        client.close()
