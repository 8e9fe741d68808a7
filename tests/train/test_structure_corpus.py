"""A corpus from structure files: invalid files, repeated ids, interruptions, files that crash the reader."""

import csv
import gzip
import os
import shutil
import signal
import subprocess
import sys
import time

import gemmi
import numpy as np
import pytest

from protemb_sdk._base.errors import ProtembError
from protemb_train.corpus import shards
from protemb_train.corpus.build import Recipe, build_corpus
from protemb_train.corpus.chains import Limits, read_file
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.corpus.shards import read_structures
from protemb_train.corpus.sources import find_files


def write_cif(path, coords, name="ALA", entry="9XYZ"):
    """Write a chain of C-alphas."""
    chain = gemmi.Chain("A")
    for i, position in enumerate(coords, start=1):
        residue, atom = gemmi.Residue(), gemmi.Atom()
        residue.name, residue.seqid, residue.het_flag = name, gemmi.SeqId(i, " "), "A"
        atom.name, atom.element, atom.pos = "CA", gemmi.Element("C"), gemmi.Position(*position)
        residue.add_atom(atom)
        chain.add_residue(residue)
    model, structure = gemmi.Model(1), gemmi.Structure()
    model.add_chain(chain)
    structure.add_model(model)
    structure.name, structure.info["_entry.id"] = entry, entry
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(path))
    return path


def helix(length):
    turn = np.deg2rad(100) * np.arange(length)
    return np.stack([2.3 * np.cos(turn), 2.3 * np.sin(turn), 1.5 * np.arange(length)], axis=1)


def reasons(path, **limits):
    rows, skips = read_file(path, Limits(**limits))
    assert rows == [] or not skips
    return [skip.kind for skip in skips]


def test_ids_and_entities_are_taken_from_the_file(structures, tmp_path):
    rows, _ = read_file(structures / "4zhl.cif.gz", Limits(min_length=5))
    assert [(row["id"], row["entity"]) for row in rows] == [("4ZHL_U", "1"), ("4ZHL_P", "2")]
    assert all(row["ca"].dtype == np.float32 and len(row["ca"]) == 3 * len(row["sequence"]) for row in rows)
    (row,), _ = read_file(structures / "pdb1gdr.ent", Limits())
    assert (row["id"], row["entity"]) == ("1GDR_A", "") or row["id"] == "1GDR"
    path = write_cif(tmp_path / "my_model.cif", helix(40), entry="model")
    assert read_file(path, Limits())[0][0]["id"] == "my_model_A"


