"""Calls of the Runner, the Baseline and the actors over Ray's handles.

Items for one deployment share calls (`CallCoalescer`), because a call costs more than its content:
`ItemBatch` is the content of a call, and `ItemTasks` receives it at the Runner. A handle can fail
in many ways (replica died, unreachable, overloaded, not deployed), and each has the same effect on
a request: it gets the next best answer. So every failure of the Runner becomes a value.
"""

import asyncio
import contextlib
import contextvars
import logging
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Hashable,
    Iterable,
    Sequence,
)
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any, Generic, TypeVar

import numpy as np
from ray.exceptions import RayActorError
from ray.serve.handle import DeploymentHandle

from runner.baseline.ewma_bands import BaselineRequest, baseline_bands
from runner.config.loading import Config
from runner.config.sections import BatchingSection
from runner.errors import BaselineUnavailableError, BreakerUnreachableError
from runner.forecast.answers import ModelOutcome
from runner.forecast.forecaster import BaselinePort, OutcomesReady
from runner.types import (
    Bands,
    BreakerCommand,
    BreakerState,
    FallbackReason,
    ModelFailure,
    ModelRequest,
    Transform,
)

Q = TypeVar("Q")
A = TypeVar("A")
NumberedItems = Sequence[tuple[int, Q]]
NumberedAnswers = Sequence[tuple[int, A]]
logger = logging.getLogger(__name__)
WARM_UP_LIMIT_S = 5.0
FORGET_LIMIT_S = 5.0
COMMAND_LIMIT_S = 5.0  # an operator can wait longer than a forecast
# We send arrays and dataclasses of importable modules, which the C pickler handles: one item of 288
# points takes it 23 us; Serve's default, cloudpickle, takes 78.
PICKLED: dict[str, Any] = {"request_serialization": "pickle", "response_serialization": "pickle"}
# A call takes 3 ms, of which 0.1 ms for each item. One call at a time is twice as fast as one every
# 4 ms when all requests need the baseline; a call that takes longer than this delays no other.
BASELINE_CALL_S = 0.02
# Between its socket and its item a request needs about six turns of the event loop: after twice as
# many without an item, none of the requests that arrived together is left. Twelve turns of an idle
# loop take 0.1 ms. With 8 and 16 callers in a loop, on two cores, this makes the time between two
# calls to the runtime 4.3 and 3.3 ms shorter; 4 turns 3.4 and 2.0, 20 turns 4.1 and 3.4.
QUIET_TURNS = 12
QUIET_S = 0.004  # on a busy loop the turns may take at most this long
LOST = ModelFailure(FallbackReason.RUNNER_UNAVAILABLE, BreakerState.CLOSED)


@dataclass(frozen=True, slots=True)
class ItemBatch(Generic[Q]):
    """Items of one sender, with numbers that are unique for this sender."""

    sender: str
    items: Sequence[tuple[int, Q]]


class ItemTasks(Generic[Q, A]):
    """Starts a task for each item of an item batch, and gives the answers as they become ready."""

    def __init__(self, answer: Callable[[Q], Awaitable[A]]) -> None:
        self._answer = answer
        self._tasks: dict[tuple[str, int], asyncio.Future[A]] = {}

    def __len__(self) -> int:
        """The number of running tasks."""
        return len(self._tasks)

    def take(self, batch: ItemBatch[Q]) -> dict[asyncio.Future[A], int]:
        """Starts the tasks of an item batch; returns them with the items' numbers."""
        begun: dict[asyncio.Future[A], int] = {}
        for number, item in batch.items:
            task = asyncio.ensure_future(self._answer(item))
            name = (batch.sender, number)
            self._tasks[name] = task
            task.add_done_callback(partial(self._end, name))
            begun[task] = number
        return begun

    def _end(self, name: tuple[str, int], task: asyncio.Future[A]) -> None:
        if self._tasks.get(name) is task:  # else the sender has asked again meanwhile
            del self._tasks[name]

    async def parts(
        self, begun: dict[asyncio.Future[A], int]
    ) -> AsyncGenerator[list[tuple[int, A]]]:
        """The answers with their items' numbers; those ready at the same time come together.

        Closing the generator early cancels unfinished tasks. An item that is cancelled, or whose
        task raises, has no answer; the others have theirs.
        """
        waiting = dict(begun)
        try:
            while waiting:
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                numbers = {task: waiting.pop(task) for task in done}
                answered = _answered(done)
                if answered:
                    yield [(numbers[task], task.result()) for task in answered]
        finally:
            for task in waiting:
                task.cancel()

    def forget(self, sender: str, numbers: Sequence[int]) -> None:
        """Cancels the tasks of abandoned items; unknown numbers are finished already."""
        for number in numbers:
            task = self._tasks.get((sender, number))
            if task is not None:
                task.cancel()


