"""The dependency audit's reading of pip-audit's report."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.scripts import load_script

SOUND = {"name": "a", "version": "1", "vulns": []}
SKIPPED = {"name": "b", "skip_reason": "not found"}
BAD = {"name": "c", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
BAD_FOR_GOOD = {"name": "d", "version": "4", "vulns": [{"id": "PYSEC-2", "fix_versions": []}]}


@pytest.mark.parametrize(
    ("packages", "begins", "code"),
    [
        ([SOUND, SOUND], "AUDIT_PASS: 2 packages", 0),
        ([SOUND, SKIPPED], "AUDIT_INCOMPLETE: 1 of 2 packages were checked", 0),
        ([SKIPPED, BAD], "AUDIT_FAIL c 2: PYSEC-1, fixed in 3", 1),
        ([BAD_FOR_GOOD], "AUDIT_FAIL d 4: PYSEC-2, fixed in no version yet", 1),
    ],
)
def test_only_a_vulnerability_fails_and_only_a_full_check_passes(
    packages: list[dict[str, Any]], begins: str, code: int
) -> None:
    text, exit_code = load_script("audit").verdict(packages)

    assert text.startswith(begins)
    assert exit_code == code


def test_file_without_a_report_is_not_a_pass(tmp_path: Path) -> None:
    audit = load_script("audit")
    text, _ = audit.verdict(audit.ask(str(tmp_path / "none.lock")))

    assert text.startswith("AUDIT_INCOMPLETE: 0 of 1")
