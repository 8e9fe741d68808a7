"""Mutation tests: change the code of the SDK in one place, and run the tests that should then fail.

    python tests/mutants.py                     # all groups, into tests/mutants.md and mutants.txt: an hour
    python tests/mutants.py store --sample 20   # 20 mutants of one group, printed only

Cosmic Ray makes the mutations. Each is written into a copy of the SDK, and the tests of its group run on it.
A mutant is killed if a test fails, or if the tests take more than five times as long.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version
from pathlib import Path

from cosmic_ray import mutating, plugins

ROOT = Path(__file__).resolve().parents[1]
SDK = ROOT / "sdk" / "protemb_sdk"
RESULTS = Path(__file__).with_name("mutants.md")
SURVIVORS = RESULTS.with_suffix(".txt")
SEED = 0

GROUPS: dict[str, tuple[list[str], list[str]]] = {  # modules, and their tests
    "pooling": (
        ["_model/pooling", "_model/residue", "_model/readouts"],
        ["sdk/test_pooling.py", "sdk/test_readouts.py", "sdk/test_embedding.py"],
    ),
    "structure": (
        ["_structure/reader", "_structure/files", "_base/folders", "_structure/tables", "_structure/protein",
         "_structure/chain"],
        ["sdk/test_structure_edges.py", "sdk/test_chain.py", "sdk/test_structure_objects.py",
         "sdk/test_structure.py", "sdk/test_structure_input.py", "sdk/test_structure_laws.py",
         "sdk/test_limits.py", "sdk/test_reading_kept.py", "sdk/test_folders.py"],
    ),
    "store": (
        ["_store/writer", "_store/parts", "_embed/rows", "_store/fill"],
        ["sdk/test_store.py", "sdk/test_store_again.py", "sdk/test_store_damage.py", "sdk/test_pair_maps.py"],
    ),
}  # fmt: skip
# Tests that are not run: of other modules, with the large data, or slow.
LEFT_OUT = (
    "not shared and not takes_little_longer and not after_a_kill and not workers and not torch "
    "and not time_limit_stops and not compression_of_maps and not does_not_count_towards"
)

# One or two replacements for each operator.
OPERATORS = [
    "ReplaceBinaryOperator_Add_Sub", "ReplaceBinaryOperator_Sub_Add", "ReplaceBinaryOperator_Mul_Div",
    "ReplaceBinaryOperator_Div_Mul", "ReplaceBinaryOperator_FloorDiv_Mul", "ReplaceBinaryOperator_Mod_Add",
    "ReplaceBinaryOperator_Pow_Mul", "ReplaceBinaryOperator_BitOr_BitAnd",
    "ReplaceBinaryOperator_BitAnd_BitOr", "ReplaceComparisonOperator_Eq_NotEq",
    "ReplaceComparisonOperator_NotEq_Eq", "ReplaceComparisonOperator_Lt_LtE",
    "ReplaceComparisonOperator_Lt_GtE", "ReplaceComparisonOperator_LtE_Lt",
    "ReplaceComparisonOperator_LtE_Gt", "ReplaceComparisonOperator_Gt_GtE",
    "ReplaceComparisonOperator_Gt_LtE", "ReplaceComparisonOperator_GtE_Gt",
    "ReplaceComparisonOperator_GtE_Lt", "ReplaceComparisonOperator_Is_IsNot",
    "ReplaceComparisonOperator_IsNot_Is", "ReplaceUnaryOperator_Delete_USub",
    "ReplaceUnaryOperator_Delete_Invert", "ReplaceUnaryOperator_Delete_Not", "AddNot", "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd", "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak", "NumberReplacer", "ZeroIterationForLoop",
]  # fmt: skip


@dataclass(frozen=True)
class Mutant:
    """A module with one change."""

    module: str
    operator: str
    source: str

    def change(self) -> str:
        """Return the file, the number of the line, and the line with its change as `{old -> new}`."""
        before = (SDK / f"{self.module}.py").read_text().splitlines()
        after = self.source.splitlines()
        number = next(n for n, pair in enumerate(zip(before, after, strict=False)) if pair[0] != pair[1])
        return f"{self.module}.py:{number + 1}: {marked(before[number].strip(), after[number].strip())}"


def marked(before: str, after: str) -> str:
    """Return a line with the change as `{old -> new}`."""
    old, new = (re.findall(r"\w+|\s+|[^\w\s]+", line) for line in (before, after))
    parts = []
    for kind, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        same = "".join(old[a:b])
        parts.append(same if kind == "equal" else f"{{{same.strip()} -> {''.join(new[c:d]).strip()}}}")
    return re.sub(r"\{ -> \}", "", "".join(parts))


def meaning(source: str) -> str:
    """Return code without annotations and documentation."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Name("object")
        elif isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "not TYPE_CHECKING"):
            node.test, node.body = ast.Name("TYPE_CHECKING"), [ast.Pass()]
    return ast.unparse(tree)


