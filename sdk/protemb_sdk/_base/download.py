"""One file over HTTP: complete and checked, or one clear error."""

from __future__ import annotations

import base64
import hashlib
import io
import logging
import re
import time
from typing import TYPE_CHECKING, Any, NoReturn
from urllib.parse import urljoin, urlsplit

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.version import __version__

if TYPE_CHECKING:
    import socket
    from http.client import HTTPMessage, HTTPResponse
    from typing import IO
    from urllib.request import OpenerDirector, Request

logger = logging.getLogger("protemb")

# The largest entries of the PDB take about 100 MB.
MOST_BYTES = 2**29
ATTEMPTS = 3
# Seconds before the second attempt; twice as many before each further one.
BACKOFF = 0.5
REDIRECTIONS = 5
# A request with all its attempts may take so many times the timeout, which is for each wait.
PATIENCE = 10

_BASE = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_PART = 2**16


class _Transient(Exception):
    """A failure that may be over at the next attempt."""


class _Clock:
    """The time of one request, with all its attempts."""

    def __init__(self, timeout: float) -> None:
        self.timeout, self.limit = timeout, PATIENCE * timeout
        self._end = time.monotonic() + self.limit

    @property
    def left(self) -> float:
        return self._end - time.monotonic()

    def wait(self) -> float:
        """Return the seconds that the next wait may take, or raise TimeoutError if none are left."""
        left = self.left
        if left <= 0:
            raise TimeoutError
        return min(self.timeout, left)


class _Timed(io.RawIOBase):
    """What a connection sends, the headers included; each wait for it ends when the clock says so."""

    def __init__(self, connection: socket.socket, sent: io.RawIOBase, clock: _Clock) -> None:
        self._connection, self._sent, self._clock = connection, sent, clock

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        self._connection.settimeout(self._clock.wait())
        return self._sent.readinto(buffer)

    def close(self) -> None:
        self._sent.close()
        super().close()


def check_base(address: str, variable: str) -> str:
    """Return the base address of a server without a slash at its end.

    Raises
    ------
    StructureError
        If it is no address of http or https.
    """
    if not _BASE.fullmatch(address) or not urlsplit(address).hostname:
        raise StructureError(
            f"is {address!r}; set it to an address that begins with https:// or http://", variable
        )
    return address.rstrip("/")


def download(url: str, where: str, *, timeout: float, most: int = MOST_BYTES) -> bytes:
    """Return the content of a file on a server.

    Failures that may pass are tried again, after a pause: no answer in time, a connection that breaks, an
    incomplete or damaged body, and the answers 408, 429 and 500 to 599. Each further attempt is logged as a
    warning, and so is a transfer that takes longer than `timeout`.

    Parameters
    ----------
    url : str
        Address, http or https. Redirections are followed to http and https, and from https only to https.
    where : str
        What is fetched, for messages.
    timeout : float
        Seconds to wait for a connection, and for each part of the answer. All attempts together may take
        `PATIENCE` times as long.
    most : int
        Bytes that are accepted.

    Raises
    ------
    StructureError
        If it cannot be downloaded. `retryable` is False where the server refuses the request itself.
    """
    clock = _Clock(timeout)
    opener = _opener(where, clock)
    pause = BACKOFF
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(opener, url, where, clock, most)
        except _Transient as error:
            if attempt == ATTEMPTS or clock.left < pause:
                count = f"{attempt} attempts" if attempt > 1 else "one attempt"
                raise StructureError(
                    f"{url} {error}, in {count}; try again later", where, retryable=True
                ) from error
            logger.warning("%s: %s %s, trying again (%d of %d)", where, url, error, attempt + 1, ATTEMPTS)
        time.sleep(pause)
        pause *= 2
    raise AssertionError  # the last attempt returns or raises


def _attempt(opener: OpenerDirector, url: str, where: str, clock: _Clock, most: int) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    headers = {"User-Agent": f"protemb-sdk/{__version__}", "Accept-Encoding": "identity"}
    try:
        with opener.open(Request(url, headers=headers), timeout=clock.timeout) as answer:
            return _body(answer, url, where, clock, most)
    except HTTPError as error:
        with error:
            _refused(error.code, url, where)
    except URLError as error:
        reason = error.reason
        _broken(reason if isinstance(reason, OSError) else OSError(reason), url, where, clock)
    except OSError as error:
        _broken(error, url, where, clock)
    except HTTPException as error:
        raise _Transient(f"sent a damaged answer ({type(error).__name__})") from error


