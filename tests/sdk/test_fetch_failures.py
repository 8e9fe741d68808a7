"""Downloads that fail: one sentence each, and nothing is left behind."""

from __future__ import annotations

import base64
import gzip
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from protemb_sdk import OutputError, StructureError, fetch_structure
from protemb_sdk._base import download

from .local_server import AFDB, ENTRY, Answer, Handler, Server, broken, chunked, moved, sent, slow


def failure(server: Server, cache: Path, *answers: Answer, timeout: float = 5.0) -> StructureError:
    """Return the error of an entry with these answers, after checking that it leaves nothing behind."""
    server.answers[ENTRY] = list(answers)
    with pytest.raises(StructureError) as caught:
        fetch_structure("1a8o", timeout=timeout)
    assert not cache.exists() or list(cache.iterdir()) == []
    assert caught.value.where == "1a8o" and "\n" not in str(caught.value)
    return caught.value


def test_failures_that_stay_are_told_after_three_attempts(server: Server, cache: Path, zipped: bytes) -> None:
    url = server.url + ENTRY
    for answer, words in (
        (sent(b"", 503), "answers 503"),
        (sent(zipped[:999], length=2000), "sent 999 of 2000 bytes"),
        (sent(zipped, x_goog_hash="md5=" + base64.b64encode(bytes(16)).decode()), "the MD5 checksum of the"),
        (broken, "the connection"),
        (chunked(zipped[:500], whole=False), "sent a damaged answer (IncompleteRead)"),
    ):
        error = failure(server, cache, answer)
        assert words in str(error) and str(error).startswith(f"1a8o: {url} ") and error.retryable
        assert str(error).endswith(", in 3 attempts; try again later")
    assert len(server.asked) == 15


def test_a_slow_server_is_given_up(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    error = failure(server, cache, slow, timeout=0.05)
    assert "did not answer within 0.05 seconds, in 3 attempts" in str(error) and error.retryable

    def drops(to: Handler) -> None:
        to.send_response(200)
        to.send_header("Content-Length", "1000")
        to.end_headers()
        while not to.server.over.wait(0.01):
            to.wfile.write(b"x")

    def drops_of_headers(to: Handler) -> None:
        to.wfile.write(b"HTTP/1.0 200 OK\r\n")
        while not to.server.over.wait(0.01):
            to.wfile.write(b"x")

    monkeypatch.setattr(download, "PATIENCE", 2)
    for answers in ([drops], [drops_of_headers], [sent(b"", 503), drops]):
        server.asked.clear()
        began = time.monotonic()
        error = failure(server, cache, *answers, timeout=0.5)
        assert "was not finished within 1 seconds; try again later, or with a timeout above 0.5" in str(error)
        assert 0.9 < time.monotonic() - began < 4 and error.retryable and len(server.asked) == len(answers)
    assert any(note.startswith("1a8o: received ") and "of 1000 bytes" in note for note in caplog.messages)


def test_no_attempt_begins_when_the_time_is_over(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "PATIENCE", 1)
    monkeypatch.setattr(download, "BACKOFF", 60)
    assert "answers 503, in one attempt; try again later" in str(failure(server, cache, sent(b"", 503)))


def test_the_command_tells_of_further_attempts_and_takes_a_timeout(
    server: Server, zipped: bytes, tmp_path: Path
) -> None:
    def protemb(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "protemb_sdk.cli", "fetch", "1a8o", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    url, out = server.url + ENTRY, tmp_path / "out"
    server.answers[ENTRY] = [slow, sent(zipped)]
    done = protemb("-o", out, "--timeout", 0.2)
    assert (done.returncode, done.stdout) == (0, f"{out / '1a8o.cif.gz'}\n")
    assert done.stderr == f"1a8o: {url} did not answer within 0.2 seconds, trying again (2 of 3)\n"
    (tmp_path / "cache" / "structures" / "1a8o.cif.gz").unlink()
    server.answers[ENTRY] = [sent(b"", 503), sent(zipped)]
    done = protemb("-o", out, "-q")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "") and len(server.asked) == 4
    done = protemb("-o", out, "--timeout", 0)
    assert done.returncode == 1 and "timeout must be a number of seconds, above 0" in done.stderr


def test_what_is_not_there_is_not_asked_for_again(server: Server, cache: Path) -> None:
    error = failure(server, cache, sent(b"", 404))
    assert f"there is no such entry ({server.url}{ENTRY} answers 404); check" in str(error)
    error = failure(server, cache, sent(b"", 403))
    assert "answers 403, which refuses the request; check" in str(error) and not error.retryable
    assert len(server.asked) == 2
    with pytest.raises(StructureError, match=r"AF-P69905-F1: there is no such entry .* answers 404"):
        fetch_structure("AF-P69905-F1")


def test_redirections_that_lead_nowhere_are_refused(server: Server, cache: Path, tmp_path: Path) -> None:
    secret = tmp_path / "1a8o.cif.gz"
    secret.write_bytes(gzip.compress(b"data_x\n", mtime=0))
    for target in (secret.as_uri(), "ftp://127.0.0.1/1a8o.cif.gz", "data:,x"):
        error = failure(server, cache, moved(target))
        assert f"is redirected to {target}, which is refused, as it is not http or https" in str(error)
    error = failure(server, cache, moved(ENTRY))
    assert "redirected in a circle or more than 5 times; check the server" in str(error)
    server.answers |= {f"/{n}": [moved(f"/{n + 1}")] for n in range(9)}
    assert "in a circle or more than 5 times" in str(failure(server, cache, moved("/0")))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"<html>Please log in</html>", "this is an HTML or XML document;"),
        (b"", "the file is empty;"),
        (b"\x89PNG", "this is a PNG image (read are PDB"),
        (gzip.compress(b"hello", mtime=0), "not a structure file (it starts with b'hello');"),
        (
            gzip.compress(b"data_x\n" * 99, mtime=0)[:-9],
            "the gzip stream is damaged or truncated (it ends too early);",
        ),
    ],
)
def test_what_is_no_structure_is_refused(server: Server, cache: Path, body: bytes, words: str) -> None:
    error = failure(server, cache, sent(body))
    advice = "; check PROTEMB_RCSB_URL and the proxy, or try again later"
    assert error.problem.startswith(f"what {server.url}{ENTRY} sent cannot be used: {words}")
    assert error.where == "1a8o" and error.problem.endswith(advice)


