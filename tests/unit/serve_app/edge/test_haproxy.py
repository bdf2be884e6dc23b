"""Our rules in what the installed Serve writes for HAProxy; it runs in tests/integration."""

from pathlib import Path

import pytest

from serve_app.edge.haproxy import UnknownConfigurationError, with_rules
from tests.support.haproxy import write_serve_configuration

PORTS = (8000, 9101, 8404)


def serve_text(folder: Path, host: str = "127.0.0.1") -> str:
    return write_serve_configuration(folder, PORTS, 30000, host=host).read_text("utf-8")


def test_metrics_listen_where_the_service_does_and_statistics_on_loopback(tmp_path: Path) -> None:
    for host, bound in (("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "*")):
        lines = with_rules(serve_text(tmp_path, host)).splitlines()
        binds = {line.strip() for line in lines if line.strip().startswith("bind ")}

        assert binds == {f"bind {bound}:8000", f"bind {bound}:9101", "bind 127.0.0.1:8404"}


def test_everything_else_of_serve_stays(tmp_path: Path) -> None:
    before, after = serve_text(tmp_path).splitlines(), with_rules(serve_text(tmp_path)).splitlines()

    gone = [line.strip() for line in before if line not in after]
    assert gone == [
        f"stats socket {tmp_path}/admin.sock mode 666 level admin expose-fd listeners",
        *(f"errorfile {status} {tmp_path}/500.http" for status in (502, 503, 504)),
        "bind :9101",
        "# Routes endpoint",
        "http-request return status 404 content-type text/plain lf-string "
        "\"Path '%[path]' not found. Ping http://.../-/routes for available routes.\"",
        "bind *:8404",
    ]


def test_health_check_of_a_busy_ingress_may_take_longer_than_its_interval(tmp_path: Path) -> None:
    defaults = with_rules(serve_text(tmp_path)).split("\ndefaults\n")[1].split("\nfrontend ")[0]

    assert "    timeout check 3s\n" in defaults


@pytest.mark.parametrize("times", [0, 2])
def test_text_that_is_not_there_once_is_an_error(tmp_path: Path, times: int) -> None:
    stated = "    # Routes endpoint\n"
    text = serve_text(tmp_path).replace(stated, stated * times)

    with pytest.raises(UnknownConfigurationError, match=f"{times} times .* Routes endpoint"):
        with_rules(text)
