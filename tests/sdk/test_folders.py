"""Which files of a folder or an archive are read, and how the others are reported."""

from __future__ import annotations

import gzip
import io
import logging
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from protemb_sdk import Embedder, StructureError, read_chains
from protemb_sdk._base.folders import find_structures
from protemb_sdk._store.fill import embed_into_store
from protemb_sdk._store.verify import verify_store
from protemb_sdk._structure.archives import members
from protemb_sdk._structure.inputs import inputs_of


@pytest.fixture
def folder(structures: Path, tmp_path: Path) -> Path:
    root = tmp_path / "in"
    for name in (
        "a.pdb",
        "deep/b.PDB",
        ".hidden/c.pdb",
        "deep/.d.pdb",
        ".ipynb_checkpoints/a-checkpoint.pdb",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes((structures / "1orc.pdb").read_bytes())
    return root


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in find_structures(root)]


def test_hidden_files_and_folders_are_left_out(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert names(folder) == ["a.pdb", "deep/b.PDB"] and caplog.text == ""


def test_links_to_folders_are_followed_once_and_without_cycles(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "else").mkdir()
    (tmp_path / "else" / "e.pdb").write_bytes((folder / "a.pdb").read_bytes())
    (folder / "linked").symlink_to(tmp_path / "else", target_is_directory=True)
    (folder / "deep" / "up").symlink_to(folder, target_is_directory=True)
    assert names(folder) == ["a.pdb", "deep/b.PDB", "linked/e.pdb"]


@pytest.mark.parametrize("backwards", [False, True])
def test_names_of_linked_files_do_not_depend_on_the_listing_order(
    folder: Path, backwards: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "zz").mkdir()
    (folder / "zz" / "z.pdb").write_bytes((folder / "a.pdb").read_bytes())
    (folder / "deep" / "alias").symlink_to(folder / "zz", target_is_directory=True)
    (folder / "alias").symlink_to(folder / "zz", target_is_directory=True)
    scandir = os.scandir

    class Listing:
        def __init__(self, path: str) -> None:
            with scandir(path) as entries:
                self.entries = iter(sorted(entries, key=lambda entry: entry.name, reverse=backwards))

        def __enter__(self) -> Iterator[os.DirEntry[str]]:
            return self.entries

        def __exit__(self, *exception: object) -> None: ...

        def __next__(self) -> os.DirEntry[str]:
            return next(self.entries)

    monkeypatch.setattr(os, "scandir", Listing)
    assert names(folder) == ["a.pdb", "deep/b.PDB", "zz/z.pdb"]


def test_pipes_are_ignored(folder: Path) -> None:
    os.mkfifo(folder / "pipe.pdb")  # opening it would block
    assert names(folder) == ["a.pdb", "deep/b.PDB"]


def test_a_broken_link_is_skipped_with_a_reason(embedder: Embedder, folder: Path) -> None:
    (folder / "lost.pdb").symlink_to(folder / "nowhere.pdb")
    run = embedder.embed_many(folder, on_error="skip")
    assert [e.id for e in run] == ["a_A", "b_A"]
    assert [(Path(s.source).name, s.reason) for s in run.skipped] == [
        ("lost.pdb", "no such file; check the path")
    ]


def test_other_files_are_counted_by_extension(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("x.txt", "deep/y.txt", "z.mmtf.gz", "README", "scores.xml"):
        (folder / name).touch()
    with caplog.at_level(logging.WARNING, "protemb"):
        assert len(find_structures(folder)) == 2
        assert len(find_structures(folder, warn=False)) == 2
    (record,) = caplog.records
    output = record.getMessage()
    assert output.startswith(f"{folder}: files ignored because of their extensions: 2 .txt, ")
    assert all(ending in output for ending in ("1 .mmtf.gz", "1 without extension", "1 .xml"))


def test_a_folder_that_cannot_be_listed_is_reported_and_others_are_read(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(path: object) -> object:
        if str(path).endswith("deep"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)  # type: ignore[call-overload]

    monkeypatch.setattr(os, "scandir", refusing)
    with caplog.at_level(logging.WARNING, "protemb"):
        assert names(folder) == ["a.pdb"]
    assert "deep: ignored, as it cannot be listed (Permission denied)" in caplog.text
    with pytest.raises(
        StructureError, match=r"deep: the folder cannot be listed \(Permission denied\)"
    ) as output:
        find_structures(folder / "deep")
    assert output.value.retryable  # a later attempt may succeed


def test_a_store_inside_the_input_folder_is_not_an_input(embedder: Embedder, folder: Path) -> None:
    for before in (0, 2):
        filled = embed_into_store(embedder, folder, folder / "store")
        assert (filled.chains, filled.failed, filled.before) == (2 - before, 0, before)


def test_one_structure_of_biopython_is_one_input(structures: Path) -> None:
    parser = pytest.importorskip("Bio.PDB").PDBParser(QUIET=True)
    text = gzip.decompress((structures / "1lcd.pdb.gz").read_bytes()).decode()
    structure = parser.get_structure("1lcd", io.StringIO(text))
    assert len(list(structure)) > 1  # it iterates over its models
    for part in (structure, structure[0]["A"]):
        assert [x.content for x in inputs_of(part)] == [part]
    found = [e.chain_id for e in Embedder("small", "cpu").embed_many(structure)]
    assert found == [chain.chain_id for chain in read_chains(structures / "1lcd.pdb.gz").chains]


# --- archives -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE,
                                  tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE])  # fmt: skip
def test_very_long_headers_are_refused_without_reading_them(kind: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = kind, 2**33  # none of these bytes are in the file
    path.write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(1024))
    with pytest.raises(
        StructureError, match=r"cannot be read as a tar archive \(a header of 8589934592 bytes\)"
    ):
        list(members(str(path)))


@pytest.mark.parametrize(
    "headers",
    [{"GNU.sparse.map": "a,b"}, {"GNU.sparse.size": "abc", "GNU.sparse.major": "0", "GNU.sparse.minor": "1"}],
)
def test_headers_that_tarfile_cannot_parse_are_refused(headers: dict[str, str], tmp_path: Path) -> None:
    info = tarfile.TarInfo("x.pdb")
    info.pax_headers = headers
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info)
    with pytest.raises(StructureError, match="cannot be read as a tar archive"):
        list(members(str(tmp_path / "x.tar")))


