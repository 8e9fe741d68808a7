"""A server on this machine that stands for the PDB and AlphaFold DB, and its answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Answer = Callable[["Handler"], None]
ENTRY, AFDB = "/1a8o.cif.gz", "/files/AF-P69905-F1-model_v6.cif"


class Handler(BaseHTTPRequestHandler):
    """Answers by the table of its server, and keeps the paths that were asked for."""

    server: Server

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answers = self.server.answers.get(self.path, [sent(b"no such file", 404)])
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)

    def log_message(self, *arguments: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    """The answers of each path, in turn; the last one again and again."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[str] = []
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.over = threading.Event()

    def handle_error(self, *arguments: object) -> None:
        pass  # the client has gone


def sent(body: bytes, status: int = 200, length: int | None = None, **headers: str) -> Answer:
    """An answer; `length` is what it states, if not its length."""

    def answer(to: Handler) -> None:
        to.send_response(status)
        to.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            to.send_header(name.replace("_", "-"), value)
        to.end_headers()
        to.wfile.write(body)

    return answer


def chunked(*parts: bytes, whole: bool = True) -> Answer:
    """An answer in chunks; one that is not whole ends within a chunk."""

    def answer(to: Handler) -> None:
        to.protocol_version = "HTTP/1.1"
        to.send_response(200)
        to.send_header("Transfer-Encoding", "chunked")
        to.end_headers()
        for part in parts:
            to.wfile.write(b"%x\r\n%s\r\n" % (len(part), part))
        to.wfile.write(b"0\r\n\r\n" if whole else b"ff\r\n")
        to.close_connection = True

    return answer


def moved(location: str) -> Answer:
    return sent(b"", 302, Location=location)


def slow(to: Handler) -> None:
    to.server.over.wait(5)


def broken(to: Handler) -> None:
    """Close the connection without an answer."""
    to.connection.shutdown(socket.SHUT_RDWR)
    to.close_connection = True
