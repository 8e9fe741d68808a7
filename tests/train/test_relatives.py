"""Search for relatives with MMseqs2 and exact alignment, and the check that a corpus contains none."""

import shutil

import numpy as np
import pytest
from typer.testing import CliRunner

from protemb_sdk._structure.chain import ALPHABET
from protemb_train import cli
from protemb_train.corpus.alignment import Hit, related
from protemb_train.corpus.corpus import Corpus, CorpusError
from protemb_train.corpus.exact import exact_relatives, exact_search
from protemb_train.corpus.mmseqs import cluster_sequences, relatives
from protemb_train.corpus.prove import prove, search_result

LETTERS = "ACDEFGHIKLMNPQRSTVWY"

needs_mmseqs = pytest.mark.skipif(
    shutil.which("mmseqs") is None, reason="MMseqs2 is not installed (apt install mmseqs2)"
)


def random_sequence(rng, length):
    return "".join(rng.choice(list(LETTERS), size=length))


def mutated(rng, sequence, share):
    return "".join(rng.choice(list(LETTERS)) if rng.random() < share else letter for letter in sequence)


@pytest.fixture(scope="session")
def sequences(traces):
    return ["".join(ALPHABET[t] for t in trace.residue_type) for trace in traces]


@pytest.fixture
def searched(sequences):
    """A query and targets: two unrelated ones, a mutated copy, long ones with the query or a part of it."""
    query = max(sequences, key=len)[:200]
    rng = np.random.default_rng(0)
    inside = random_sequence(rng, 900) + query + random_sequence(rng, 900)
    scrap = random_sequence(rng, 300) + query[:60] + random_sequence(rng, 300)
    return query, [random_sequence(rng, 300), mutated(rng, query, 0.3), sequences[0], inside, scrap]


@needs_mmseqs
def test_mmseqs_finds_relatives_only(searched):
    query, targets = searched
    assert relatives([query], targets) == {1, 3}
    assert relatives([], targets) == set()


def test_exact_alignment_finds_relatives_only(searched):
    query, targets = searched
    assert exact_relatives([query], targets) == {1, 3}
    assert exact_relatives(["", query, query], targets, threads=2) == {1, 3}
    assert exact_relatives([], targets) == set() == exact_relatives([query], [])


def test_exact_alignment_agrees_with_biotite(sequences):
    """Biotite gives the same score (and so the same E-value), identity and coverage."""
    align = pytest.importorskip("biotite.sequence.align")
    from biotite.sequence import ProteinSequence

    rng = np.random.default_rng(1)
    query = sequences[0]
    target = random_sequence(rng, 20) + mutated(rng, query[:30] + query[36:], 0.4) + random_sequence(rng, 30)
    (hit,) = exact_search([query], [target], e_value=1.0)
    matrix = align.SubstitutionMatrix.std_protein_matrix()  # BLOSUM62
    pair = (ProteinSequence(query), ProteinSequence(target))
    # In Biotite and in Opal the first residue of a gap costs the gap opening penalty alone.
    best = align.align_optimal(*pair, matrix, gap_penalty=(-12, -1), local=True, max_number=1)[0]
    assert hit.e_value == pytest.approx(0.041 * len(query) * len(target) * np.exp(-0.267 * best.score))
    assert hit.identity == pytest.approx(align.get_sequence_identity(best, mode="all"))
    rows = best.trace[:, 0][best.trace[:, 0] >= 0]
    assert hit.coverage == pytest.approx((rows[-1] - rows[0] + 1) / len(query))


def test_letters_outside_the_matrix_are_treated_as_unknown_residues():
    (hit,) = exact_search(["ACDEFGHIKLMNPQRSTVWYUO*bz" * 2], ["acdefghiklmnpqrstvwy" * 3], e_value=10)
    assert hit.identity > 0.3


def test_all_three_limits_must_be_met():
    assert related(Hit(0, 0, 0.3, 0.5, 1e-3))
    for hit in (Hit(0, 0, 0.299, 1, 0), Hit(0, 0, 1, 0.499, 0), Hit(0, 0, 1, 1, 2e-3)):
        assert not related(hit)
    assert related(Hit(0, 0, 1, 1, 2e-3), e_value=1e-2)


