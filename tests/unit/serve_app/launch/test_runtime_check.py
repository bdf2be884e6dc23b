from loadtest.stub.process import start_stub
from runner.config.loading import Config
from serve_app.launch.runtime_check import default_model_notes
from tests.support.builders import make_config


def configured(url: str, model: str) -> Config:
    return make_config(tollama={"base_urls": (url,)}, request={"model": model})


def test_runtime_without_the_default_model_is_reported() -> None:
    with start_stub("--model", "mock", "--model", "unregistered") as stub:
        [note] = default_model_notes(configured(stub.url, "chronos2"))

        assert default_model_notes(configured(stub.url, "mock")) == []
    assert "does not have chronos2" in note
    assert "`tollama pull chronos2`" in note
    assert note.endswith("that it has: mock.")


def test_runtime_that_does_not_answer_is_reported() -> None:
    [note] = default_model_notes(configured("http://127.0.0.1:9", "mock"))

    assert "http://127.0.0.1:9 does not answer" in note
