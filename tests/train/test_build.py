"""The corpus command: options, the report, and the corpus of the bundled models."""

import gzip
import json
import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from protemb_sdk._base.errors import OutputError
from protemb_train import cli
from protemb_train.corpus import build
from protemb_train.corpus.build import Recipe, build_corpus
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.corpus.mmseqs import cluster_sequences

needs_mmseqs = pytest.mark.skipif(
    shutil.which("mmseqs") is None, reason="MMseqs2 is not installed (apt install mmseqs2)"
)


def split_of_cluster(corpus):
    return dict(zip(corpus.clusters.tolist(), corpus.table["split"].to_pylist(), strict=True))


def test_keeping_one_chain_per_cluster_does_not_change_the_split(collection, tmp_path):
    build_corpus([str(collection)], tmp_path / "all.arrow", Recipe(seed=3))
    report = build_corpus([str(collection)], tmp_path / "one.arrow", Recipe(seed=3, one_per_cluster=True))
    everything, thin = Corpus(tmp_path / "all.arrow"), Corpus(tmp_path / "one.arrow")
    assert split_of_cluster(thin) == split_of_cluster(everything)
    assert len(thin) == report["chains"] == report["clusters"] < len(everything)
    assert report["others of a cluster removed"] == len(everything) - len(thin)
    ids, clusters = everything.table["id"].to_pylist(), everything.clusters
    assert thin.table["id"].to_pylist() == [
        ids[i] for i in np.sort(np.unique(clusters, return_index=True)[1])
    ]


def test_one_chain_is_kept_per_sequence(structures, tmp_path):
    (tmp_path / "clusters.txt").write_text("2BEG_A\n")
    recipe = Recipe(clusters=str(tmp_path / "clusters.txt"), unique=True)
    report = build_corpus([str(structures / "2beg.pdb.gz")], tmp_path / "c.arrow", recipe)
    assert (report["chains"], report["repeated sequences removed"]) == (1, 4)
    assert Corpus(tmp_path / "c.arrow").table["id"].to_pylist() == ["2BEG_A"]


def test_equal_sequences_are_in_one_split_for_any_cluster_file(structures, collection, tmp_path):
    """Five equal chains, with a cluster file that lists one, and a file and a column that separate them."""
    out = tmp_path / "c.arrow"
    source = str(structures / "2beg.pdb.gz")
    for text in ("2BEG_B\n", "2BEG_A\n2BEG_B\n2BEG_C\n", "9XYZ_A\n2BEG_E 9XYZ_B\n"):
        (tmp_path / "clusters.txt").write_text(text)
        build_corpus([source], out, Recipe(clusters=str(tmp_path / "clusters.txt")))
        assert len(set(Corpus(out).clusters.tolist())) == 1
    z = dict(np.load(collection))
    n = int(z["offsets"][1])
    z["ids"], z["offsets"] = z["ids"][:2].copy(), np.array([0, n, 2 * n])
    z |= {name: np.concatenate([z[name][:n]] * 2) for name in ("seq", "dxyz_milliA", "resnum")}
    np.savez(collection, **z | {"cluster30": np.array([4, 9]), "source": z["source"][:2]})
    report = build_corpus([str(collection)], out, Recipe())
    assert Corpus(out).clusters.tolist() == [4, 4]
    assert report["chains moved to the cluster of their sequence"] == 1


def test_incompatible_options_are_refused(collection, structures, tmp_path):
    out, pdb = tmp_path / "c.arrow", str(structures / "1a8o.pdb")
    with pytest.raises(CorpusError, match="cannot be combined with other sources"):
        build_corpus([pdb, str(collection)], out, Recipe())
    with pytest.raises(CorpusError, match="--drop-source requires a collection"):
        build_corpus([pdb], out, Recipe(drop_sources=("demos",)))
    with pytest.raises(CorpusError, match="structure files contain no clusters"):
        build_corpus([pdb], out, Recipe(clusters="column"))
    entities = tmp_path / "entities.txt"
    entities.write_text("1A8O_1\n")
    with pytest.raises(CorpusError, match="only mmCIF files contain entities"):
        build_corpus([pdb], out, Recipe(clusters=str(entities)))
    assert not out.exists()
    report = build_corpus([str(structures / "1a8o.cif")], out, Recipe(clusters=str(entities)))
    assert report["chains not in the cluster file"] == 0 and not (tmp_path / "c.parts").exists()


