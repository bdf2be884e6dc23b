import inspect
import pickle

import pytest

from runner import errors
from runner.errors import TsfmError

CLASSES = [c for _, c in inspect.getmembers(errors, inspect.isclass) if issubclass(c, TsfmError)]
ARGUMENTS: dict[type[TsfmError], tuple[object, ...]] = {
    errors.InvalidRequestError: ("y.3", "Do this."),
    errors.BodyTooLargeError: (10,),
    errors.BodyTimeoutError: (5.0,),
    errors.BatchTooLongError: (9,),
    errors.OverloadedError: (2.0,),
    errors.OutcomesUnavailableError: (2.0,),
    errors.BoardUnavailableError: (2.0,),
    errors.UnauthorizedError: (True,),
    errors.InsufficientScopeError: (("batch",),),
    errors.RateLimitedError: (2.0, 1000, 10.0),
    errors.UnknownModelError: ("chronos2",),
    errors.ModelNotAllowedError: ("chronos2", "prod", "licence"),
    errors.RuntimeOverloadedError: ("late", 2.0),
    errors.RuntimeCircuitOpenError: ("late", 2.0),
    errors.BreakerOpenError: (3.0,),
    errors.ConfigError: ("models.yaml: no such file",),
}


@pytest.mark.parametrize("cls", CLASSES, ids=lambda c: c.__name__)
def test_error_survives_a_process_boundary_and_has_a_text(cls: type[TsfmError]) -> None:
    error = cls(*ARGUMENTS.get(cls, ()))

    back = pickle.loads(pickle.dumps(error))  # our own bytes

    assert type(back) is cls
    assert vars(back) == vars(error)
    assert str(back) == str(error)
    assert str(error).strip() or cls in (TsfmError, errors.RequestError)