@pytest.mark.parametrize("part", ["row", "table", "other table", "header"])
def test_what_ends_too_early_is_refused(server: Server, cache: Path, zipped: bytes, part: str) -> None:
    text = gzip.decompress(zipped)
    row = text.rindex(b"\nATOM", 0, len(text) // 2) + 1
    end, words = {
        "row": (row + 40, "not a valid mmCIF file (data:"),
        "table": (row, "the file ends too early, within a table;"),
        "other table": (len(text) - 300, "not a valid mmCIF file (data:"),
        "header": (
            text.rindex(b"loop_", 0, text.index(b"_atom_site.")),
            "holds no _atom_site table of mmCIF, so",
        ),
    }[part]
    error = failure(server, cache, sent(gzip.compress(text[:end], mtime=0)))
    assert f" sent cannot be used: {words}" in str(error) and not error.retryable


@pytest.mark.parametrize("name", ["1ALM", "AF-P69905-F1", "a_name", "pdb_10001a8o"])
def test_another_entry_is_refused(server: Server, cache: Path, zipped: bytes, name: str) -> None:
    other = sent(gzip.compress(gzip.decompress(zipped).replace(b"1A8O", name.encode()), mtime=0))
    server.answers["/other"] = [other]
    for answer in (other, moved("/other")):
        error = failure(server, cache, answer)
        assert f"sent cannot be used: the file is of the entry '{name}', not 1a8o; check" in str(error)


def test_a_model_of_another_protein_is_refused(server: Server, cache: Path, structures: Path) -> None:
    text = (structures / "1a8o.cif").read_bytes()
    for name in (b"AF-P69905-F2", b"AF-P68871-F1"):
        server.answers[AFDB] = [sent(text.replace(b"1A8O", name))]
        with pytest.raises(
            StructureError, match=f"is of the entry '{name.decode()}', not AF-P69905-F1; check"
        ):
            fetch_structure("AF-P69905-F1-model_v6")
    assert not cache.exists()


def test_files_without_a_length_and_large_ones_are_refused(
    server: Server, cache: Path, zipped: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_length(to: Handler) -> None:
        to.send_response(200)
        to.end_headers()
        to.wfile.write(zipped)

    assert "states no length (Content-Length)" in str(failure(server, cache, without_length))
    for answer in (sent(zipped), sent(b"", length=10**12)):
        server.answers[ENTRY] = [answer]
        with pytest.raises(StructureError, match=r"is larger than 1000 bytes, the limit of a download"):
            download.download(server.url + ENTRY, "1a8o", timeout=5, most=1000)


def test_without_a_network(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("PROTEMB_RCSB_URL", f"http://127.0.0.1:{port}")
    error = failure(server, cache)
    assert f"127.0.0.1:{port} cannot be reached (Connection refused); check the network" in str(error)
    assert error.retryable


@pytest.mark.parametrize("answer", [b"[{}]", b"{}", b"not JSON", b"[1]", b"[[]]"])
def test_an_answer_without_models_is_told(server: Server, answer: bytes) -> None:
    server.answers["/api/prediction/P69905"] = [sent(answer)]
    with pytest.raises(StructureError, match=r"^AF-P69905-F1: "):
        fetch_structure("AF-P69905-F1")
    assert len(server.asked) == 1


def test_a_cache_that_cannot_be_written_is_named(
    server: Server, zipped: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answers[ENTRY] = [sent(zipped)]
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("PROTEMB_CACHE", str(tmp_path / "file"))
    with pytest.raises(OutputError, match=r"the cache cannot be made .*; set PROTEMB_CACHE to a folder"):
        fetch_structure("1a8o")
