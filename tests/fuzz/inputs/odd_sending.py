"""Sound bodies under odd headers, and bodies in odd pieces or without an end."""

from collections.abc import Mapping
from itertools import pairwise

from hypothesis import strategies as st

from tests.fuzz.inputs.bodies import targets
from tests.fuzz.shots import JSON, MARKER, Shot

_FIELD_BYTES = (*range(0x20, 0x7F), *range(0x80, 0x100), 0x09)  # what a server hands on
_ODD: Mapping[bytes, tuple[bytes, ...]] = {
    b"X-Request-Deadline-Ms": (
        *b"0 -1 nan inf -inf 1e400 1e-400 5e-324 1_000 0x10 1e309 1,5 300;x \xff true 1e3".split(),
        *(b"", b" ", b"300\t", b"9" * 5000, "١٢".encode()),
    ),
    b"X-Request-ID": (
        *(b"a" * 129, b"", b"a b", b"x" * 60_000, b"$(id)", b"%0d%0aSet-Cookie:a=b", b"\xff"),
    ),
    b"Accept": (
        *(b"application/x-ndjson", b"*/*", b"", b";;;,,", b"application/x-ndjson;q=0"),
        *(b"application/x-ndjson," * 500, b"\xff\xfe", b"text/html"),
    ),
    b"Content-Type": (b"text/plain", b"multipart/form-data", b"", b"application/json;" * 200),
    b"Authorization": (b"Bearer", b"Bearer " + b"x" * 9000, b"Basic Og==", b"\xff"),
    b"X-Request-Timeout-Seconds": (b"0", b"-1", b"1e-9", b"nan", b"x"),
    b"X-Request-Disconnect-Disabled": (b"1", b"true", b"?1"),
}


@st.composite
def under_headers(draw: st.DrawFn) -> Shot:
    """Up to four headers with values that nobody sends."""
    path, body = draw(targets())
    free = st.lists(st.sampled_from(_FIELD_BYTES), max_size=60).map(bytes)
    marked = free.map(lambda value: MARKER.encode() + value)
    names = draw(st.lists(st.sampled_from(sorted(_ODD)), min_size=1, max_size=4, unique=True))
    headers = tuple(
        (name, draw(st.one_of(st.sampled_from(_ODD[name]), free, marked))) for name in names
    )
    ending = draw(st.sampled_from([b"", b"x"]))
    return Shot(path, (body + ending,), headers, is_bad=bool(ending))


@st.composite
def split(draw: st.DrawFn) -> Shot:
    """In pieces, some of them empty, or byte by byte."""
    path, body = draw(targets())
    cuts = sorted(draw(st.lists(st.integers(0, len(body)), max_size=12)))
    if draw(st.integers(0, 9)) == 0:
        cuts = list(range(len(body)))
    return Shot(path, tuple(body[a:b] for a, b in pairwise([0, *cuts, len(body)])), JSON)


@st.composite
def silent(draw: st.DrawFn) -> Shot:
    """The end never comes."""
    path, body = draw(targets())
    part = body[: draw(st.integers(0, len(body)))]
    return Shot(path, (part,), JSON, ends=False, is_bad=True)


@st.composite
def endless(draw: st.DrawFn) -> Shot:
    """More bytes than are taken; blanks alone would be a sound ending to few of them."""
    path, body = draw(targets())
    filling = draw(st.sampled_from([b" ", b"[", b"0", b"\x00"]))
    return Shot(path, (body, *(filling * 1_000_000,) * draw(st.sampled_from([5, 34]))), JSON)
