"""The result of a runtime call: one result or one error per item, however the call ended."""

import asyncio
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from runner.errors import BadOutputError, RuntimeFailedError, TsfmError

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[R]):
    """One result or error per item of a call, in order.

    ``abandoned`` is set when the call exceeded its time limit while the runtime still computes: it
    is done when the runtime is. The slot stays taken until then, or until the lease ends.
    """

    results: Sequence[R | Exception]
    abandoned: asyncio.Future[None] | None = None


def result_of_task(task: asyncio.Future[BatchResult[R]], count: int) -> BatchResult[R]:
    """The result of a call with ``count`` items; its fault becomes an error for each of them."""
    fault = fault_of(task)
    if fault is None:
        result = task.result()
        if len(result.results) == count:
            return result
        fault = BadOutputError(f"{len(result.results)} results for {count} items")
    return BatchResult([_own_error(fault) for _ in range(count)])


def fault_of(ended: asyncio.Future[Any]) -> BaseException | None:
    """The exception of a task or future that has ended, cancellation included; else None."""
    return asyncio.CancelledError() if ended.cancelled() else ended.exception()


def settle(answer: asyncio.Future[R], result: R | BaseException) -> None:
    """Sets the result or error of a future that is neither done nor cancelled."""
    if answer.done():
        return
    if not isinstance(result, BaseException):
        answer.set_result(result)
    elif isinstance(result, Exception) and not isinstance(result, StopIteration):
        answer.set_exception(result)
    else:  # a future refuses StopIteration; a cancelled call must not cancel the caller
        answer.set_exception(_own_error(result))


def _own_error(fault: BaseException) -> Exception:
    """A separate error per item: a shared object would collect the tracebacks of all callers."""
    if isinstance(fault, TsfmError):
        error: Exception = copy(fault)
    else:
        error = RuntimeFailedError(f"the call ended with {type(fault).__name__}")
    error.__cause__ = fault
    return error
