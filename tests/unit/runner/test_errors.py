import inspect
import pickle

import pytest

from runner import errors
from runner.errors import ModelError, TsfmError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, TsfmError)]
SAMPLES: dict[str, object] = {
    "path": "y.3",
    "message": "Do this.",
    "limit": 9,
    "limit_bytes": 10,
    "limit_s": 5.0,
    "model": "chronos2",
    "environment": "prod",
    "why": "licence",
    "presented": True,
    "scopes": ("batch",),
    "burst_steps": 1000,
    "refill_steps_per_s": 10.0,
    "note": "late",
    "retry_after_s": 2.0,
    "retry_in_s": 3.0,
}


def make(cls: type[TsfmError]) -> TsfmError:
    if cls.__init__ is Exception.__init__:
        return cls()
    names = [n for n in inspect.signature(cls).parameters if n in SAMPLES]
    return cls(*(SAMPLES[n] for n in names))


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_error_survives_a_process_boundary(cls: type[TsfmError]) -> None:
    error = make(cls)

    back = pickle.loads(pickle.dumps(error))  # our own bytes

    assert type(back) is cls
    assert vars(back) == vars(error)
    assert str(back) == str(error)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_every_error_has_words(cls: type[TsfmError]) -> None:
    if cls not in (TsfmError, errors.RequestError):
        assert str(make(cls)).strip()


def test_model_errors_say_their_reason_with_and_without_a_note() -> None:
    assert str(ModelError()) == "runtime_error"
    assert str(ModelError("odd")) == "runtime_error: odd"


def test_invalid_request_without_a_path_is_its_message() -> None:
    assert str(errors.InvalidRequestError("", "Do this.")) == "Do this."


def test_tree_in_the_docstring_names_every_class() -> None:
    assert errors.__doc__
    assert [c.__name__ for c in CLASSES if c.__name__ not in errors.__doc__] == []
