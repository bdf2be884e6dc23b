"""Free ports in a row, for servers that take ranges."""

import contextlib
import random
import socket

# below Linux's own range for outgoing connections and above Ray's for workers: nobody takes a port
# between our look and the server's bind, save another look like ours
LOWEST, HIGHEST = 20_000, 29_999


def free_block(size: int, chance: random.Random | None = None) -> int:
    """The first of ``size`` neighbouring ports that are all free on every interface.

    Raises:
        RuntimeError: none was found in 100 tries.
    """
    chance = chance or random.SystemRandom()
    for _ in range(100):
        first = chance.randrange(LOWEST, HIGHEST - size)
        if all_free(first, size):
            return first
    raise RuntimeError(f"no {size} free ports in a row between {LOWEST} and {HIGHEST}")


def all_free(first: int, size: int) -> bool:
    with contextlib.ExitStack() as stack:
        for port in range(first, first + size):
            probe = stack.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("0.0.0.0", port))
            except OSError:
                return False
    return True
