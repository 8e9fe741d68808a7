"""Structures by identifier, from a server on this machine."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest

from protemb_sdk import EmbeddingError, StructureError, fetch_structure, read_chains
from protemb_sdk._base.download import check_base
from protemb_sdk._base.identifiers import Identifier, as_address, identifier_of

from .conftest import Run
from .local_server import AFDB, ENTRY, Server, broken, chunked, moved, sent, slow

# --- what works -----------------------------------------------------------------------------------


def test_an_entry_is_downloaded_once(server: Server, cache: Path, zipped: bytes) -> None:
    server.answers[ENTRY] = [sent(zipped, ETag='"0123456789abcdef0123456789abcdef"')]
    for name in ("1A8O", "1a8o", "pdb_00001a8o", "PDB_00001A8O"):
        path = fetch_structure(name)
        assert path == cache / "1a8o.cif.gz" and path.read_bytes() == zipped
    assert server.asked == [ENTRY] and list(cache.iterdir()) == [path]
    (chain,) = read_chains(path).chains
    assert chain.id == "1a8o_A" and len(chain) == 70


def test_a_damaged_file_of_the_cache_is_downloaded_again(
    protemb: Run, server: Server, cache: Path, zipped: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.answers[ENTRY] = [sent(zipped)]
    cache.mkdir(parents=True)
    path, text = cache / "1a8o.cif.gz", gzip.decompress(zipped)
    for content, words in (
        (zipped[:-100], "the gzip stream is damaged or truncated"),
        (gzip.compress(text[: len(text) // 2]), "Wrong number of values in loop _atom_site"),
        (gzip.compress(text.replace(b"1A8O", b"1ALM")), "the file is of the entry '1ALM', not 1a8o"),
    ):
        path.write_bytes(content)
        server.asked.clear()
        assert fetch_structure("1a8o") == path and path.read_bytes() == zipped and server.asked == [ENTRY]
        (note,) = caplog.messages
        assert note.startswith(f"{path}: downloaded again, because it cannot be used: ") and words in note
        caplog.clear()
    path.write_bytes(gzip.compress(text[: len(text) // 2]))
    done = protemb("embed", "1a8o", "-o", tmp_path / "out.npz", "--fetch")
    assert done.status == 0 and "1 chain" in done.out, done.err


def test_alphafold_db_is_asked_for_the_current_version(server: Server, cache: Path, structures: Path) -> None:
    text = (structures / "1a8o.cif").read_bytes().replace(b"1A8O", b"AF-P69905-F1")
    elsewhere = "https://elsewhere.example/files/"
    names = ["AF-P69905-2-F1-model_v9.cif", "AF-P69905-F1-model_v6.cif", "AF-P69905-F1-model_v5.cif"]
    found = [{"cifUrl": elsewhere + name} for name in names]
    api = "/api/prediction/P69905"
    server.answers = {api: [sent(json.dumps(found).encode())], AFDB: [sent(text)]}
    server.answers["/files/AF-P69905-F1-model_v4.cif"] = [sent(text)]
    path = fetch_structure("af-p69905-f1")
    assert path == cache / "AF-P69905-F1-model_v6.cif" and server.asked == [api, AFDB]
    assert fetch_structure("AF-P69905-F1-model_v4").name == "AF-P69905-F1-model_v4.cif"
    assert fetch_structure("AF-P69905-F1") == path and fetch_structure("AF-P69905-F1-model_v6") == path
    assert server.asked == [api, AFDB, "/files/AF-P69905-F1-model_v4.cif"]
    with pytest.raises(StructureError, match=r"there is no such entry .* names 3 models, none of this name"):
        fetch_structure("AF-P69905-F2")


def test_redirections_are_followed(server: Server, zipped: bytes) -> None:
    other_host = server.url.replace("127.0.0.1", "localhost")
    server.answers = {ENTRY: [moved("/a")], "/a": [moved(other_host + "/b")], "/b": [sent(zipped)]}
    assert fetch_structure("1a8o").read_bytes() == zipped
    assert server.asked == [ENTRY, "/a", "/b"]


@pytest.mark.parametrize("problem", ["503", "429", "broken", "truncated", "checksum", "slow"])
def test_a_failure_that_passes_is_tried_again(
    server: Server, zipped: bytes, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = base64.b64encode(hashlib.md5(b"x", usedforsecurity=False).digest()).decode()
    right = base64.b64encode(hashlib.md5(zipped, usedforsecurity=False).digest()).decode()
    first = {
        "503": sent(b"later", 503), "429": sent(b"later", 429), "broken": broken, "slow": slow,
        "truncated": sent(zipped[:999], length=len(zipped)), "checksum": sent(zipped, Content_MD5=wrong),
    }[problem]  # fmt: skip
    server.answers[ENTRY] = [
        first,
        sent(zipped, Content_MD5=right, x_goog_hash=f"crc32c=AAAAAA==,md5={right}"),
    ]
    assert fetch_structure("1a8o", timeout=0.2 if problem == "slow" else 5).read_bytes() == zipped
    assert len(server.asked) == 2
    (note,) = caplog.messages
    assert note.startswith(f"1a8o: {server.url}{ENTRY} ") and note.endswith(", trying again (2 of 3)")


def test_an_entry_without_protein_is_fetched(server: Server, structures: Path) -> None:
    lines = gzip.decompress((structures / "1lcd.cif.gz").read_bytes()).splitlines(keepends=True)
    dna = [line for line in lines if not line.startswith(b"ATOM") or re.search(rb" D[ACGT] ", line)]
    assert 0 < len(dna) < len(lines)
    server.answers["/1lcd.cif.gz"] = [sent(gzip.compress(b"".join(dna)))]
    assert not read_chains(fetch_structure("1lcd")).chains


def test_a_body_in_chunks_is_read(server: Server, zipped: bytes) -> None:
    server.answers[ENTRY] = [chunked(zipped[:500], zipped[500:])]
    assert fetch_structure("1a8o").read_bytes() == zipped


# --- names ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    ["", "1a8", "1a8o5", "0abc", "1a8o.cif", "../1a8o", "1a8o/..", "1a8o\n", "1a8ö", "\u0661abc", "pdb_1a8o",
     "P69905", "AF-P69905", "AF-P69905-F0", "AF-XX-F1", "AF-P69905-F1-model_v", "AF-P69905-F1/../x",
     "AF-P69905-F1?x", "file:///etc/passwd", "http://127.0.0.1/1a8o", " 1a8o"],
)  # fmt: skip
def test_what_is_no_identifier_is_refused(text: str, server: Server) -> None:
    assert identifier_of(text) is None
    with pytest.raises(StructureError, match="is no identifier; use one of the PDB"):
        fetch_structure(text)
    assert server.asked == []


def test_identifiers_have_one_form() -> None:
    assert identifier_of("pdb_1000abcd") == Identifier("PDB", "pdb_1000abcd")
    assert identifier_of("AF-A0A023GPI8-F1") == Identifier("AlphaFold DB", "AF-A0A023GPI8-F1", "A0A023GPI8")
    assert identifier_of("af-p69905-f12-MODEL_V4") == Identifier("AlphaFold DB", "AF-P69905-F12", "P69905", 4)
    assert as_address("https:/x.org/a") == as_address("https://x.org/a") == "https://x.org/a"
    assert as_address("C:/x") is None


def test_addresses_of_servers_and_times_are_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    for address in ("ftp://x.org", "x.org", "file:///etc", "http://", "http://x y", "https://x\r\n.org"):
        with pytest.raises(StructureError, match=r"PROTEMB_RCSB_URL: is .*; set it to an address"):
            check_base(address, "PROTEMB_RCSB_URL")
    with pytest.raises(EmbeddingError, match="timeout must be a number of seconds"):
        fetch_structure("1a8o", timeout=0)


# --- the command line -----------------------------------------------------------------------------


def test_a_missing_file_says_how_to_fetch_it(
    protemb: Run, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for command in ("embed", "sites", "quality", "profile", "report", "plot"):
        done = protemb(command, "1abc", "-o", "x")
        assert done.status == 1 and len(done.errors) == 1
        assert "1abc: no such file or folder" in done.errors[0]
        assert "of an identifier of the PDB: add --fetch to download the entry" in done.errors[0]
    done = protemb("embed", "AF-P69905-F1", "-o", "x.npz")
    assert "an identifier of AlphaFold DB: add --fetch to download" in done.errors[0]
    done = protemb("embed", "https://x.org/a.cif", "-o", "x.npz", "--fetch")
    assert "error: https://x.org/a.cif: no such file or folder" in done.errors[0]
    assert "it is an address: download the file first (curl -LO https://x.org/a.cif)" in done.errors[0]
    with pytest.raises(StructureError, match=r"no such file; .* use fetch_structure\('1abc'\) to download"):
        read_chains("1abc")
    assert server.asked == [] and list(tmp_path.iterdir()) == []


def test_identifiers_are_embedded_if_this_is_asked_for(
    protemb: Run, server: Server, cache: Path, zipped: bytes, model: Path, tmp_path: Path
) -> None:
    server.answers[ENTRY] = [sent(zipped)]
    out = tmp_path / "out.npz"
    done = protemb("embed", "1a8o", model, "-o", out, "--fetch")
    assert done.status == 0, done.err
    with np.load(out) as file:
        assert file["source"].tolist() == [str(cache / "1a8o.cif.gz"), str(model)]
    assert f"1a8o: {cache / '1a8o.cif.gz'}" in done.err.replace("\n", "")
    out.unlink()
    done = protemb("embed", "1a8o", "9xyz", "-o", out, "--fetch", "-q")
    assert done.status == 1 and not out.exists() and server.asked == [ENTRY, "/9xyz.cif.gz"]
    (line,) = done.err.splitlines()
    assert line.startswith("error: 9xyz: there is no such entry")


def test_entries_are_fetched_into_a_folder(
    protemb: Run, server: Server, zipped: bytes, tmp_path: Path
) -> None:
    server.answers[ENTRY] = [sent(zipped)]
    folder = tmp_path / "new" / "folder"
    done = protemb("fetch", "9xyz", "-o", folder)
    assert done.status == 1 and done.err.startswith("error: 9xyz: there is no such") and not folder.exists()
    assert protemb("fetch", "1a8o", "1a8o.cif", "-o", folder).status == 1 and server.asked == ["/9xyz.cif.gz"]
    path = folder / "1a8o.cif.gz"
    for _ in range(2):
        done = protemb("fetch", "9xyz", "1a8o", "-o", folder)
        assert done.status == 1 and done.out == f"{path}\n" and path.read_bytes() == zipped
        assert "skipped: 9xyz: there is no such entry" in done.err
        assert done.errors == ["error: 1 of 2 entries could not be fetched; see above"]
    assert server.asked.count(ENTRY) == 1 and list(folder.iterdir()) == [path]
    path.write_bytes(b"mine")
    done = protemb("fetch", "1a8o", "-o", folder)
    assert done.status == 1 and "exists and differs; remove it" in done.errors[0]
    assert path.read_bytes() == b"mine"
    assert "is not a folder" in protemb("fetch", "1a8o", "-o", path).errors[0]
