"""Output files: inputs are never overwritten, names are safe, one bad chain does not fail a file."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gemmi
import pytest

from protemb_sdk import Embedder, Embedding, OutputError
from protemb_sdk._base.output import check_apart, written_whole

from .conftest import Run, table_of

posix = pytest.mark.skipif(sys.platform == "win32", reason="names and devices of POSIX")


@pytest.fixture
def complex_(structures: Path, tmp_path: Path) -> Path:
    """Return a file with a chain of 64 residues and a peptide of 8, which cannot be scored."""
    structure = gemmi.read_structure(str(structures / "1orc.pdb"))
    peptide = gemmi.Chain("P")
    for residue in list(structure[0]["A"])[:8]:
        peptide.add_residue(residue)
    structure[0].add_chain(peptide)
    path = tmp_path / "pep.pdb"
    structure.write_pdb(str(path))
    return path


@pytest.fixture
def label_head(make_head: Callable[..., Path], tmp_path: Path) -> Path:
    """Return a head, as trained by a user, that predicts one value for a chain."""
    onnx = pytest.importorskip("onnx")
    path = make_head(tmp_path / "own.onnx", kind="protein-label", classes=None)
    loaded = onnx.load(path)
    onnx.checker.check_model(loaded)
    graph = loaded.graph
    graph.node.append(onnx.helper.make_node("ReduceMean", ["probability"], ["value"], keepdims=1))
    del graph.output[:]
    graph.output.append(onnx.helper.make_tensor_value_info("value", onnx.TensorProto.FLOAT, [1]))
    onnx.save(loaded, path)
    return path


# --- inputs are not overwritten ---------------------------------------------------------------------

TWICE: dict[str, list[str]] = {
    "embed": ["embed", "in.npz", "-o", "in.npz"],
    "sites": ["sites", "1a8o.pdb", "-o", "1a8o.pdb"],
    "sites, a structure": ["sites", "1a8o.pdb", "-o", "x.csv", "--structure", "1a8o.pdb"],
    "sites, another name": ["sites", "1a8o.pdb", "-o", "x.csv", "--structure", "{t}/../{n}/1a8o.pdb"],
    "sites, a folder": ["sites", ".", "-o", "{t}/1a8o.pdb"],
    "sites, the head": ["sites", "1a8o.pdb", "-o", "head.onnx", "--head", "head.onnx"],
    "quality": ["quality", "1a8o.pdb", "-o", "1a8o.pdb"],
    "quality, residues": ["quality", "1a8o.pdb", "--residues", "1a8o.pdb"],
    "quality, copies": ["quality", "1a8o.pdb", "--structures", "../{n}"],
    "quality, copies of a folder": ["quality", "{t}", "--structures", "."],
    "report": ["report", "1a8o.pdb", "-o", "1a8o.pdb"],
    "report, a folder": ["report", ".", "-o", "1a8o.pdb"],
    "predict": ["predict", "1a8o.pdb", "--head", "head.onnx", "-o", "1a8o.pdb"],
    "predict, the head": ["predict", "1a8o.pdb", "--head", "head.onnx", "-o", "head.onnx"],
    "plot": ["plot", "in.png", "-o", "in.png"],
}


@pytest.mark.parametrize("name", TWICE)
def test_an_input_is_never_overwritten(
    protemb: Run, head: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if name == "plot":
        pytest.importorskip("matplotlib")
    shutil.copy(head, tmp_path / "head.onnx")
    for other in ("in.npz", "in.png"):  # the format is recognised from the content alone
        shutil.copy(model, tmp_path / other)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.chdir(tmp_path)
    done = protemb(*(word.format(t=tmp_path, n=tmp_path.name) for word in TWICE[name]))
    assert done.status == 1 and len(done.errors) == 1 and "would overwrite the input" in done.errors[0], (
        done.err
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_table_of_hits_overwrites_neither_query_nor_index(
    protemb: Run, embedder: Embedder, model: Path, tmp_path: Path
) -> None:
    pytest.importorskip("usearch")
    pytest.importorskip("pyarrow")
    assert protemb("embed", model, "-o", tmp_path / "store", "-q").status == 0
    done = protemb("index", tmp_path / "store", "-o", tmp_path / "index")
    assert done.status == 0 and ", 0" not in done.out and done.out.rstrip().endswith("KiB")
    before = model.read_bytes()
    for out in (model, next((tmp_path / "index").iterdir())):
        done = protemb("search", model, "--index", tmp_path / "index", "-o", out)
        assert done.status == 1 and "would overwrite the input" in done.errors[0]
    assert model.read_bytes() == before
    table = tmp_path / "hits.csv"
    assert protemb("search", model, "--index", tmp_path / "index", "-o", table).status == 0
    assert b"\r" not in table.read_bytes() and len(table.read_bytes().splitlines()) == 2
    said = f"note: {table} exists and will be replaced"
    assert said in protemb("search", model, "--index", tmp_path / "index", "-o", table).err
    assert said in protemb("cluster", tmp_path / "store", "-o", table).err
    done = protemb("search", tmp_path, "--index", tmp_path / "index")
    assert done.status == 1 and "is a folder; search takes one structure file" in done.errors[0]


@posix
def test_two_paths_of_one_file_are_recognised(model: Path, tmp_path: Path) -> None:
    link, folder = tmp_path / "link.csv", tmp_path / "folder"
    link.symlink_to(model)
    folder.symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(OutputError, match=r"link\.csv: would overwrite the input .*1a8o\.pdb"):
        check_apart([link], [model])
    with pytest.raises(OutputError, match="would overwrite"):
        check_apart([folder / model.name], [tmp_path])
    # Neither of these exists yet.
    with pytest.raises(OutputError, match="is named twice; each output needs its own file"):
        check_apart([tmp_path / "x.csv", folder / "x.csv"], [model])
    check_apart([tmp_path / "x.csv", tmp_path / "y.csv"], [model, tmp_path, tmp_path / "gone"])
    (tmp_path / "x.csv").write_text("of the last run")
    check_apart([tmp_path / "x.csv"], [tmp_path, tmp_path / "gone"])


REPLACED = {
    "embed": ["x.npz"],
    "profile": ["x.csv"],
    "sites": ["x.csv", "--structure", "y.pdb"],
    "quality": ["x.csv", "--residues", "y.csv", "--plot", "z.svg", "--structures", "copies"],
    "predict": ["x.csv", "--head", "own.onnx"],
    "report": ["x.html"],
    "plot": ["x.svg"],
    "plot --all": ["x.svg"],
}


@pytest.mark.parametrize("command", REPLACED)
def test_what_is_replaced_is_told(
    protemb: Run, model: Path, label_head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    options = [*command.split(), "1a8o.pdb", "-o", *REPLACED[command], "--device", "cpu"]
    before = {path for path in Path().rglob("*") if path.is_file()}
    done = protemb(*options)
    assert done.status == 0 and "will be replaced" not in done.err, done.err
    written = {path for path in Path().rglob("*") if path.is_file()} - before
    assert len(written) >= (len(options) - 3) // 2 - 1 - ("--head" in options)
    done = protemb(*options)
    notes = {line for line in done.err.splitlines() if line.endswith("exists and will be replaced")}
    assert done.status == 0 and notes == {f"note: {path} exists and will be replaced" for path in written}
    if "plot" not in command:
        assert "replaced" not in protemb(*options, "-q").err


def test_every_chain_is_drawn(protemb: Run, complex_: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    done = protemb("plot", complex_, "--all", "--quality", "-o", tmp_path / "x.svg")
    assert done.status == 0 and not done.errors, done.err
    assert f"skipped: {complex_}, chain P: " in done.err and "no fold to judge" in done.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["pep.pdb", "x_A.svg"]
    done = protemb("plot", complex_, "--all", "-o", tmp_path / "x.svg")
    assert "<svg" in (tmp_path / "x_P.svg").read_text() and done.out.split() == [
        str(tmp_path / name) for name in ("x_A.svg", "x_P.svg")
    ]
    done = protemb("plot", complex_, "--all", "--chain", "A", "-o", tmp_path / "y.svg")
    wanted = "--all draws each chain on its own; omit --chain, --complex and --assembly"
    assert done.errors == [f"error: {wanted}"]


# --- output paths -------------------------------------------------------------------------------------


@posix
def test_devices_and_pipes_are_refused_and_not_changed(protemb: Run, model: Path, tmp_path: Path) -> None:
    pipe, null = tmp_path / "pipe", tmp_path / "null"
    os.mkfifo(pipe)
    if os.geteuid() == 0:  # only root may create one; the test does not use /dev/null
        os.mknod(null, stat.S_IFCHR | 0o666, os.makedev(1, 3))
    for out in (pipe, null) if null.exists() else (pipe,):
        kind = stat.S_IFMT(out.stat().st_mode)
        done = protemb("sites", model, "-o", out)
        assert done.status == 1 and "is a device, a pipe or a socket" in done.errors[0], done.err
        with pytest.raises(OutputError, match="is a device, a pipe"), written_whole(out):
            raise AssertionError("nothing may be written")
        assert stat.S_IFMT(out.stat().st_mode) == kind


@posix
def test_a_link_is_followed(tmp_path: Path) -> None:
    kept, link = tmp_path / "kept", tmp_path / "link.csv"
    kept.mkdir()
    (kept / "file.csv").write_text("old")
    link.symlink_to(Path("kept") / "file.csv")
    for text in ("new", "newer"):
        with written_whole(link) as part:
            assert part.name == "link.csv"  # the extension determines the format
            part.write_text(text)
        assert link.is_symlink() and (kept / "file.csv").read_text() == text
        (kept / "file.csv").unlink()  # a link to a missing file can be written too
    (tmp_path / "astray").symlink_to(tmp_path / "gone" / "file.csv")
    with pytest.raises(OutputError, match="gone does not exist"), written_whole(tmp_path / "astray"):
        raise AssertionError("nothing may be written")
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["astray", "kept", "link.csv"]


@posix
@pytest.mark.parametrize("letter", ["a", "é", "\N{GRINNING FACE}"])
def test_the_longest_names_can_be_written(tmp_path: Path, letter: str) -> None:
    name = letter * ((255 - 4) // len(letter.encode())) + ".csv"
    with written_whole(tmp_path / name) as part:
        part.write_text("whole")
    assert (tmp_path / name).read_text() == "whole" and len(list(tmp_path.iterdir())) == 1


# --- one bad chain ------------------------------------------------------------------------------------


def test_a_bad_chain_of_a_single_file_is_skipped(
    protemb: Run, complex_: Path, label_head: Path, tmp_path: Path
) -> None:
    out = tmp_path / "x.csv"
    done = protemb("quality", complex_, "-o", out, "--structures", tmp_path / "copies")
    assert done.status == 0 and not done.errors, done.err
    assert [row["chain"] for row in table_of(out)] == ["A"]
    assert f"skipped: {complex_}, chain P: " in done.err and "no fold to judge" in done.err
    copy = gemmi.read_structure(str(tmp_path / "copies" / "pep.pdb"))
    assert copy[0]["A"][0][0].b_iso > 0 and copy[0]["P"][0][0].b_iso == 0
    done = protemb("embed", complex_, "-o", tmp_path / "x.npz", "--residue-limit", 50)
    assert done.status == 0 and "pep_P" in done.out and f"skipped: {complex_}, chain A: " in done.err
    done = protemb("embed", complex_, "-o", tmp_path / "y.npz", "--residue-limit", 50, "--strict")
    assert done.status == 1 and "residue_limit=50" in done.errors[0] and not (tmp_path / "y.npz").exists()
    done = protemb("embed", complex_, "-o", tmp_path / "z.npz", "--residue-limit", 5)
    assert done.status == 1 and done.err.count("skipped: ") == 2 and not (tmp_path / "z.npz").exists()
    assert f"nothing in {complex_} could be embedded; {tmp_path / 'z.npz'} was not written" in done.errors[0]


def test_a_chain_that_cannot_be_embedded_is_skipped(
    protemb: Run, complex_: Path, label_head: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from protemb_sdk._base.errors import EmbeddingError

    embed = Embedder.embed_chain

    def picky(self: Embedder, chain: object, **wanted: object) -> Embedding:
        if len(chain) < 10:  # type: ignore[arg-type]
            raise EmbeddingError("pep_P: too short")
        return embed(self, chain, **wanted)  # type: ignore[arg-type]

    monkeypatch.setattr(Embedder, "embed_chain", picky)
    for command, *options in (["sites"], ["predict", "--head", label_head]):
        out = tmp_path / f"{command}.csv"
        done = protemb(command, complex_, "-o", out, *options)
        assert done.status == 0 and {row["chain"] for row in table_of(out)} == {"A"}
        assert f"skipped: {complex_}, chain P: pep_P: too short" in done.err


# --- copies -------------------------------------------------------------------------------------------


def test_structures_are_copied_where_possible(
    protemb: Run, model: Path, structures: Path, tmp_path: Path
) -> None:
    """Inputs are a folder of ColabFold with score files, an archive, and a chain with a long name."""
    folder, copies = tmp_path / "models", tmp_path / "deep" / "copies"
    folder.mkdir()
    shutil.move(model, folder / "rank_001.pdb")
    shutil.copy(structures / "1a8o.pdb", folder / "rank_002.pdb1")
    (folder / "scores_rank_001.json").write_text(json.dumps({"plddt": [90.0]}))
    structure = gemmi.read_structure(str(structures / "1a8o.cif"))
    structure[0][0].name = "LONG"
    (folder / "long.pdb").write_text(structure.make_mmcif_document().as_string())
    archive = tmp_path / "more.tar"
    with tarfile.open(archive, "w") as tar:
        tar.add(structures / "1orc.pdb", "1orc.pdb")
    out = tmp_path / "x.csv"
    done = protemb("quality", folder, archive, "-o", out, "--structures", copies)
    assert done.status == 0 and not done.errors, done.err
    assert [path.name for path in copies.iterdir()] == ["rank_001.pdb"]
    assert len(table_of(out)) == 4 and "long_LONG" in done.out and "1orc_A" in done.out
    printed = [line for line in done.err.splitlines() if line.startswith("no copy of ")]
    assert len(printed) == 3 and "scores_rank_001.json" in done.err  # skipped: it has no structure
    for name in (folder / "rank_002.pdb1", f"{archive}/1orc.pdb"):
        assert sum(line.startswith(f"no copy of {name}: copies are of .pdb") for line in printed) == 1
    assert any(
        line.startswith(f"no copy of {folder / 'long.pdb'}: the chain name 'LONG'") for line in printed
    )


def test_an_error_follows_the_ranking_if_no_copy_could_be_written(
    protemb: Run, structures: Path, tmp_path: Path
) -> None:
    copies = tmp_path / "copies"
    done = protemb("quality", structures / "3wup.json.gz", "-o", tmp_path / "x.csv", "--structures", copies)
    assert done.status == 1 and "no copy could be written" in done.errors[0] and "3wup_A" in done.out
    assert len(table_of(tmp_path / "x.csv")) == 1 and not copies.exists()


def test_no_folder_is_left_if_nothing_could_be_scored(protemb: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.pdb").write_text("")
    done = protemb("quality", tmp_path / "empty.pdb", "--structures", tmp_path / "copies")
    assert done.status == 1 and "the file is empty" in done.errors[0]
    assert [path.name for path in tmp_path.iterdir()] == ["empty.pdb"]


LONG = "x" * 300  # too long for every file system; even checking its existence fails


@pytest.mark.parametrize(
    "command",
    [
        ("search", LONG, "--index", "index"),
        ("search", "1a8o.pdb", "--index", LONG),
        ("predict", "1a8o.pdb", "--head", f"{LONG}.onnx", "-o", "o.csv"),
        ("quality", "1a8o.pdb", "--structures", LONG),
        ("index", "store", "-o", LONG),
    ],
)
def test_impossible_names_give_one_error(
    protemb: Run, model: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("usearch")
    monkeypatch.chdir(model.parent)
    done = protemb(*command)
    assert done.status == 1 and len(done.errors) == 1, done.err
    assert [path.name for path in model.parent.iterdir()] == [model.name]


@pytest.mark.parametrize("command", [["quality", "--plot"], ["plot", "-o"]])
def test_the_extension_is_checked_before_embedding(
    protemb: Run, model: Path, tmp_path: Path, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(Embedder, "embed_chain", lambda *_, **__: pytest.fail("the work has begun"))
    table = ["-o", tmp_path / "x.csv"] if command[0] == "quality" else []
    for name in ("a.foo", "a.pgf"):  # the second would need TeX
        done = protemb(command[0], model, *table, command[1], tmp_path / name)
        assert done.status == 1 and f"{name}: use the extension of an image format" in done.errors[0]
    assert [path.name for path in tmp_path.iterdir()] == [model.name]


def test_an_archive_without_structures_is_an_error(protemb: Run, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "none.tar", "w") as tar:
        tar.add(__file__, "test.py")
    done = protemb("embed", tmp_path / "none.tar", "-o", tmp_path / "out.npz")
    assert done.status == 1 and "none.tar: no structure file in this archive" in done.errors[0]


ENDING = {command: "out.csv" for command in ("sites", "quality", "predict")} | {"report": "out.html"}


@pytest.mark.parametrize("command", ENDING)
def test_a_wrong_output_extension_is_refused(
    protemb: Run, model: Path, label_head: Path, tmp_path: Path, command: str
) -> None:
    options = ["--head", label_head] if command == "predict" else []
    done = protemb(command, model, "-o", tmp_path / "out.txt", *options)
    assert done.status == 1 and f"end the name in {ENDING[command][3:]}" in done.errors[0]
    assert not (tmp_path / "out.txt").exists()


@pytest.mark.parametrize("command", ENDING)
def test_every_command_accepts_the_option_chain(
    protemb: Run, structures: Path, label_head: Path, tmp_path: Path, command: str
) -> None:
    options = ["--head", label_head] if command == "predict" else []
    out, options = tmp_path / ENDING[command], [*options, "--chain", "C", "--altloc", "first", "--threads", 1]
    done = protemb(command, structures / "2beg.pdb.gz", "-o", out, *options)
    assert done.status == 0, done.err
    if command != "report":
        assert {row["chain"] for row in table_of(out)} == {"C"}
    done = protemb(command, structures / "2beg.pdb.gz", structures / "1orc.pdb", "-o", out, *options)
    assert done.status == 1 and done.errors == ["error: --chain goes with exactly one file"]


# --- skipped inputs -----------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["sites", "quality", "report", "predict"])
def test_every_skipped_file_is_named(
    protemb: Run, model: Path, label_head: Path, tmp_path: Path, command: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    shutil.move(model, folder)
    empty = [folder / f"{number:02}.pdb" for number in range(25)]
    for path in empty:
        path.write_text("")
    options = ["--head", label_head] if command == "predict" else []
    done = protemb(command, folder, "-o", tmp_path / ENDING[command], *options)
    assert done.status == 0, done.err
    lines = done.err.splitlines()
    for path in empty:  # once
        assert [line for line in lines if str(path) in line] == [
            f"skipped: {path}: the file is empty; fetch it again"
        ]


def test_a_report_without_chains_is_an_error(protemb: Run, tmp_path: Path) -> None:
    for name in ("empty.pdb", "other.pdb"):
        (tmp_path / name).write_text("")
    done = protemb("report", tmp_path / "empty.pdb", "-o", tmp_path / "x.html")
    assert done.status == 1 and done.errors == [
        f"error: {tmp_path / 'empty.pdb'}: the file is empty; fetch it again"
    ]
    done = protemb("report", tmp_path, "-o", tmp_path / "x.html")
    assert done.status == 1 and done.err.count("skipped: ") == 2 and "none of the 2 inputs" in done.errors[0]
    assert not (tmp_path / "x.html").exists()


@pytest.mark.parametrize("command", ["sites", "quality", "report", "predict"])
def test_archives_are_streamed(
    protemb: Run, structures: Path, label_head: Path, tmp_path: Path, command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A member is embedded before the next one is read."""
    from protemb_sdk._structure import inputs as _inputs

    archive, events = tmp_path / "all.tar", list[str]()
    with tarfile.open(archive, "w") as tar:
        for name in ("1a8o.pdb", "1orc.pdb"):
            tar.add(structures / name, name)
    embed, members = Embedder.embed_chain, _inputs.members

    def embed_chain(self: Embedder, *arguments: object, **options: object) -> Embedding:
        events.append("embedded")
        return embed(self, *arguments, **options)  # type: ignore[arg-type]

    def watched(*arguments: Any) -> Iterator[tuple[str, bytes]]:
        for member in members(*arguments):
            events.append("read")
            yield member

    monkeypatch.setattr(Embedder, "embed_chain", embed_chain)
    monkeypatch.setattr(_inputs, "members", watched)
    options = ["--head", label_head] if command == "predict" else []
    done = protemb(command, archive, "-o", tmp_path / ENDING[command], *options)
    assert done.status == 0, done.err
    assert events == ["read", "embedded"] * 2
