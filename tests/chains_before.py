"""Compare the chains of a folder as read by another checkout and by this one, with reasons.

    python tests/chains_before.py ../shared/data/structures --before ../before -o tests/chains_before.md

The same chains are what `protemb embed` embeds: it reads by the same function.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

EXAMPLES = 1

# Beginnings of notes of chains that are otherwise unchanged, and their descriptions on the page.
NEW_NOTES = {
    "TER after": "the same chains; a note names TER records inside of a chain",
    "columns right of 72": "the same chains; a note says that line numbers are not segment names",
    "the chain has no name": "the same chains; a note says that a chain without a name is broken",
}


def listed(folder: Path) -> dict[str, Any]:
    """Return the chains and the skipped parts of every file, or its error."""
    import numpy as np

    from protemb_sdk import ProtembError, read_chains

    found: dict[str, Any] = {}
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        key = str(path.relative_to(folder))
        try:
            read = read_chains(path)
        except ProtembError as error:
            found[key] = {"error": str(error).removeprefix(f"{path}: ")}
            continue
        found[key] = {
            "chains": [
                [c.id.removeprefix(f"{c.name}_") if c.id != c.name else "", len(c), c.sequence,
                 np.round(c.ca_coords, 3).tolist(), c.residue_index.tolist(), list(c.notes)]
                for c in read.chains
            ],
            "skipped": [
                # Before 0.2 this field was called `chain`.
                [str(getattr(s, "chain_id", None) or s.chain).strip(), s.reason]
                for s in read.skipped
            ],
        }  # fmt: skip
    return found


def of_tree(tree: Path, folder: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(tree / "sdk"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, str(folder), "--child"]
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout))


def difference(before: dict[str, Any], now: dict[str, Any]) -> tuple[str, str] | None:
    """Return the difference between two readings of a file and the reason, or None."""
    if "error" in before and "error" in now:
        return None
    if "error" in before or "error" in now:
        return f"{_about(before)}, now {_about(now)}", ""
    was, chains = before["chains"], now["chains"]
    if [c[:5] for c in was] != [c[:5] for c in chains]:
        text = " ".join(note for c in chains for note in c[5])
        text += " ".join(reason for _, reason in now["skipped"])
        return f"{_about(before)}, now {_about(now)}", _why(was, chains, text)
    if sorted(map(tuple, before["skipped"])) != sorted(map(tuple, now["skipped"])):
        said = "; ".join(f"{c or ' '}: {reason}" for c, reason in now["skipped"])
        known = any("outside of MODEL" in reason for _, reason in now["skipped"])
        return (
            f"skipped: {said}",
            "atoms outside of MODEL and ENDMDL are a model of their own" if known else "",
        )
    notes = sorted({note for c, w in zip(chains, was, strict=True) for note in c[5] if note not in w[5]})
    if not notes:
        return None
    kinds = {why for note in notes for start, why in NEW_NOTES.items() if note.startswith(start)}
    known = all(note.startswith(tuple(NEW_NOTES)) for note in notes)
    return "; ".join(notes), "; ".join(sorted(kinds)) if known else ""


def _about(read: dict[str, Any]) -> str:
    if "error" in read:
        return str(read["error"])
    return ", ".join(f"{name or '(no name)'} {size}" for name, size, *_ in read["chains"]) or "no chain"


def _why(was: list[Any], chains: list[Any], text: str) -> str:
    if [c[1:5] for c in was] == [c[1:5] for c in chains] and not was[0][0]:
        return "the segment name names the chain, which has no letter"
    if "told apart by" in text or ("min_residues" in text and len(was) == 1 and not was[0][0]):
        return "several molecules without a name, told apart by TER or by numbers that start again"
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--before", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("--child", action="store_true")
    options = parser.parse_args()
    if options.child:
        print(json.dumps(listed(options.folder)))
        return
    folder = options.folder.resolve()
    before, now = of_tree(options.before.resolve(), folder), of_tree(ROOT, folder)
    found = {key: d for key in before if (d := difference(before[key], now[key]))}
    unexplained = sum(not why for _, why in found.values())
    counts = [sum(len(read.get("chains", [])) for read in tree.values()) for tree in (before, now)]
    rows = [
        "# Chains before and after",
        "",
        f"Written by `python tests/chains_before.py`: {len(before):,} files, {counts[0]:,} chains before and",
        f"{counts[1]:,} now (name, length, sequence, C-alphas, index). {len(before) - len(found):,} files",
        f"are read as before; {len(found)} are not, {unexplained} of them without a reason.",
        "",
        "| why | files | for example |",
        "|---|---|---|",
    ]
    groups: defaultdict[str, list[str]] = defaultdict(list)
    for key, (what, why) in found.items():
        groups[why or "UNEXPLAINED"].append(f"{key}: {what.replace('|', '/')}")
    for why, some in sorted(groups.items(), key=lambda group: -len(group[1])):
        shown = some if why == "UNEXPLAINED" else some[:EXAMPLES]
        rows.append(f"| {why} | {len(some)} | {'<br>'.join(shown)} |")
    text = "\n".join(rows) + "\n"
    if options.out:
        options.out.write_text(text, encoding="utf-8")
    print(text)
    raise SystemExit(bool(unexplained))


if __name__ == "__main__":
    main()