def test_suitable_chains_are_read_and_others_have_a_reason(structures, tmp_path):
    cif = tmp_path / "x.cif"
    assert reasons(write_cif(cif, helix(40))) == []
    assert reasons(write_cif(cif, helix(1))) == ["too short"]
    assert reasons(write_cif(cif, helix(24))) == ["too short"]
    assert reasons(write_cif(cif, helix(10_000))) == ["too long"]
    assert reasons(write_cif(cif, helix(10_000)), max_length=10_000) == []
    assert reasons(write_cif(cif, helix(40), name="UNK")) == ["unknown residues"]
    assert reasons(write_cif(cif, np.ones((40, 3)))) == ["bad coordinates"]
    assert reasons(write_cif(cif, helix(40) / 10)) == ["bad coordinates"]
    assert reasons(write_cif(cif, helix(40) * 10)) == ["bad coordinates"]
    far = helix(40)
    far[20:] += 1e6
    assert reasons(write_cif(cif, far)) == ["bad coordinates"]
    far[7] = np.inf
    assert reasons(write_cif(cif, far)) in (["bad coordinates"], ["unreadable file"])
    assert reasons(write_cif(cif, helix(40), name="HOH")) == ["not protein"]
    text = (structures / "1a8o.cif").read_text()
    cif.write_text(text[: len(text) // 2])
    assert reasons(cif) == ["unreadable file"]
    cif.write_bytes(gzip.compress(text.encode())[:9000])
    assert reasons(cif) == ["unreadable file"]
    for junk in (b"", b"hello", b"data_\n", b"\x00" * 100):
        cif.write_bytes(junk)
        assert reasons(cif) == ["unreadable file"]
    assert reasons(tmp_path / "missing.cif") == ["unreadable file"]


@pytest.fixture
def folder(structures, tmp_path):
    """Valid and invalid files in nested folders; two files are of the same entry."""
    inside = tmp_path / "in" / "deep"
    inside.mkdir(parents=True)
    for name in ("1a8o.cif", "1a8o.pdb", "1lcd.cif.gz", "2beg.pdb.gz", "4zhl.cif.gz", "3jqh.cif"):
        shutil.copy(structures / name, inside if name[0] in "12" else tmp_path / "in")
    (inside / "cut.cif").write_text((structures / "1a8o.cif").read_text()[:30_000])
    return tmp_path / "in"


def test_an_unreadable_file_does_not_affect_others(folder, tmp_path):
    out = tmp_path / "c.arrow"
    # A cluster file of chains in the format of RCSB.
    (tmp_path / "bc-30.out").write_text("2BEG_A 2BEG_B 2BEG_C 2BEG_D 2BEG_E\n1A8O_A\n4ZHL_U\n")
    recipe = Recipe(clusters=str(tmp_path / "bc-30.out"))
    seen = []
    report = build_corpus([str(folder)], out, recipe, workers=2, progress=lambda *x: seen.append(x))
    assert seen[0] == (0, 7) and seen[-1] == (7, 7)
    corpus = Corpus(out)
    ids = corpus.table["id"].to_pylist()
    assert {"1A8O_A", "1LCD_A", "4ZHL_U", "2BEG_A"} <= set(ids) and len(ids) == len(set(ids))
    clusters = dict(zip(ids, corpus.clusters.tolist(), strict=True))
    assert clusters["2BEG_A"] == clusters["2BEG_E"] == 0 and clusters["4ZHL_U"] == 2
    assert report["chains not in the cluster file"] == sum(c > 2 for c in corpus.clusters)
    with (tmp_path / "c.skipped.csv").open(newline="") as file:
        skipped = list(csv.DictReader(file))
    found = {(row["path"].rpartition("/")[2], row["chain"], row["kind"]) for row in skipped}
    assert ("cut.cif", "", "unreadable file") in found
    assert ("1a8o.pdb", "A", "repeated id") in found
    assert ("1lcd.cif.gz", "B", "not protein") in found
    assert all(row["reason"] for row in skipped)
    assert sum(report["skipped"].values()) == len(skipped)
    assert report["files"] == 7 and report["chains read"] == len(ids) == report["chains"]
    assert sum(report["lengths"].values()) == len(ids)
    assert not (tmp_path / "c.parts").exists() and not list(tmp_path.glob(".*"))


def test_the_table_does_not_depend_on_workers_or_shards(folder, tmp_path, monkeypatch):
    files = find_files(str(folder))
    tables = []
    for size, workers in ((50, 1), (2, 2), (1, 1)):
        monkeypatch.setattr(shards, "FILES_PER_SHARD", size)
        parts = tmp_path / f"parts{size}"
        tables.append(read_structures(files, parts, Limits(), workers=workers)[0])
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])


def test_shards_of_other_files_or_limits_are_not_reused(folder, tmp_path):
    files, parts = find_files(str(folder)), tmp_path / "parts"
    read_structures(files, parts, Limits())
    before = (parts / "000000.arrow").stat().st_mtime_ns
    read_structures(files, parts, Limits())
    assert (parts / "000000.arrow").stat().st_mtime_ns == before
    table, _ = read_structures(files, parts, Limits(min_length=100))
    assert min(map(len, table["sequence"].to_pylist())) >= 100
    foreign = tmp_path / "photos"
    foreign.mkdir()
    (foreign / "cat.png").touch()
    with pytest.raises(CorpusError, match="photos: exists and is not a folder"):
        read_structures(files, foreign, Limits())
    assert (foreign / "cat.png").exists()


@pytest.mark.parametrize("key", ["mine", "a" * 64, "-----BEGIN PRIVATE KEY-----\nMIIE\n", "\u00e9", None])
def test_an_unrelated_folder_is_not_changed(folder, collection, tmp_path, key):
    parts = tmp_path / "c.parts"
    parts.mkdir()
    (parts / "cat.png").write_text("meow")
    if key is not None:
        (parts / "key").write_text(key)
    before = {path: path.read_text() for path in parts.iterdir()}
    with pytest.raises(CorpusError, match=r"c\.parts: exists and is not a folder of unfinished work; move"):
        build_corpus([str(folder)], tmp_path / "c.arrow", Recipe(clusters="column"))
    build_corpus([str(collection)], tmp_path / "c.arrow", Recipe())
    assert {path: path.read_text() for path in parts.iterdir()} == before
    parts.rename(tmp_path / "moved")
    parts.write_text("a file")
    with pytest.raises(CorpusError, match="is not a folder of unfinished work; move it elsewhere"):
        read_structures(find_files(str(folder)), parts, Limits())


def test_unrelated_files_among_shards_are_kept(folder, tmp_path):
    files, parts = find_files(str(folder)), tmp_path / "c.parts"
    read_structures(files, parts, Limits())
    (parts / "cat.png").write_text("meow")
    (parts / ".000000.arrow.killed").mkdir()
    read_structures(files[:2], parts, Limits())
    shards.remove_parts(parts)
    assert [path.name for path in parts.iterdir()] == ["cat.png"]


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from protemb_train.corpus import build, shards

