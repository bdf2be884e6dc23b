"""Asks which locked packages have known vulnerabilities, and says loudly what it could not ask.

pip-audit ends well even when the advisory service knew none of the packages, as a mirror may, so
its report is read here. A vulnerability ends in 1; not being able to ask does not, because a build
must not depend on somebody's network, but it never reads as a pass.
"""

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILES = (
    "requirements.lock",
    "requirements-browser.lock",
    "requirements-mutants.lock",
    "requirements-docs.lock",
    "requirements-torch.txt",
)  # one by one: hashed and not do not mix


def verdict(packages: Sequence[dict[str, Any]]) -> tuple[str, int]:
    """What pip-audit's entries mean, in lines, and the exit code."""
    skipped = [p for p in packages if "skip_reason" in p]
    found = [
        f"AUDIT_FAIL {p['name']} {p['version']}: {v['id']}, fixed in {_fixes(v)}"
        for p in packages
        for v in p.get("vulns", ())
    ]
    if found:
        return "\n".join(found), 1
    if skipped:
        checked = len(packages) - len(skipped)
        return (
            f"AUDIT_INCOMPLETE: {checked} of {len(packages)} packages were checked, no known "
            f"vulnerability. {len(skipped)} could not be checked: the advisory service was not "
            f"reached or does not know them. The first is {skipped[0]['name']}: "
            f"{skipped[0]['skip_reason']}. Run `make audit` again where pypi.org can be reached.",
            0,
        )
    return f"AUDIT_PASS: {len(packages)} packages, no known vulnerability.", 0


def _fixes(vulnerability: dict[str, Any]) -> str:
    return ", ".join(vulnerability.get("fix_versions") or ["no version yet"])


def ask(file: str) -> list[dict[str, Any]]:
    """pip-audit's entries for a requirements file; without a report the file itself is skipped."""
    program = str(Path(sys.executable).with_name("pip-audit"))
    options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json"]
    try:
        command = [program, *options, "--requirement", file]
        done = subprocess.run(command, capture_output=True, check=False)
        entries: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except ValueError:
        return [{"name": file, "skip_reason": "no report"}]
    return entries


def main() -> int:
    """Ask, say, and the exit code for the shell."""
    text, code = verdict([entry for file in FILES for entry in ask(file)])
    sys.stdout.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
