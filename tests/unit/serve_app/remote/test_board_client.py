"""One replica's way to the boards: through the actor, and what remains without it."""

from typing import Any

import pytest

from runner.errors import BoardUnavailableError
from serve_app.deployments.actors import BoardActor
from serve_app.http.board_endpoint import MAX_BOARDS
from serve_app.remote.board_client import BoardClient


class Actor:
    """The actor in this process; ``None``: it cannot be reached."""

    def __init__(self) -> None:
        self.actor: BoardActor | None = BoardActor()

    async def call(self, method: str, *args: Any) -> Any:
        return await getattr(self.actor, method)(*args)


async def test_every_replica_sees_the_newest_board_of_each_watch() -> None:
    actor = Actor()
    one, other = BoardClient(actor.call), BoardClient(actor.call)
    await one.put("a", b"1")
    await one.put("b", b"2")
    first, boards = await other.newest()
    assert boards == [b"2", b"1"]
    assert await other.newest() == (first, boards)
    await one.put("a", b"3")
    version, boards = await other.newest()
    assert (version != first, boards) == (True, [b"3", b"2"])


async def test_oldest_of_too_many_boards_goes() -> None:
    client = BoardClient(Actor().call)
    for number in range(MAX_BOARDS + 1):
        await client.put(str(number), b"%d" % number)
    _, boards = await client.newest()
    assert boards == [b"%d" % number for number in range(MAX_BOARDS, 0, -1)]


async def test_lost_actor_refuses_boards_and_leaves_those_last_known() -> None:
    actor = Actor()
    client = BoardClient(actor.call)
    await client.put("a", b"1")
    known = await client.newest()
    actor.actor = None
    with pytest.raises(BoardUnavailableError):
        await client.put("a", b"2")
    assert await client.newest() == known
    actor.actor = BoardActor()
    version, boards = await client.newest()
    assert (version != known[0], boards) == (True, [])
