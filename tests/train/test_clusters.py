"""Cluster files in both official layouts, and chains that are not in the file."""

import gzip

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protemb_train.corpus.clusters import (
    cluster_by_column,
    cluster_by_file,
    first_of_each,
    parse_clusters,
    read_clusters,
)
from protemb_train.corpus.corpus import CorpusError, split_by_cluster

entries = st.from_regex(r"[1-9][A-Z0-9]{3}|AF_AFP[0-9]{5}F1", fullmatch=True)


def members(parts):
    return st.lists(st.tuples(entries, parts).map("_".join), unique_by=str.upper, min_size=1, max_size=30)


@given(st.data())
def test_parsing_recovers_written_clusters(data):
    by_entity = data.draw(st.booleans())
    pattern = r"[1-9][0-9]?" if by_entity else r"[A-Z]{1,3}"
    named = data.draw(members(st.from_regex(pattern, fullmatch=True)))
    line_of = data.draw(st.lists(st.integers(0, 4), min_size=len(named), max_size=len(named)))
    lines = [" ".join(m for m, n in zip(named, line_of, strict=True) if n == line) for line in range(5)]
    file = parse_clusters("\n".join(lines) + "\n")
    assert file.by_entity is by_entity
    assert file.cluster_of == dict(zip(named, line_of, strict=True))


@given(st.text(max_size=60))
def test_any_text_is_parsed_or_refused_with_one_line(text):
    try:
        file = parse_clusters(text)
    except CorpusError as error:
        assert "\n" not in str(error)
    else:
        assert file.cluster_of


@given(st.lists(st.integers(0, 20), min_size=1), st.integers(0, 5))
def test_splits_keep_clusters_whole_with_one_or_all_chains(clusters, seed):
    clusters = np.array(clusters)
    splits = np.array(split_by_cluster(clusters, seed))
    assert all(len(set(splits[clusters == c])) == 1 for c in clusters)
    first = first_of_each(clusters)
    assert len(set(clusters[first])) == len(first) == len(set(clusters))
    assert all(clusters[i] not in clusters[:i] for i in first)
    assert split_by_cluster(clusters[first], seed) == splits[first].tolist()


@pytest.fixture
def table():
    return pa.table(
        {
            "id": ["1ABC_A", "1ABC_B", "2XYZ_a", "my_model_A", "my_model_B", "7NEW_A"],
            "sequence": ["AAA", "CCC", "DDD", "EEE", "FFF", "EEE"],
            "cluster": pa.array([-1] * 6, type=pa.int64()),
            "entity": ["1", "2", "1", "", "", "1"],
        }
    )


def test_chains_are_assigned_by_entity(table, tmp_path):
    path = tmp_path / "clusters-by-entity-30.txt"
    path.write_text("9ZZZ_1\n1abc_2 2XYZ_1\n1ABC_1\n")
    found, counts = cluster_by_file(table, path)
    # Chains that are not in the file get new clusters, one for each sequence.
    assert found["cluster"].to_pylist() == [2, 1, 1, 3, 4, 3]
    assert counts == {"chains not in the cluster file": 3, "of these without an entity": 2}


def test_chains_are_assigned_by_name(table, tmp_path):
    path = tmp_path / "bc-30.out.gz"
    path.write_bytes(gzip.compress(b"2XYZ_A 1ABC_B\n2XYZ_a\n"))
    found, counts = cluster_by_file(table, path)
    assert found["cluster"].to_pylist() == [2, 0, 1, 3, 4, 3]  # chain names are case-sensitive
    assert counts == {"chains not in the cluster file": 4}


def test_an_unlisted_chain_gets_the_cluster_of_its_sequence(table, tmp_path):
    path = tmp_path / "bc-30.out"
    path.write_text("1ABC_A\n7NEW_A\n1ABC_B\n")
    found, counts = cluster_by_file(table, path)
    assert found["cluster"].to_pylist() == [0, 2, 3, 1, 4, 1]  # my_model_A has the sequence of 7NEW_A
    assert counts == {"chains not in the cluster file": 3}


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(-1, 5)), min_size=1), st.integers(0, 5))
def test_equal_sequences_are_always_in_one_cluster(tmp_path_factory, chains, seed):
    names = [f"1ABC_{n}" for n in range(len(chains))]
    table = pa.table(
        {
            "id": names,
            "sequence": ["ACDEFG"[s] * 30 for s, _ in chains],
            "cluster": pa.array([c for _, c in chains], type=pa.int64()),
            "entity": [str(n) for n in range(len(chains))],
        }
    )
    path = tmp_path_factory.mktemp("c") / "c.txt"
    lines = (" ".join(n for n, (_, c) in zip(names, chains, strict=True) if c == k) for k in range(6))
    path.write_text("\n".join([*lines, "9ZZZ_1"]))
    made = [cluster_by_column(table)]
    if any(c >= 0 for _, c in chains):
        made.append(cluster_by_file(table, path))
    for found, _ in made:
        assert len(set(zip(found["sequence"].to_pylist(), found["cluster"].to_pylist(), strict=True))) == len(
            set(found["sequence"].to_pylist())
        )


def test_cluster_files_without_any_of_the_chains_are_refused(table, tmp_path):
    path = tmp_path / "c.txt"
    path.write_text("9ZZZ_1 8YYY_2\n")
    with pytest.raises(CorpusError, match=r"contains entities .* none of the 6 chains \(1ABC_A, \.\.\.\)"):
        cluster_by_file(table, path)
    with pytest.raises(CorpusError, match="only mmCIF files contain entities"):
        cluster_by_file(table.drop_columns(["entity"]), path)
    path.write_text("9ZZZ_A\n")
    with pytest.raises(CorpusError, match=r"contains chains .* --clusters mmseqs"):
        cluster_by_file(table, path)


@pytest.mark.parametrize("content", [None, b"", b"\n\n", b"1ABC 2XYZ", b"\xff\xfe", b"\x1f\x8bcut", b"_1"])
def test_invalid_cluster_files_are_refused(tmp_path, content):
    path = tmp_path / "c.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CorpusError, match=r"c\.txt"):
        read_clusters(path)


@pytest.mark.parametrize("name", ["clusters-by-entity-30.txt.gz", "clusters-by-chain-100.txt.gz"])
def test_the_official_files_are_read(shared_data, name):
    file = read_clusters(shared_data / "native" / name)
    assert file.by_entity is ("entity" in name)
    assert len(file.cluster_of) > 250_000
    assert len(set(file.cluster_of.values())) > 36_000
