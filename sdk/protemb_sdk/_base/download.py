"""One file over HTTP: complete and checked, or one clear error."""

from __future__ import annotations

import base64
import hashlib
import re
import time
from typing import TYPE_CHECKING, NoReturn
from urllib.parse import urljoin, urlsplit

from protemb_sdk._base.errors import StructureError
from protemb_sdk._base.version import __version__

if TYPE_CHECKING:
    from http.client import HTTPMessage, HTTPResponse
    from typing import IO
    from urllib.request import OpenerDirector, Request

# The largest entries of the PDB take about 100 MB.
MOST_BYTES = 2**29
ATTEMPTS = 3
# Seconds before the second attempt; twice as many before each further one.
BACKOFF = 0.5
REDIRECTIONS = 5
# A whole transfer may take so many times the timeout, which is for each wait.
PATIENCE = 20

_BASE = re.compile(r"https?://[!-~]+", re.IGNORECASE)
_PART = 2**16


class _Transient(Exception):
    """A failure that may be over at the next attempt."""


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
    incomplete or damaged body, and the answers 408, 429 and 500 to 599.

    Parameters
    ----------
    url : str
        Address, http or https. Redirections are followed to http and https, and from https only to https.
    where : str
        What is fetched, for messages.
    timeout : float
        Seconds to wait for a connection, and for each part of the answer.
    most : int
        Bytes that are accepted.

    Raises
    ------
    StructureError
        If it cannot be downloaded. `retryable` is False where the server refuses the request itself.
    """
    opener = _opener(where)
    pause = BACKOFF
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(opener, url, where, timeout, most)
        except _Transient as error:
            if attempt == ATTEMPTS:
                raise StructureError(
                    f"{url} {error}, in {ATTEMPTS} attempts; try again later", where, retryable=True
                ) from error
        time.sleep(pause)
        pause *= 2
    raise AssertionError  # the last attempt returns or raises


def _attempt(opener: OpenerDirector, url: str, where: str, timeout: float, most: int) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import Request

    headers = {"User-Agent": f"protemb-sdk/{__version__}", "Accept-Encoding": "identity"}
    try:
        with opener.open(Request(url, headers=headers), timeout=timeout) as answer:
            return _body(answer, url, where, timeout, most)
    except HTTPError as error:
        with error:
            _refused(error.code, url, where)
    except URLError as error:
        reason = error.reason
        _broken(reason if isinstance(reason, OSError) else OSError(reason), url, where, timeout)
    except OSError as error:
        _broken(error, url, where, timeout)
    except HTTPException as error:
        raise _Transient(f"sent a damaged answer ({type(error).__name__})") from error


def _body(answer: HTTPResponse, url: str, where: str, timeout: float, most: int) -> bytes:
    """Read an answer to its end, and check that it is complete."""
    length, began = answer.length, time.monotonic()
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
        if time.monotonic() - began > PATIENCE * timeout:
            raise _Transient(f"sent {size} bytes in {PATIENCE * timeout:g} seconds and was not finished")
        if size > most:
            break
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


def _broken(error: OSError, url: str, where: str, timeout: float) -> NoReturn:
    """Raise the error of a connection that failed."""
    if isinstance(error, TimeoutError):
        raise _Transient(f"did not answer within {timeout:g} seconds") from error
    if isinstance(error, ConnectionError) and not isinstance(error, ConnectionRefusedError):
        raise _Transient("closed the connection") from error
    raise StructureError(
        f"{urlsplit(url).netloc} cannot be reached ({error.strerror or error}); check the network connection "
        "and the address",
        where,
        retryable=True,
    ) from error


def _opener(where: str) -> OpenerDirector:
    """Return an opener for http and https alone, by the proxy of the environment if there is one."""
    from urllib import request

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
        request.HTTPHandler(),
        request.HTTPSHandler(),
        request.HTTPDefaultErrorHandler(),
        request.HTTPErrorProcessor(),
        Redirections(),
    ):
        opener.add_handler(handler)
    return opener