@needs_mmseqs
def test_the_command_removes_relatives_and_reports_every_step(collection, traces, structures, tmp_path):
    fasta = tmp_path / "downstream.fasta"
    whole = corpus_of(collection, tmp_path)
    fasta.write_text(f">a\n{whole.table['sequence'][0]}\n")
    out = tmp_path / "c.arrow"
    arguments = ["corpus", str(collection), "-o", str(out), "--avoid", str(fasta)]
    run = CliRunner().invoke(cli.app, arguments)
    assert run.exit_code == 0, run.output
    report = json.loads(out.with_suffix(".json").read_text())
    assert report["relatives removed"] == 1
    assert report["more relatives removed by exact alignment"] == 0
    assert report["chains"] == len(traces) - 1 == sum(report["lengths"].values())
    assert report["sha256"] == Corpus(out).sha256 and report["sha256"] in run.output
    assert report["options"]["avoid"] == ["downstream.fasta"] and report["options"]["thorough"]
    assert "relatives removed" in run.output and "train" in run.output


def test_the_corpus_does_not_overwrite_an_input(collection, structures, tmp_path):
    """This includes the files that are written next to the corpus."""
    folder = tmp_path / "s"
    folder.mkdir()
    (folder / "3wup.json").write_bytes(gzip.decompress((structures / "3wup.json.gz").read_bytes()))
    (tmp_path / "list.json").write_text("s/3wup.json")
    shutil.copy(collection, tmp_path / "own.arrow")
    (tmp_path / "c.json").write_text(">a\nACDEF\n")
    (tmp_path / "x.skipped.csv").write_text("2BEG_A\n")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    a_list = tmp_path / "list.txt"
    a_list.write_text("s/3wup.json")
    avoid = Recipe(avoid=(tmp_path / "c.json",))
    for source, out, recipe in (
        (folder, folder / "3wup.arrow", Recipe()),
        (folder / "*.json", folder / "3wup.arrow", Recipe()),
        (a_list, folder / "3wup.arrow", Recipe()),
        (collection, tmp_path / "c.arrow", avoid),
        (folder, tmp_path / "x.arrow", Recipe(clusters=str(tmp_path / "x.skipped.csv"))),
    ):
        with pytest.raises(OutputError, match="would overwrite the input"):
            build_corpus([str(source)], out, recipe)
    for name in ("c.json", "c", "c.npz"):
        with pytest.raises(OutputError, match=r"end the name in \.arrow"):
            build_corpus([str(collection)], tmp_path / name, Recipe())
    assert all(path.read_bytes() == content for path, content in before.items())
    assert not list(tmp_path.rglob("*.parts"))


