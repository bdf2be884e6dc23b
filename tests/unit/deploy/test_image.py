"""The Dockerfile: what can be known of the image without building it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from serve_app.launch.launcher import haproxy_files
from tests.support.builders import ROOT
from tests.support.ray_env import IN_IMAGE, ray_env

HAPROXY = "/home/tsfm/haproxy"
DOCKERFILE = ROOT / "deploy/Dockerfile"
TEXT = DOCKERFILE.read_text()
PINNED = re.compile(r"^([a-z0-9._-]+(?:\[[a-z,]+\])?)==(\S+)", re.MULTILINE)


def stages() -> list[str]:
    return re.split(r"^FROM ", TEXT, flags=re.MULTILINE)[1:]


def copied() -> list[str]:
    """What is copied from the context, options left out."""
    lines = re.findall(r"^COPY (?!--from)(.+)$", TEXT, re.MULTILINE)
    return [source for line in lines for source in line.split()[:-1]]


@pytest.mark.skipif(sys.platform != "linux", reason="hadolint's package has Linux builds alone")
def test_linter_finds_nothing() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], capture_output=True, text=True, check=False)

    assert done.stdout + done.stderr == ""
    assert done.returncode == 0


def test_everything_that_is_copied_exists_and_only_that_is_in_the_context() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = {line[1:] for line in ignored if line.startswith("!")}

    assert "*" in ignored
    assert not {".git", ".venv", "tests", ".state"} & allowed
    assert len(copied()) >= 6
    for source in copied():
        assert (ROOT / source).exists(), source
        assert source.partition("/")[0] in allowed


def test_it_runs_as_a_user_without_rights_and_has_a_health_check() -> None:
    last = stages()[-1]

    assert len(stages()) == 2
    assert re.search(r"^USER 1000:1000$", last, re.MULTILINE)
    assert last.index("USER") < last.index("CMD")
    assert "HEALTHCHECK" in last
    assert "/-/healthz" in last


def test_every_package_is_pinned_by_hash_in_the_tested_version() -> None:
    image = (ROOT / "deploy/requirements.lock").read_text()
    tested = set(PINNED.findall((ROOT / "requirements.lock").read_text()))  # some by Python version
    shipped = dict(PINNED.findall(image))

    assert "--require-hashes" in TEXT
    assert len(re.findall(r"^ +--hash=sha256:", image, re.MULTILINE)) >= len(shipped) > 50
    assert shipped.items() <= tested
    assert not {"torch", "pytest", "pandas", "locust"} & set(shipped)


def test_files_that_are_not_python_are_installed_as_well() -> None:
    """An editable install finds them in place; the image's would lack what is not declared."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    shipped = {
        path
        for package, globs in declared["package-data"].items()
        for pattern in globs
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = (path for name in ("runner", "serve_app") for path in (ROOT / name).rglob("*"))

    assert {p for p in files if p.is_file() and p.suffix not in (".py", ".pyc")} <= shipped


def test_image_sets_what_every_node_of_a_cluster_sets() -> None:
    variable = r'\b((?:RAY|MALLOC)_[A-Z_]+)="?([^"\\\n]+?)"?(?: \\|$)'
    set_here = dict(re.findall(variable, TEXT, re.MULTILINE))
    wanted = ray_env() | IN_IMAGE
    wanted.pop("RAY_AUTH_MODE")  # Ray's own default where it runs alone; the operator's elsewhere

    assert set_here == wanted | haproxy_files(HAPROXY)
    assert f"mkdir -m 700 {HAPROXY} && chown tsfm:tsfm .state {HAPROXY}\n" in TEXT
