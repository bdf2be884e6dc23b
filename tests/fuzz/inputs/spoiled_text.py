"""Bodies whose bytes are not, or no longer, the JSON they were."""

import gzip

from hypothesis import strategies as st

from tests.fuzz.inputs.bodies import targets
from tests.fuzz.shots import JSON, MARKER, Shot, bad, whole

_ENCODINGS = (
    *("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8-sig"),
    *("utf-7", "latin-1", "cp037", "shift-jis"),
)


@st.composite
def encoded(draw: st.DrawFn) -> Shot:
    """The text in another encoding, with or without saying so."""
    path, body = draw(targets())
    name = draw(st.sampled_from(_ENCODINGS))
    text = body.decode().replace("m-", draw(st.sampled_from(["m-", "mé", "m¬"])))
    data = text.encode(name, "replace")
    charset = draw(st.sampled_from(["utf-8", name])).encode()
    headers = ((b"Content-Type", b"application/json; charset=%b" % charset),)
    return Shot(path, (data,), headers, is_bad=not _is_plain_utf8(data))


def _is_plain_utf8(data: bytes) -> bool:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return False
    return text.isprintable() and not text.startswith("\ufeff")


@st.composite
def compressed(draw: st.DrawFn) -> Shot:
    """Compressed, at times a thousandfold; the service takes no compression."""
    path, body = draw(targets())
    padding = b" " * draw(st.sampled_from([0, 1, 9, 1000, 10_000_000]))
    packed = gzip.compress(body + padding, 1, mtime=0)
    coding = (b"Content-Encoding", draw(st.sampled_from([b"gzip", b"br", b"identity"])))
    return Shot(path, (packed,), (*JSON, coding), is_bad=True)


@st.composite
def truncated(draw: st.DrawFn) -> Shot:
    """A part from the start."""
    path, body = draw(targets())
    return bad((path, body[: draw(st.integers(0, len(body) - 1))]))


@st.composite
def trailing(draw: st.DrawFn) -> Shot:
    """Something behind the end."""
    path, body = draw(targets())
    garbage = st.one_of(
        st.sampled_from([b"}", b"]", b",", b"\x00", body, b"{}", b"null", b"//", MARKER.encode()]),
        st.binary(min_size=1, max_size=20).filter(lambda found: bool(found.strip(b" \t\r\n"))),
    )
    gap = draw(st.sampled_from([b"", b" ", b"\n" * 1000]))
    return bad((path, body + gap + draw(garbage)))


@st.composite
def mutated(draw: st.DrawFn) -> Shot:
    """Bytes put in, taken out, repeated and changed."""
    path, body = draw(targets())
    for _ in range(draw(st.integers(1, 8))):
        at = draw(st.integers(0, len(body)))
        until = min(len(body), at + draw(st.integers(0, 20)))
        some = body[at:until]
        match draw(st.sampled_from(["insert", "delete", "repeat", "flip"])):
            case "insert":
                some += draw(st.one_of(st.binary(max_size=4), st.sampled_from([b'"', b"{", b","])))
            case "delete":
                some = b""
            case "repeat":
                some *= draw(st.integers(2, 4))
            case _:
                mask = draw(st.integers(1, 255))
                some = bytes(byte ^ mask for byte in some)
        body = body[:at] + some + body[until:]
    return whole((path, body))


@st.composite
def noise(draw: st.DrawFn) -> Shot:
    """Bytes that mean nothing."""
    path, _ = draw(targets())
    text = st.text(max_size=50).map(lambda found: found.encode("utf-16", "surrogatepass"))
    return bad((path, draw(st.one_of(st.binary(max_size=200), text))))
