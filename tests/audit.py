"""Check the installed packages for known vulnerabilities; skipped if there is no database.

python tests/audit.py
"""

from __future__ import annotations

import json
import subprocess
import sys


def main() -> None:
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "-f",
        "json",
        "--progress-spinner",
        "off",
        "--skip-editable",
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        print("skipped: the database of vulnerabilities does not answer")
        return
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        last = (done.stderr.strip().splitlines() or ["no answer"])[-1]
        print(f"skipped: the database of vulnerabilities cannot be asked ({last})")
        return
    asked = [entry for entry in found if "vulns" in entry]
    if not asked:
        reason = found[0].get("skip_reason", "") if found else "nothing is installed"
        print(f"skipped: no package could be looked up ({reason})")
        return
    bad = [(entry["name"], entry["version"], v["id"]) for entry in asked for v in entry["vulns"]]
    print(f"{len(asked)} of {len(found)} packages looked up, {len(bad)} vulnerabilities")
    for name, release, what in bad:
        print(f"  {name} {release}: {what}")
    raise SystemExit(bool(bad))


if __name__ == "__main__":
    main()