shards.FILES_PER_SHARD = 1
plain = shards.read_file

def read_file(path, limits):  # a worker runs this too: it imports the script
    if "deadly" in path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(float(sys.argv[4]))
    return plain(path, limits)

shards.read_file = read_file

if __name__ == "__main__":
    recipe = build.Recipe(clusters=sys.argv[3])
    build.build_corpus([sys.argv[1]], Path(sys.argv[2]), recipe, workers=2)
"""


@pytest.fixture
def command(tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "clusters.txt").write_text("1A8O_A\n2BEG_A\n")

    def make(source, out, pause=0.0):
        fixed = [sys.executable, str(tmp_path / "script.py")]
        return [*fixed, str(source), str(out), str(tmp_path / "clusters.txt"), str(pause)]

    return make


def test_a_killed_run_can_be_resumed_with_the_same_result(folder, tmp_path, command):
    subprocess.run(command(folder, tmp_path / "whole.arrow"), check=True)
    out, parts = tmp_path / "killed.arrow", tmp_path / "killed.parts"
    run = subprocess.Popen(command(folder, out, pause=1.0))
    while len(list(parts.glob("0*.arrow"))) < 2:
        assert run.poll() is None
        time.sleep(0.02)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not out.exists()
    time.sleep(0.3)
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("0*.arrow")}
    assert 2 <= len(kept) < 7
    rest = subprocess.Popen(command(folder, out, pause=0.3))
    while rest.poll() is None:
        if parts.exists():
            now = {path: _time(path) for path in kept}
            assert all(found in (None, kept[path]) for path, found in now.items())
        time.sleep(0.02)
    assert rest.returncode == 0 and not parts.exists()
    assert out.read_bytes() == (tmp_path / "whole.arrow").read_bytes()
    assert out.with_suffix(".skipped.csv").read_bytes() == (tmp_path / "whole.skipped.csv").read_bytes()


def _time(path):
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None


def test_workers_end_with_a_killed_parent(folder, tmp_path, command):
    run = subprocess.Popen(command(folder, tmp_path / "c.arrow", pause=60))
    children = f"/proc/{run.pid}/task/{run.pid}/children"
    if not os.path.exists(children):
        run.kill()
        pytest.skip("needs the list of child processes in /proc")
    while not list((tmp_path / "c.parts").glob("*.reading")):
        assert run.poll() is None
        time.sleep(0.05)
    with open(children) as file:
        pids = file.read().split()
    assert len(pids) >= 2
    run.kill()
    run.wait()
    end = time.monotonic() + 20
    while any(os.path.exists(f"/proc/{pid}/cmdline") and _is_running(pid) for pid in pids):
        assert time.monotonic() < end
        time.sleep(0.1)


def _is_running(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_file_that_kills_its_reader_is_reported_and_skipped(folder, tmp_path, command):
    subprocess.run(command(folder, tmp_path / "whole.arrow"), check=True)
    shutil.copy(folder / "4zhl.cif.gz", folder / "deadly.cif.gz")
    done = subprocess.run(command(folder, tmp_path / "c.arrow"), check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "c.arrow").read_bytes() == (tmp_path / "whole.arrow").read_bytes()
    listing = (tmp_path / "c.skipped.csv").read_text()
    assert 'deadly.cif.gz,,deadly file,"ends the process that reads it' in listing


def test_sources_can_be_lists_glob_patterns_and_files(folder, tmp_path):
    everything = find_files(str(folder))
    assert len(everything) == 7 and everything == sorted(everything)
    assert find_files(str(folder / "**" / "*.cif.gz")) == [f for f in everything if f.name.endswith("f.gz")]
    (folder / "some.txt").write_text("# mine\ndeep/1a8o.cif\n\nmissing.cif\n")
    found = find_files(str(folder / "some.txt"))
    assert found == [folder / "deep/1a8o.cif", folder / "missing.cif"]
    assert find_files(str(folder / "deep/1a8o.pdb")) == [folder / "deep/1a8o.pdb"]
    (folder / "some.txt").write_text("missing.cif\n")
    for source in ("some.txt", "*.png", "nothing"):
        with pytest.raises(ProtembError, match=source.replace("*", r"\*")):
            find_files(str(folder / source))
    (folder / "binary").write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match="neither a structure file"):
        find_files(str(folder / "binary"))


def test_without_suitable_chains_the_error_names_the_list_of_reasons(tmp_path):
    path = write_cif(tmp_path / "x.cif", helix(5))
    with pytest.raises(
        CorpusError, match=r"no chain of the 1 files is suitable; .*c\.skipped\.csv lists the reasons"
    ):
        build_corpus([str(path)], tmp_path / "c.arrow", Recipe())
    assert "too short" in (tmp_path / "c.skipped.csv").read_text()
