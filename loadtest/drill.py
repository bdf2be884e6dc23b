"""What the drills share: a service on a runtime of theirs, and an end that tells why it came."""

import contextlib
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from loadtest.service import EMBEDDED_RUNTIME, ROOT, Service, start

SHIPPED = ROOT / "serve_config.yaml"
INTERRUPTED = "interrupted"
_EXIT_INTERRUPTED = 130  # as shells say it


def say(text: str) -> None:
    """To stderr, at once: stdout is for the tables and the last line."""
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def ends_told(broken: list[str]) -> Iterator[None]:
    """Puts what ends a run early into ``broken``, in words; SIGTERM stops the service as well."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    except KeyboardInterrupt:
        broken.append(INTERRUPTED)
    except (RuntimeError, OSError, ValueError) as exc:
        reason, _, log = str(exc).partition("\n")
        say(log)
        broken.append(reason)


def exit_code(broken: list[str]) -> int:
    """0 where nothing was broken.

    >>> exit_code([]), exit_code(["3 lost"]), exit_code([INTERRUPTED])
    (0, 1, 130)
    """
    if INTERRUPTED in broken:
        return _EXIT_INTERRUPTED
    return 1 if broken else 0


@contextlib.contextmanager
def service_on(
    runtime_url: str, env: Mapping[str, str], config: Path = SHIPPED, log_lines: int = 0
) -> Iterator[Service]:
    """The service once it is ready, without its embedded runtime; the end of its log at the end."""
    variables = {**env, "TSFM_TOLLAMA__BASE_URL": runtime_url}
    with start(config, env=variables, without=[EMBEDDED_RUNTIME]) as service:
        say(f"ready after {service.wait_ready():.1f} s on {service.url}")
        try:
            yield service
        finally:
            if log_lines:
                say(f"the end of the service's log:{service.log(log_lines)}")


def with_deployments(
    config: Mapping[str, Any], changed: Callable[[dict[str, Any]], dict[str, Any]]
) -> dict[str, Any]:
    """A Serve config with each deployment as ``changed`` gives it back."""
    applications = [
        {**app, "deployments": [changed(d) for d in app["deployments"]]}
        for app in config["applications"]
    ]
    return {**config, "applications": applications}


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt
