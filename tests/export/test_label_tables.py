"""Tables of labels: matching of rows with residues, and errors for invalid tables."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from protemb_export import cli
from protemb_sdk import read_chains
from protemb_train.downstream.labels.table import LabelError, class_counts, read_labels

from .conftest import Run, written


def test_rows_are_matched_with_residues(structures: Path, tmp_path: Path) -> None:
    rows = [
        ("1ORC", "", "56A", "x"),
        ("1orc.pdb", "A", "4", "y"),
        ("1orc", "A", "999", "x"),
        ("none", "", "1", "x"),
    ]
    table = read_labels(
        written(tmp_path / "t.csv", "structure chain residue label", rows), structures, "residue"
    )
    (labelled,) = table.chains
    chain = labelled.chain
    known = np.flatnonzero(np.isfinite(labelled.label))
    numbers = [f"{chain.auth_seq[n]}{chain.insertion_code[n]}" for n in known]
    assert dict(zip(numbers, labelled.label[known], strict=True)) == {"4": 1.0, "56A": 0.0}
    assert table.unmatched == 2 and class_counts(table) == {"x": 1, "y": 1}


def test_author_chain_names_have_priority(shared_data: Path, tmp_path: Path) -> None:
    """In 3li6 the chain with author name J has the label name D."""
    file = shared_data / "structures" / "mmcif" / "3li6.cif.gz"
    chains = read_chains(file).chains
    assert {("D", "B"), ("J", "D")} <= {(chain.chain_id, chain.label_chain) for chain in chains}
    rows = [("3li6", "D", "x"), ("3li6", "A", "y")]
    table = read_labels(written(tmp_path / "t.csv", "structure chain label", rows), file, "protein")
    assert {each.id: each.label.item() for each in table.chains} == {"3li6_A": 1.0, "3li6_D": 0.0}
    assert table.unmatched == 0


def test_label_chain_names_are_used_if_no_author_name_matches(structures: Path, tmp_path: Path) -> None:
    chain = next(c for c in read_chains(structures / "1lcd.cif.gz").chains if c.label_chain != c.chain_id)
    rows = [("1lcd.cif.gz", chain.label_chain, "x"), ("none", "", "y")]
    table = read_labels(written(tmp_path / "t.csv", "structure chain label", rows), structures, "protein")
    assert [each.id for each in table.chains] == [chain.id] and table.unmatched == 1


def test_file_names_may_contain_dots(structures: Path, tmp_path: Path) -> None:
    for name, source in (("run.model1.pdb", "1a8o.pdb"), ("run.model2.pdb", "1orc.pdb")):
        (tmp_path / name).write_bytes((structures / source).read_bytes())
    for rows, labelled in (
        ([("run.model1.pdb", "x"), ("nothing.pdb", "y")], {"run.model1_A": 0.0}),
        ([("run.model1.pdb", "x"), ("run.model2", "y")], {"run.model1_A": 0.0, "run.model2_A": 1.0}),
    ):
        path = written(tmp_path / "t.csv", "structure label", rows)
        table = read_labels(path, tmp_path, "protein")
        assert {each.id: each.label.item() for each in table.chains} == labelled
        assert table.unmatched == 2 - len(labelled)


def test_rows_without_a_residue_are_counted(structures: Path, tmp_path: Path) -> None:
    """Repeated rows are not counted, and other files do not matter."""
    one, two = ("1a8o.pdb", "A", "x"), ("1orc", "A", "y")
    for rows, unmatched in (
        ([one, two, two], 0),
        ([two, two, ("pdb1gdr", "", "x")], 0),
        ([one, ("1orc", "Z", "y")], 1),
        ([one, two, ("1orc", "", "y")], 0),
    ):
        path = written(tmp_path / "t.csv", "structure chain label", rows)
        assert read_labels(path, structures, "protein").unmatched == unmatched


@pytest.mark.parametrize(
    ("values", "classes"),
    [
        ("0 1 1", ("0", "1")),
        ("0 1 0.0 1.0 +1 1e0", ("0", "1")),
        ("0.5 1 2", None),
        (" ".join(["0"] + [f"1.{'0' * n}" for n in range(1, 12)]), ("0", "1")),
        ("none some", ("none", "some")),
        (" ".join(map(str, range(11))), None),
        ("a 1 2", ("1", "2", "a")),
    ],
)
def test_words_and_few_integers_are_read_as_classes(
    structures: Path, tmp_path: Path, values: str, classes: tuple[str, ...] | None
) -> None:
    rows = [("1a8o.pdb", "A", 151 + n, value) for n, value in enumerate(values.split())]
    path = written(tmp_path / "t.csv", "structure chain residue label", rows)
    assert read_labels(path, structures, "residue").classes == classes


@pytest.mark.parametrize(
    ("header", "rows", "sentence"),
    [
        ("structure chain label", [("1a8o", "A", "x")], "has no column 'residue'"),
        (
            "structure residue label",
            [("1a8o.pdb", "151", "x"), ("1a8o.pdb", "", "y")],
            "line 3: structure, label, residue",
        ),
        (
            "structure residue label",
            [("1a8o.pdb", "151", "x"), ("1a8o.pdb", "151", "y")],
            "line 3: a second label",
        ),
        ("structure residue label", [("1a8o.pdb", "151", "x")], "fewer than two different labels"),
        (
            "structure residue label",
            [("1orc", "4", "x"), ("1a8o", "151", "y")],
            r"line 3: 1a8o may be .*1a8o\.cif or .*1a8o\.pdb; use the name with its suffixes",
        ),
        (
            "structure chain residue label",
            [("1orc", "", "4", "x"), ("1orc.pdb", "A", "4", "y")],
            "line 3: a second label for 1orc_A 4; remove one",
        ),
        ("structure residue label", [("9xyz", "1", "x"), ("9xyz", "2", "y")], "no row matches a chain"),
        ("structure residue label", [("1a8o.pdb", "1", "nan"), ("1a8o.pdb", "2", "1")], "line 2: 'nan' is"),
        (
            "structure residue label",
            [("1a8o.pdb", "1", "yes"), ("1a8o.pdb", "2", "NA")],
            "line 3: 'NA' is no",
        ),
        (
            "structure residue label",
            [("1a8o.pdb", "1", "1"), ("1a8o.pdb", "2", "-inf")],
            "line 3: '-inf' is no",
        ),
        ("structure residue label", [("1a8o.pdb", "1", "1"), ("1a8o.pdb", "2", "1.0")], "fewer than two"),
    ],
)
def test_invalid_tables_are_refused(
    structures: Path, tmp_path: Path, header: str, rows: list[tuple[object, ...]], sentence: str
) -> None:
    with pytest.raises(LabelError, match=sentence):
        read_labels(written(tmp_path / "t.csv", header, rows), structures, "residue")


def test_too_few_chains_are_refused(structures: Path, tmp_path: Path, command: Run) -> None:
    rows = [("1a8o.pdb", "A", number, "xy"[number % 2]) for number in range(151, 160)]
    path = written(tmp_path / "t.csv", "structure chain residue label", rows)
    options = ("--labels", path, "--structures", structures, "-o", tmp_path / "x.onnx")
    status, _, err = command(cli, "finetune", *options)
    assert status == 1 and "chains have labels; at least 10 are required" in err
    status, _, err = command(cli, "finetune", *options, "--task", "atom")
    assert status == 1 and "--task must be residue or protein, not 'atom'" in err
    assert [file.name for file in tmp_path.iterdir()] == ["t.csv"]
    with pytest.raises(LabelError, match="cannot be read as a table"):
        read_labels(tmp_path / "none.csv", structures, "residue")
