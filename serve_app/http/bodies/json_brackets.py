"""Finds the brackets of a JSON body outside of strings, in windows of bytes.

The text between brackets is not checked; the parser does that.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

WINDOW_BYTES = 64 * 1024  # 0.1 ms of work, 3 ms where every byte is a bracket
_IS_SEEN = bytes(byte in b'"{}[]' for byte in range(256))
_STEPS = np.zeros(256, dtype=np.int8)  # change of depth, by byte value
_STEPS[list(b"{[")] = 1
_STEPS[list(b"}]")] = -1

Places = NDArray[np.int64]


class Brackets:
    """Tracks depth and strings from window to window; the depth is 0 at the start."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._is_escaped = False

    def outermost(self, body: bytes, at: int) -> Iterator[tuple[int, int]]:
        """The brackets of the window at ``at`` after which the depth is 1, 0 again, or below 0.

        Each with its position in the body and the depth after it.
        """
        places, depths, steps = self.find(body, at)
        chosen = (steps > 0) & (depths == 1) | (steps < 0) & (depths <= 0)
        return zip(places[chosen].tolist(), depths[chosen].tolist(), strict=True)

    def find(self, body: bytes, at: int) -> tuple[Places, Places, Places]:
        """All brackets of the window at ``at``: positions, depths after them, changes of depth."""
        window = body[at : at + WINDOW_BYTES]
        if self._is_escaped or b"\\" in window:
            window = self._without_escapes(window)
        places = np.flatnonzero(np.frombuffer(window.translate(_IS_SEEN), dtype=np.bool_))
        found = np.frombuffer(window, dtype=np.uint8)[places]
        in_string = np.logical_xor.accumulate(found == ord('"')) ^ self._in_string
        steps = np.where(in_string, 0, _STEPS[found])
        depths = self._depth + np.cumsum(steps)
        if len(places):
            self._in_string, self._depth = bool(in_string[-1]), int(depths[-1])
        is_bracket = steps != 0
        return at + places[is_bracket], depths[is_bracket], steps[is_bracket]

    def _without_escapes(self, window: bytes) -> bytes:
        """The window with escapes replaced, at the same length."""
        if self._is_escaped:
            window = b"_" + window[1:]
        window = window.replace(rb"\\", b"__").replace(rb"\"", b"__")
        self._is_escaped = window.endswith(b"\\")
        return window