def test_thousands_of_headers_without_a_file_are_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type = tarfile.GNUTYPE_LONGNAME
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) * 3000 + bytes(1024))
    with pytest.raises(StructureError, match="cannot be read as a tar archive"):
        list(members(str(tmp_path / "x.tar")))


def test_the_size_of_global_headers_is_limited(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for number in range(8):
            archive.fileobj.write(tarfile.TarInfo.create_pax_global_header({f"key{number}": "x" * 300_000}))
        archive.addfile(tarfile.TarInfo("x.pdb"))
    with pytest.raises(StructureError, match="its global headers are too long"):
        list(members(str(tmp_path / "x.tar")))


def test_hidden_members_are_left_out(structures: Path, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for name in ("./a.pdb", "../b.pdb", ".git/c.pdb", "d/.e.pdb", "d/.f/g.pdb", "d/h.pdb"):
            archive.add(structures / "1orc.pdb", name)
    found = [name.removeprefix(f"{tmp_path / 'x.tar'}/") for name, _ in members(str(tmp_path / "x.tar"))]
    assert found == ["./a.pdb", "../b.pdb", "d/h.pdb"]


def test_members_are_not_kept_after_reading(
    structures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, kept = (structures / "1orc.pdb").read_bytes(), []
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as archive:
        for number in range(50):
            info = tarfile.TarInfo(f"{number}.pdb")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    opened = tarfile.open

    def watched(*arguments: object, **options: object) -> tarfile.TarFile:
        kept.append(opened(*arguments, **options))  # type: ignore[call-overload]
        return kept[-1]

    monkeypatch.setattr(tarfile, "open", watched)
    for number, (_, member) in enumerate(members(str(tmp_path / "x.tar.gz"))):
        assert member == content and len(kept[0].getmembers.__self__.members) <= 1, number


# --- zip archives ---------------------------------------------------------------------------------


def zipped(path: Path, files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", kind) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize(
    "kind", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA]
)
def test_zip_archives_are_read_like_tar_archives(
    kind: int, embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    content = (structures / "1orc.pdb").read_bytes()
    files = {
        "a.pdb": content, "d/b.cif": (structures / "1a8o.cif").read_bytes(),
        "c.cif.gz": gzip.compress((structures / "1a8o.cif").read_bytes()), "d/": b"", "readme.txt": b"x",
        ".hidden.pdb": content, "__MACOSX/._a.pdb": content, "../e.pdb": content, "bad.pdb": b"hello",
    }  # fmt: skip
    path = zipped(tmp_path / "x.zip", files, kind)
    run = embedder.embed_many([path, structures / "1orc.pdb"], on_error="skip")
    assert [e.id for e in run] == ["a_A", "b_A", "c_A", "e_A", "1orc_A"]
    assert [(s.source, s.reason.split(" (")[0]) for s in run.skipped] == [
        (f"{path}/bad.pdb", "not a structure file")
    ]
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        archive.add(structures / "1orc.pdb", "a.pdb")
    (in_tar,) = embedder.embed_many(tmp_path / "x.tar")
    (in_zip,) = embedder.embed_many(zipped(tmp_path / "y.zip", {"a.pdb": content}))
    assert in_tar.residue.tobytes() == in_zip.residue.tobytes()


def test_zip_archives_that_are_invalid_or_without_structures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StructureError, match="no structure file in this archive"):
        list(members(str(zipped(tmp_path / "x.zip", {"readme.txt": b""}))))
    (tmp_path / "y.zip").write_bytes(b"hello")
    with pytest.raises(StructureError, match="cannot be read as a zip archive"):
        list(members(str(tmp_path / "y.zip")))


@pytest.mark.parametrize("damage", ["cut", "flipped", "encrypted"])
def test_members_before_the_damage_in_a_zip_archive_are_read(
    damage: str, structures: Path, tmp_path: Path
) -> None:
    content = (structures / "1orc.pdb").read_bytes()
    path = zipped(tmp_path / "x.zip", {"a.pdb": content, "b.pdb": content}, zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    second = data.rindex(b"b.pdb", 0, data.rindex(b"PK\x01\x02", 0, data.rindex(b"PK\x01\x02")))
    if damage == "flipped":
        data[second + 500] ^= 1  # its checksum does not match
    elif damage == "encrypted":
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
        data[data.rindex(b"PK\x03\x04") + 6] |= 1
    path.write_bytes(bytes(data[: len(data) // 2]) if damage == "cut" else bytes(data))
    found = members(str(path))
    if damage != "cut":  # the list of members is at the end of the archive
        assert next(found)[1] == content
    with pytest.raises(StructureError, match="cannot be read as a zip archive"):
        next(found)


def test_a_zip_bomb_is_refused_before_it_is_unpacked(structures: Path, tmp_path: Path) -> None:
    path = zipped(
        tmp_path / "x.zip",
        {"a.pdb": b"ATOM  ".ljust(2**20) * 64, "b.pdb": (structures / "1orc.pdb").read_bytes()},
    )
    _, first = next(members(str(path), most=2**20))
    assert len(first) == 2**20 + 1
    run = Embedder("small", "cpu", byte_limit=2**20).embed_many(path, on_error="skip")
    assert [e.id for e in run] == ["b_A"] and "byte_limit" in run.skipped[0].reason


def test_a_store_is_filled_from_a_zip_archive_and_verified(
    embedder: Embedder, structures: Path, tmp_path: Path
) -> None:
    content = (structures / "1orc.pdb").read_bytes()
    path = zipped(tmp_path / "x.zip", {"a.pdb": content, "d/b.pdb": content})
    for before in (0, 2):
        filled = embed_into_store(embedder, path, tmp_path / "store")
        assert (filled.chains, filled.failed, filled.before) == (2 - before, 0, before)
    assert verify_store(tmp_path / "store").missing == []