def test_the_margin_is_given_by_the_closest_unrelated_hits():
    hits = [Hit(0, 0, *v) for v in ((0.29, 0.9, 0), (0.2, 0.9, 0), (0.5, 0.4, 0), (0.6, 0.7, 0.02))]
    found = search_result("x", 1, hits)
    assert (found.identity, found.coverage, found.e_value) == (0.29, 0.4, 0.02)
    assert found.relatives == []
    assert np.isnan(search_result("x", 1, []).identity)


def test_missing_mmseqs_is_reported_with_a_solution(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(CorpusError, match="apt install mmseqs2"):
        relatives(["ACDEF"], ["ACDEF"])
    with pytest.raises(CorpusError, match="pass a cluster file"):
        cluster_sequences(["ACDEF"], 0.3)


@needs_mmseqs
def test_mmseqs_clusters_similar_sequences(sequences):
    rng = np.random.default_rng(2)
    first, second = sequences[0], random_sequence(rng, 150)
    like = [first, second, mutated(rng, first, 0.2), second, "X" * 40, mutated(rng, second, 0.1)]
    assert cluster_sequences(like, 0.3) == [0, 1, 0, 1, 2, 1]


@needs_mmseqs
def test_prove_fails_for_a_relative_and_lists_it(make_corpus, sequences, tmp_path):
    rng = np.random.default_rng(3)
    strangers = [random_sequence(rng, 120) for _ in range(4)]
    chains = [(s, np.zeros((len(s), 3)), i) for i, s in enumerate([*strangers, sequences[0]])]
    corpus = make_corpus(chains)
    fasta = tmp_path / "downstream.fasta"
    fasta.write_text(f">a\n{mutated(rng, sequences[0], 0.3)}\n>b\n{random_sequence(rng, 90)}\n")
    arguments = ["prove", str(corpus.path), "--avoid", str(fasta), "-o", str(tmp_path / "proof.md")]
    run = CliRunner().invoke(cli.app, arguments)
    assert run.exit_code == 1
    page = (tmp_path / "proof.md").read_text()
    assert "Relatives found: 1 of 5 chains" in page and page.count("| chain4 |") == 2
    assert corpus.sha256 in page and page in run.output

    arguments[3] = str(tmp_path / "strangers.fasta")
    (tmp_path / "strangers.fasta").write_text(f">b\n{random_sequence(rng, 90)}\n")
    run = CliRunner().invoke(cli.app, arguments)
    assert run.exit_code == 0, run.output
    assert "No relative found" in (tmp_path / "proof.md").read_text()


def test_prove_refuses_an_empty_set_of_sequences(make_corpus, sequences, tmp_path):
    corpus = make_corpus([(sequences[0], np.zeros((len(sequences[0]), 3)), 0)])
    with pytest.raises(CorpusError, match="there is no downstream sequence to search"):
        prove(corpus, ["", ""])
    np.savez(tmp_path / "e.npz", seq=np.zeros(0, dtype=np.uint8), offset=np.zeros(1, dtype=int))
    run = CliRunner().invoke(cli.app, ["prove", str(corpus.path), "--avoid", str(tmp_path / "e.npz")])
    assert run.exit_code != 0 and "No relative" not in run.output


@needs_mmseqs
def test_a_sample_keeps_the_indices_of_the_sequences(make_corpus, sequences):
    rng = np.random.default_rng(4)
    corpus = make_corpus([(s, np.zeros((len(s), 3)), i) for i, s in enumerate(sequences)])
    queries = [random_sequence(rng, 90), sequences[1], random_sequence(rng, 30)]
    proof = prove(Corpus(corpus.path), queries, sample=3)
    assert [{h.query for h in o.relatives} for o in proof.searches] == [{1}, {1}]
    assert prove(corpus, queries, sample=2).searches[1].queries == 2