def _body(answer: HTTPResponse, url: str, where: str, clock: _Clock, most: int) -> bytes:
    """Read an answer to its end, and check that it is complete."""
    length, told = answer.length, clock.left
    if length is None and not answer.chunked:
        raise StructureError(
            f"{url} states no length (Content-Length), so a truncated file could not be told from a complete "
            "one; use another server",
            where,
        )
    parts, size = [], 0
    while (length is None or size < length) and (part := answer.read1(_PART)):
        parts.append(part)
        size += len(part)
        if size > most:
            break
        if told - clock.left > clock.timeout:
            told = clock.left
            all_of_it = "" if length is None else f" of {length}"
            logger.warning("%s: received %d%s bytes, %d seconds left", where, size, all_of_it, told)
    if max(size, length or 0) > most:
        raise StructureError(f"{url} is larger than {most} bytes, the limit of a download", where)
    if length is not None and size < length:
        raise _Transient(f"sent {size} of {length} bytes")
    data = b"".join(parts)
    stated = _stated_md5(answer.headers)
    if stated is not None and hashlib.md5(data, usedforsecurity=False).digest() != stated:
        raise _Transient("sent a file that does not agree with the MD5 checksum of the server")
    return data


def _stated_md5(headers: HTTPMessage) -> bytes | None:
    """Return the MD5 that a server states; an ETag is none, as servers are free in what it is."""
    text = headers["Content-MD5"]
    if text is None and headers.get("x-goog-stored-content-encoding", "identity") == "identity":
        found = re.search(r"\bmd5=([\w+/]+=*)", ",".join(headers.get_all("x-goog-hash", [])))
        text = found[1] if found else None
    try:
        digest = base64.b64decode(text or "", validate=True)
    except ValueError:
        return None
    return digest if len(digest) == 16 else None


def _refused(code: int, url: str, where: str) -> NoReturn:
    """Raise the error of an answer that is no success."""
    if code in (404, 410):
        raise StructureError(f"there is no such entry ({url} answers {code}); check the identifier", where)
    if code in (408, 429) or code >= 500:
        raise _Transient(f"answers {code}")
    if 300 <= code < 400:
        raise StructureError(
            f"{url} is redirected in a circle or more than {REDIRECTIONS} times; check the server's address",
            where,
        )
    raise StructureError(
        f"{url} answers {code}, which refuses the request; check the address of the server", where
    )


def _broken(error: OSError, url: str, where: str, clock: _Clock) -> NoReturn:
    """Raise the error of a connection that failed."""
    if isinstance(error, TimeoutError):
        if clock.left <= 0:
            raise StructureError(
                f"{url} was not finished within {clock.limit:g} seconds; try again later, or with a timeout "
                f"above {clock.timeout:g}",
                where,
                retryable=True,
            ) from error
        raise _Transient(f"did not answer within {clock.timeout:g} seconds") from error
    if isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
        raise _Transient("closed the connection") from error
    raise StructureError(
        f"{urlsplit(url).netloc} cannot be reached ({error.strerror or error}); check the network connection "
        "and the address",
        where,
        retryable=True,
    ) from error


def _opener(where: str, clock: _Clock) -> OpenerDirector:
    """Return an opener for http and https alone, by the proxy of the environment if there is one."""
    from http.client import HTTPResponse
    from urllib import request

    def answer(connection: socket.socket, *arguments: Any, **options: Any) -> HTTPResponse:
        found = HTTPResponse(connection, *arguments, **options)
        found.fp = io.BufferedReader(_Timed(connection, found.fp.detach(), clock))
        return found

    class Timed(request.AbstractHTTPHandler):
        def do_open(self, http_class: Any, req: Request, **options: Any) -> HTTPResponse:
            def connection(host: str, **more: Any) -> Any:
                found = http_class(host, **more | {"timeout": clock.wait()})
                found.response_class = answer
                return found

            return super().do_open(connection, req, **options)

    class Http(Timed, request.HTTPHandler):
        pass

    class Https(Timed, request.HTTPSHandler):
        pass

    class Redirections(request.HTTPRedirectHandler):
        max_redirections = REDIRECTIONS

        def http_error_302(
            self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage
        ) -> HTTPResponse | None:
            target = urljoin(req.full_url, headers.get("location") or "")
            allowed = ("https",) if req.type == "https" else ("http", "https")
            if urlsplit(target).scheme not in allowed:
                fp.close()
                raise StructureError(
                    f"{req.full_url} is redirected to {target}, which is refused, as it is not "
                    f"{' or '.join(allowed)}; check the address of the server",
                    where,
                )
            return super().http_error_302(req, fp, code, msg, headers)

        http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    opener = request.OpenerDirector()
    for handler in (
        request.ProxyHandler(),
        Http(),
        Https(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        Redirections(),
    ):
        opener.add_handler(handler)
    return opener