def _answered(done: Iterable[asyncio.Future[A]]) -> list[asyncio.Future[A]]:
    """The tasks that have a result; logs one of the errors of the others."""
    ended = [task for task in done if not task.cancelled()]
    errors = [error for task in ended if (error := task.exception()) is not None]
    if errors:
        logger.error("%d items have no answer", len(errors), exc_info=errors[0])
    return [task for task in ended if task.exception() is None]


class UnansweredError(Exception):
    """A call ended without an answer for one of its items."""


@dataclass(slots=True, eq=False)
class _Item(Generic[Q, A]):
    number: int
    item: Q
    answer: asyncio.Future[A]
    sent: bool = False


@dataclass(slots=True, eq=False)
class _Queue(Generic[Q, A]):
    waiting: list[_Item[Q, A]] = field(default_factory=list)
    next_at: float = 0.0  # on the loop's clock
    leave_by: float = 0.0  # the same
    quiet_turns: int = 0
    timer: asyncio.Handle | None = None


class CallCoalescer(Generic[Q, A]):
    """Takes items one by one, and sends them together.

    The items of a key are sent after `QUIET_TURNS` turns of the event loop without a further item,
    at most `QUIET_S` after the first of them. So an item that arrives alone is sent after 0.1 ms,
    and those of requests that arrived together share a call. Items that arrive less than
    ``interval_s`` after a call was sent wait for the rest of that time, or until the call ends, and
    are sent together. Each answer comes back when it is ready, so no item waits for another.

    A shared call runs in an empty context: when a caller disconnects, Serve cancels what its
    request has called, and must not cancel the call of all others.

    ``send`` makes one call with at most ``most`` numbered items and gives their answers in parts,
    as they become ready; what it raises is raised for every item without an answer yet. ``forget``
    is called with the numbers of sent items that were abandoned; it does not raise.
    """

    def __init__(
        self,
        send: Callable[[NumberedItems[Q]], AsyncIterator[NumberedAnswers[A]]],
        forget: Callable[[Sequence[int]], Awaitable[None]],
        interval_s: float,
        most: int,
    ) -> None:
        self._send = send
        self._forget = forget
        self._interval_s = interval_s
        self._most = most
        self._queues: dict[Hashable, _Queue[Q, A]] = {}
        self._numbers = count()
        self._tasks: set[asyncio.Future[None]] = set()  # the loop holds only weak references
        self._abandoned: list[int] = []
        self._empty_context = contextvars.Context()

    async def ask(self, key: Hashable, item: Q) -> A:
        """The answer of one item; cancelling this abandons the item.

        Raises:
            UnansweredError: the call ended without an answer for it.
            Exception: what ``send`` raised.
        """
        loop = asyncio.get_running_loop()
        entry: _Item[Q, A] = _Item(next(self._numbers), item, loop.create_future())
        self._add(self._queues.setdefault(key, _Queue()), entry, loop)
        try:
            return await entry.answer
        except asyncio.CancelledError:
            if entry.sent:
                self._abandon(entry.number, loop)
            raise

    def _add(
        self, queue: _Queue[Q, A], entry: _Item[Q, A], loop: asyncio.AbstractEventLoop
    ) -> None:
        queue.waiting.append(entry)
        queue.quiet_turns = 0
        now = loop.time()
        if len(queue.waiting) == self._most:
            self._empty_context.run(self._start_call, queue)
        elif queue.timer is None and now < queue.next_at:
            queue.timer = loop.call_at(
                queue.next_at, self._start_call, queue, context=self._empty_context
            )
        elif queue.timer is None:
            queue.leave_by = now + QUIET_S
            self._empty_context.run(self._wait_a_turn, queue, loop)

    def _wait_a_turn(self, queue: _Queue[Q, A], loop: asyncio.AbstractEventLoop) -> None:
        queue.timer = loop.call_soon(self._end_turn, queue, loop)

    def _end_turn(self, queue: _Queue[Q, A], loop: asyncio.AbstractEventLoop) -> None:
        queue.quiet_turns += 1
        if queue.quiet_turns > QUIET_TURNS or loop.time() >= queue.leave_by:
            self._start_call(queue)
        else:
            self._wait_a_turn(queue, loop)

    def _start_call(self, queue: _Queue[Q, A]) -> None:
        if queue.timer is not None:
            queue.timer.cancel()
            queue.timer = None
        items = [entry for entry in queue.waiting if not entry.answer.done()]
        queue.waiting = []
        if items:
            queue.next_at = asyncio.get_running_loop().time() + self._interval_s
            self._run(self._send_batch(items)).add_done_callback(
                partial(self._end_call, queue, queue.next_at)
            )

    def _end_call(self, queue: _Queue[Q, A], next_at: float, _: object) -> None:
        """Sends the items that wait for the end of this call; a later one may be under way."""
        if queue.next_at == next_at and asyncio.get_running_loop().time() < next_at:
            queue.next_at = 0.0
            self._start_call(queue)

    async def _send_batch(self, items: Sequence[_Item[Q, A]]) -> None:
        waiting = {entry.number: entry.answer for entry in items}
        for entry in items:
            entry.sent = True
        error: Exception = UnansweredError()
        try:
            async for part in self._send([(entry.number, entry.item) for entry in items]):
                for number, answer in part:
                    future = waiting.pop(number)
                    if not future.done():  # else it was abandoned
                        future.set_result(answer)
        except Exception as exc:  # noqa: BLE001 - raised for every item without an answer
            error = exc
        for future in waiting.values():
            if not future.done():
                future.set_exception(error)

    def _abandon(self, number: int, loop: asyncio.AbstractEventLoop) -> None:
        if not self._abandoned:
            loop.call_later(self._interval_s, self._forget_abandoned, context=self._empty_context)
        self._abandoned.append(number)

    def _forget_abandoned(self) -> None:
        left, self._abandoned = self._abandoned, []
        self._run(self._forget(left))

    def _run(self, work: Awaitable[None]) -> asyncio.Future[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class RunnerHandle:
    """Client of the Runner deployment; single items of about the same time share a call."""

    def __init__(self, handle: DeploymentHandle[Any], name: str, batching: BatchingSection) -> None:
        self._handle = handle
        self._stream = handle.options(method_name="forecast", stream=True, **PICKLED)
        self._command = handle.options(method_name="command", **PICKLED)
        self._name = name
        self._bulk_numbers = count(-1, -1)  # negative, so distinct from those of single items
        self._shared: CallCoalescer[ModelRequest, ModelOutcome] = CallCoalescer(
            self._ask_twice, self._forget, batching.share_calls_s, batching.max_batch_size
        )

    async def forecast(self, request: ModelRequest) -> ModelOutcome:
        """One item's bands or failure; an unreachable Runner is a failure too."""
        try:
            return await self._shared.ask(request.key.model, request)
        except Exception as exc:  # noqa: BLE001 - every failure of the call has the same answer
            logger.warning("runner not reached: %s", type(exc).__name__)
            return LOST

    async def forecast_many(
        self, requests: Sequence[ModelRequest]
    ) -> AsyncGenerator[OutcomesReady]:
        """Each item's bands or failure with its index, as they become ready."""
        items = list(zip(self._bulk_numbers, requests, strict=False))
        index_of = {number: index for index, (number, _) in enumerate(items)}
        try:
            async for part in self._ask_twice(items):
                yield [(index_of.pop(number), outcome) for number, outcome in part]
        except Exception as exc:  # noqa: BLE001 - as above
            logger.warning("runner not reached: %s", type(exc).__name__)
        yield [(index, LOST) for index in index_of.values()]

    async def _ask_twice(
        self, items: NumberedItems[ModelRequest]
    ) -> AsyncIterator[NumberedAnswers[ModelOutcome]]:
        """Calls once more if the Runner dies during the call; a repeated forecast does no harm."""
        left = dict(items)
        try:
            async for part in self._ask(items):
                for number, _ in part:
                    del left[number]
                yield part
        except RayActorError:
            async for part in self._ask(list(left.items())):
                yield part

    async def _ask(
        self, items: NumberedItems[ModelRequest]
    ) -> AsyncIterator[NumberedAnswers[ModelOutcome]]:
        response: Any = self._stream.remote(ItemBatch(self._name, items))
        try:
            async for part in response:
                yield part
        except asyncio.CancelledError:
            response.cancel()
            raise

    async def _forget(self, numbers: Sequence[int]) -> None:
        """Sent to all Runners, as any may have the items; unknown numbers have no effect."""
        try:
            responses = self._handle.broadcast("forget", self._name, numbers)
            await responses.results_async(timeout_s=FORGET_LIMIT_S, return_exceptions=True)
        except Exception as exc:  # noqa: BLE001 - the only effect is some unnecessary work
            logger.debug("abandoned items not cancelled: %s", type(exc).__name__)

    async def command(self, model: str, command: BreakerCommand) -> BreakerState:
        """Sends an operator's command; returns the new state of the model's breaker.

        Raises:
            BreakerUnreachableError: no Runner, or no breaker actor, received it.
        """
        try:
            async with asyncio.timeout(COMMAND_LIMIT_S):
                return await _call(self._command, model, command)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.warning("breaker not reached: %s", type(exc).__name__)
            raise BreakerUnreachableError from exc


class BaselineHandle:
    """Client of the Baseline deployment; single items of about the same time share a call."""

    def __init__(self, handle: DeploymentHandle[Any], batching: BatchingSection) -> None:
        self._handle = handle.options(method_name="forecast", **PICKLED)
        self._shared: CallCoalescer[BaselineRequest, Bands] = CallCoalescer(
            self._send, _no_need, BASELINE_CALL_S, batching.max_batch_size
        )

    async def forecast(self, requests: Sequence[BaselineRequest]) -> Sequence[Bands]:
        """Bands of every item, in order.

        Raises:
            BaselineUnavailableError: the deployment did not answer.
        """
        try:
            if len(requests) == 1:
                return [await self._shared.ask(None, requests[0])]
            return await _call(self._handle, requests)  # type: ignore[no-any-return]
        except Exception as exc:
            logger.warning("baseline not reached: %s", type(exc).__name__)
            raise BaselineUnavailableError from exc

    async def _send(
        self, items: NumberedItems[BaselineRequest]
    ) -> AsyncIterator[NumberedAnswers[Bands]]:
        bands = await _call(self._handle, [request for _, request in items])
        yield [(number, b) for (number, _), b in zip(items, bands, strict=True)]


async def _no_need(_: Sequence[int]) -> None:
    """Does nothing: computing a baseline takes less time than cancelling it."""


async def warm_up(runner: RunnerHandle, baseline: BaselinePort, config: Config) -> None:
    """One call of each kind before the first request: a handle's first call takes a second.

    A deployment that is not up yet delays nothing: without it the ingress computes baselines.
    """
    request = config.request
    transform = Transform(config.transform.space, config.transform.eps)
    flat = np.full(config.fallback.min_points_for_tsfm, 0.5)
    item = BaselineRequest(flat, request.horizon_steps, request.quantiles, transform)
    baseline_bands([item], config.baseline, config.bands)
    calls = _all_of(runner.forecast_many([])), baseline.forecast([item])
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(WARM_UP_LIMIT_S):
            await asyncio.gather(*calls, return_exceptions=True)


async def _all_of(parts: AsyncIterator[Q]) -> list[Q]:
    return [part async for part in parts]


async def _call(handle: DeploymentHandle[Any], *arguments: object) -> Any:
    """The answer of a handle call; cancelling this cancels the call in the other process too."""
    response: Any = handle.remote(*arguments)
    try:
        return await response
    except asyncio.CancelledError:
        response.cancel()
        raise


class ReconnectingActor:
    """Calls methods of an actor that may be restarted under a new handle.

    ``look_up`` returns the handle, and raises while there is no such actor. It may block for a
    minute while the head node is lost: it runs in a thread, and never more than one at a time.
    """

    def __init__(self, look_up: Callable[[], Any]) -> None:
        self._look_up = look_up
        self._handle: asyncio.Future[Any] | None = None

    async def call(self, method: str, *args: object) -> Any:
        """One round trip; raises what the lookup, Ray or the method raises."""
        handle = self._handle
        if handle is None:
            handle = self._handle = asyncio.ensure_future(asyncio.to_thread(self._look_up))
        answered = False
        try:
            answer = await getattr(await asyncio.shield(handle), method).remote(*args)
            answered = True
            return answer
        finally:
            if not answered and handle.done() and self._handle is handle:
                self._handle = None
