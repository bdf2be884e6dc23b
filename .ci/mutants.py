"""Holds the faults that no test noticed against mutants.yaml, where each needs a reason.

mutmut names a mutant by its number within a function, which changes with every edit; reasons are
kept by function and changed line instead.
"""

import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml

Mutant = tuple[str, str]  # the function, and the line that was changed, as it reads afterwards
NOTICED = ("killed", "timeout")  # a test that does not end has noticed the fault


def survivors(results: str) -> list[str]:
    r"""The names, as mutmut gives them, of those that lived.

    >>> survivors("    m.x_f__mutmut_1: survived\n    m.x_f__mutmut_2: timeout\n")
    ['m.x_f__mutmut_1']
    """
    pairs = (line.strip().rsplit(": ", 1) for line in results.splitlines() if "__mutmut_" in line)
    return [name for name, status in pairs if status not in NOTICED]


def mutant(name: str, shown: str) -> Mutant:
    r"""The function and the changed line out of the difference that mutmut shows.

    >>> mutant("m.xǁThingǁf__mutmut_1", "--- m.py\n+++ m.py\n-    a\n+    b\n")
    ('m.Thing.f', 'b')
    """
    function = name.split("__mutmut_")[0].replace("xǁ", "").replace("ǁ", ".").replace(".x_", ".")
    changed = [line[1:].strip() for line in shown.splitlines() if line.startswith("+")]
    return function, " ".join(changed[1:])


def verdict(alive: Iterable[Mutant], reasons: Mapping[str, Mapping[str, str]]) -> tuple[str, int]:
    """What is to be said, and the exit code."""
    found = sorted(set(alive))
    unexplained = [m for m in found if m[1] not in reasons.get(m[0], {})]
    lines = [f"no test fails for {function}: {line}" for function, line in unexplained]
    known = {(function, line) for function, lines in reasons.items() for line in lines}
    unused = sorted(known - set(found))
    lines += [f"a reason without a survivor: {function}: {line}" for function, line in unused]
    if lines:
        return "\n".join([*lines, f"MUTANTS_FAIL: {len(lines)} to look at"]), 1
    return f"MUTANTS_PASS: {len(found)} survivors, each with a reason", 0


def _mutmut(*arguments: str) -> str:
    program = str(Path(sys.executable).with_name("mutmut"))
    return subprocess.run([program, *arguments], capture_output=True, text=True, check=True).stdout


def main() -> int:
    """Reads what the last run left, says what is open, and the exit code for the shell."""
    names = survivors(_mutmut("results"))
    reasons = yaml.safe_load(Path(__file__).with_name("mutants.yaml").read_text("utf-8"))
    text, code = verdict([mutant(name, _mutmut("show", name)) for name in names], reasons)
    sys.stdout.write(text + "\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
