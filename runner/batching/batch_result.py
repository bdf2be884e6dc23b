"""What a runtime call gave, as one result or one error per item, however the call ended.

A call that raises, is cancelled, or miscounts becomes an error for each of its items; nothing that
ends may leave an item without an answer.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from runner.errors import BadOutputError, RuntimeFailedError, TsfmError

K = TypeVar("K")
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class BatchResult(Generic[R]):
    """What a call gives: one result or error per item, in order.

    ``abandoned`` is set when the call was given up for its callers while the runtime still works on
    it: the slot stays taken until that ends, or the lease does.
    """

    results: Sequence[R | Exception]
    abandoned: asyncio.Future[None] | None = None


async def invoke(
    call: Callable[[K, Sequence[T]], Awaitable[BatchResult[R]]], key: K, items: Sequence[T]
) -> BatchResult[R]:
    """The outcome of ``call``; one that cannot be shared out among the items is refused.

    Raises:
        BadOutputError: there is not exactly one result per item.
    """
    outcome = await call(key, items)
    if len(outcome.results) != len(items):
        raise BadOutputError(f"{len(outcome.results)} results for {len(items)} items")
    return outcome


def result_of_task(task: asyncio.Future[BatchResult[R]], count: int) -> BatchResult[R]:
    """What a task that ran ``invoke`` for ``count`` items came to; never raises."""
    fault = fault_of(task)
    if fault is not None:
        return BatchResult([_own_error(fault) for _ in range(count)])
    return task.result()


def fault_of(ended: asyncio.Future[Any]) -> BaseException | None:
    """What went wrong in a task or future that has ended; None when nothing did."""
    return asyncio.CancelledError() if ended.cancelled() else ended.exception()


def settle(answer: asyncio.Future[R], result: R | BaseException) -> None:
    """Gives a caller its result or error, unless it has an answer or has left."""
    if answer.done():
        return
    if not isinstance(result, BaseException):
        answer.set_result(result)
    elif isinstance(result, Exception) and not isinstance(result, StopIteration):
        answer.set_exception(result)
    else:  # a future refuses StopIteration, and a cancellation is not the caller's own
        answer.set_exception(_own_error(result))


def _own_error(fault: BaseException) -> Exception:
    """An error object for one item: a shared one would collect the tracebacks of all callers."""
    if isinstance(fault, TsfmError):
        error: Exception = copy(fault)
    else:
        error = RuntimeFailedError(f"the call ended with {type(fault).__name__}")
    error.__cause__ = fault
    return error
