from hashlib import sha256

import pytest

from runner.config.loading import load_config
from runner.config.security import MIN_TOKEN_CHARS
from serve_app.auth.new_token import main
from tests.support.builders import ROOT


def test_what_the_command_prints_makes_prod_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code = main(["alerts", "forecast", "batch"])
    printed = capsys.readouterr().out
    value = printed.split("TSFM_SECURITY__TOKENS='")[1].split("'")[0]
    monkeypatch.setenv("TSFM_SECURITY__TOKENS", value)
    tokens = load_config(ROOT / "configs/prod.yaml").security.tokens

    assert code == 0
    assert [(t.name, t.scopes) for t in tokens] == [("alerts", ("forecast", "batch"))]
    token = printed.split("caller): ")[1].split()[0]
    assert tokens[0].sha256 == sha256(token.encode()).hexdigest()
    assert len(token) >= MIN_TOKEN_CHARS


@pytest.mark.parametrize("arguments", [["Bad Name", "forecast"], ["alerts", "fly"], ["alerts"]])
def test_wrong_name_or_scope_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)

    assert "Traceback" not in capsys.readouterr().err