def mutants(module: str) -> list[Mutant]:
    """Return all mutants of a module whose code differs."""
    source = (SDK / f"{module}.py").read_text()
    found, known = [], {meaning(source)}
    for name in OPERATORS:
        operator = plugins.get_operator(f"core/{name}")()
        for occurrence in range(10_000):
            changed = mutating.mutate_code(source, operator, occurrence)
            if changed is None:
                break
            try:
                about = meaning(changed)
            except SyntaxError:
                continue
            if about not in known:
                known.add(about)
                found.append(Mutant(module, name, changed))
    return found


def outcome(tests: list[str], copy: Path, limit: float) -> tuple[str, float]:
    """Run tests on a copy of the SDK; return "survived", "killed" or "too long", and the seconds."""
    start = time.monotonic()
    command = [
        sys.executable, "-B", "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", LEFT_OUT, "--tb=no",
        *(str(ROOT / "tests" / test) for test in tests),
    ]  # fmt: skip
    run = subprocess.Popen(
        command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)}, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        result = "survived" if run.wait(limit) == 0 else "killed"
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.wait()
        result = "too long"
    return result, time.monotonic() - start


def prepare(copy: Path) -> None:
    """Copy the SDK, so that the copy can be changed."""
    shutil.copytree(SDK, copy / "protemb_sdk", ignore=shutil.ignore_patterns("bundled", "__pycache__"))
    (copy / "protemb_sdk" / "bundled").symlink_to(SDK / "bundled")


def judge(group: str, sample: int, copy: Path) -> tuple[int, int, int, list[Mutant]]:
    """Return the numbers of mutants, of tested and of killed ones, and the surviving mutants."""
    modules, tests = GROUPS[group]
    every = [mutant for module in modules for mutant in mutants(module)]
    some = random.Random(SEED).sample(every, min(sample, len(every)))
    result, seconds = outcome(tests, copy, 600)
    assert result == "survived", "the tests fail without a mutation"
    survivors = []
    for count, mutant in enumerate(some, start=1):
        file = copy / "protemb_sdk" / f"{mutant.module}.py"
        file.write_text(mutant.source)
        result, took = outcome(tests, copy, 5 * seconds + 5)
        shutil.copy(SDK / f"{mutant.module}.py", file)
        if result == "survived":
            survivors.append(mutant)
            print(f"  survived: {mutant.operator}: {mutant.change()}", flush=True)
        print(
            f"{group} {count}/{len(some)}: {result} in {took:.1f} s, {len(survivors)} survivors", flush=True
        )
    return len(every), len(some), len(some) - len(survivors), survivors


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("groups", nargs="*", help=", ".join(GROUPS))
    parser.add_argument("--sample", type=int, default=200)
    options = parser.parse_args()
    rows, survived = [], []
    with tempfile.TemporaryDirectory() as folder:
        prepare(Path(folder))
        for group in options.groups or GROUPS:
            every, tried, killed, survivors = judge(group, options.sample, Path(folder))
            modules = ", ".join(f"`{module}.py`" for module in GROUPS[group][0])
            rows.append(f"| {group}: {modules} | {every} | {tried} | {killed} | {killed / tried:.1%} |")
            survived += survivors
    text = [
        "# Mutation tests",
        "",
        f"Written by `python tests/mutants.py` on {date.today()}: Cosmic Ray {version('cosmic-ray')}, Python "
        f"{sys.version.split()[0]}, seed {SEED}.",
        "",
        "| group | mutants | tried | killed | share |",
        "|---|---|---|---|---|",
        *rows,
        "",
        "Survivors, with the change in braces: [mutants.txt](mutants.txt).",
    ]
    changes = [mutant.change() for mutant in survived]
    print("\n".join([*text, "", *changes]))
    if not options.groups:
        RESULTS.write_text("\n".join(text) + "\n")
        SURVIVORS.write_text("\n".join(changes) + "\n")


if __name__ == "__main__":
    main()