def test_other_commands_do_not_overwrite_an_input(collection, tmp_path):
    """The commands name the file that would be overwritten, or require another suffix."""
    corpus, page = tmp_path / "c.arrow", tmp_path / "c.md"
    build_corpus([str(collection)], corpus, Recipe())
    page.write_text(">a\nACDEF\n")
    files = {name: tmp_path / name for name in ("d.npz", "d.json", "d.pt", "d.md", "d-curves.json")}
    for path in files.values():
        path.write_text("mine")
    npz, zero_shot, curves = (str(files[name]) for name in ("d.npz", "d.json", "d-curves.json"))
    cache = ["--cache", str(tmp_path / "cache")]
    table = ["quality", "table", str(tmp_path), *cache, "-o", str(files["d.md"])]
    scorer = ["quality", "scorer", "h", "--rows", str(tmp_path), *cache]
    for arguments in (
        ["prove", str(corpus), "--avoid", str(page), "-o", str(page)],
        ["sites", "start", str(files["d.pt"]), "-o", str(files["d.pt"])],
        ["sites", "overlap", "--data", str(page), "-o", str(page)],
        ["sites", "predictor", "--data", npz, "--start", str(files["d.pt"]), "-o", str(files["d.pt"])],
        [*table, "--real", npz, "--zero-shot", zero_shot],
        [*table, "--real", npz, "--energies", curves],
        [*scorer, "--real", str(files["d.pt"]), "-o", str(files["d.pt"])],
        ["quality", "decoys", npz, "-o", npz],
        ["quality", "casp", str(tmp_path), "--native", npz, "-o", npz],
        ["quality", "names", str(files["d.pt"]), "-o", str(files["d.pt"])],
        ["quality", "zero-shot", "--real", zero_shot, "-o", zero_shot],
        ["quality", "refine", str(page), "-o", str(page)],
    ):
        run = CliRunner().invoke(cli.app, arguments)
        assert isinstance(run.exception, OutputError), arguments
        assert "would overwrite the input" in str(run.exception), arguments
        run = CliRunner().invoke(cli.app, [*arguments, "-o", str(tmp_path / "x.exe")])
        assert "end the name in" in str(run.exception), arguments
    assert all(path.read_text() == "mine" for path in files.values())


def corpus_of(collection, tmp_path):
    build_corpus([str(collection)], tmp_path / "whole.arrow", Recipe())
    return Corpus(tmp_path / "whole.arrow")


@needs_mmseqs
def test_structures_are_clustered_by_mmseqs_by_default(structures, tmp_path):
    out = tmp_path / "c.arrow"
    report = build_corpus([str(structures / "2beg.pdb.gz"), str(structures / "1a8o.cif")], out, Recipe())
    assert (report["chains"], report["clusters"]) == (6, 2)
    assert Corpus(out).clusters.tolist() == cluster_sequences(Corpus(out).table["sequence"].to_pylist(), 0.3)


@needs_mmseqs
@pytest.mark.slow
def test_the_corpus_of_the_bundled_models_is_reproduced_exactly(shared_data, tmp_path):
    avoid = tuple(shared_data / name for name in ("ppi/deepppisp.npz", "ppi/graphppis.npz", "qa/decoys.npz"))
    recipe = Recipe(avoid=avoid, drop_sources=("demos", "af2_foldswitch"))
    report = build_corpus([str(shared_data / "native/corpus.npz")], tmp_path / "c.arrow", recipe)
    assert report["sha256"] == "1e1152a6483a3a7302b6e053374dd706a2b706b6603feaba010817293b09599f"


@pytest.mark.slow
def test_official_entity_clusters_match_real_mmcif_files(shared_data, tmp_path):
    recipe = Recipe(clusters=str(shared_data / "native/clusters-by-entity-30.txt.gz"))
    report = build_corpus([str(shared_data / "structures/mmcif")], tmp_path / "c.arrow", recipe)
    assert report["files"] == 260 and report["chains read"] > 400
    assert report["chains not in the cluster file"] < report["chains read"] / 2
    assert report["of these without an entity"] == 0


def test_an_empty_corpus_is_not_written(collection, tmp_path, monkeypatch):
    monkeypatch.setattr(build, "relatives", lambda queries, targets: set(range(len(targets))))
    (tmp_path / "a.fasta").write_text(">a\nACDEF\n")
    with pytest.raises(CorpusError, match="no chain remains"):
        build_corpus(
            [str(collection)], tmp_path / "c.arrow", Recipe(avoid=(tmp_path / "a.fasta",), thorough=False)
        )
    assert not (tmp_path / "c.arrow").exists()
