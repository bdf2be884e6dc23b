"""JSON, or nearly so, with something odd in it: depth, numbers, strings, kinds, names."""

from hypothesis import strategies as st

from tests.fuzz.inputs.bodies import dumps, places, planted, replaced, values
from tests.fuzz.shots import MARKER, Shot, whole

_ODD_NUMBERS = (
    *b"1e400 -1e400 1e-400 NaN -NaN Infinity -Infinity nan inf -0 -0.0 00.5 01 .5 5. +1".split(),
    *b"0x1F 1_000 1e 1e+ 5e-324 2.2250738585072011e-308 1.7976931348623159e308 0.1e1 1E-7".split(),
    *b"9007199254740993 9223372036854775808 -9223372036854775809 18446744073709551616".split(),
    *b"0.30000000000000000000000000000000000000000000000000004 1e1000000 0.5f 1,5 \xd9\xa1".split(),
    *(b"1" + b"0" * 400, b"9" * 5000, b"9" * 200_000, b"1e" + b"9" * 999, b"0." + b"0" * 5000),
)
_ODD_STRINGS = (
    *rb"\ud800 \udfff\ud800 \ud83d a\ude00b \u0000 \u00 \x41 \u ../../etc/passwd <script>".split(),
    *b"2026-02-20T12:00:00+99:99 2026-02-30T12:00:00Z -1-01-01T00:00:00Z 1e5 24:00".split(),
    *b"0001-01-01T00:00:00+23:59 9999-12-31T23:59:59-23:59 2026-W08-5 20260220T120000Z".split(),
    *(b"\x00", b"\x1f", b"\n", b"\xed\xa0\x80", b"\xc0\xaf", b"\xff", b"\xf4\x90\x80\x80", b"\xe2"),
    *(
        b"\xf0\x9f\x92\xa9" * 40,
        b"\xe2\x80\xae",
        b"x" * 200_000,
        b"2026-02-20T12:00:00." + b"0" * 99,
    ),
)


@st.composite
def _nested(draw: st.DrawFn) -> bytes:
    opening, closing = draw(st.sampled_from([(b"[", b"]"), (b'{"a":', b"}"), (b'[{"":', b"}]")]))
    depth = draw(st.one_of(st.integers(1, 300), st.sampled_from([999, 1000, 5000, 200_000])))
    inside = draw(st.sampled_from([b"", b"1", b'"%b"' % MARKER.encode(), b"null"]))
    return opening * depth + inside + closing * draw(st.sampled_from([0, depth, depth - 1]))


def _numbers() -> st.SearchStrategy[bytes]:
    floats = st.floats().map(lambda x: repr(x).encode())
    integers = st.integers(-(10**60), 10**60).map(lambda n: b"%d" % n)
    return st.one_of(st.sampled_from(_ODD_NUMBERS), floats, integers)


def _strings() -> st.SearchStrategy[bytes]:
    text = st.text(max_size=40).map(lambda s: dumps(s)[1:-1])
    inside = st.one_of(st.sampled_from(_ODD_STRINGS), st.binary(max_size=30), text)
    marked = st.sampled_from([b"", MARKER.encode()])
    return st.builds(lambda a, b, c: b'"%b%b%b"' % (a, b, c), marked, inside, marked)


DEPTH = planted(_nested()).map(whole)
NUMBERS = planted(_numbers()).map(whole)
STRINGS = planted(_strings()).map(whole)

_ANY_JSON = st.recursive(
    st.one_of(
        *(st.none(), st.booleans(), st.integers(), st.floats(), st.just(MARKER)),
        *(st.text(max_size=10), st.datetimes().map(lambda t: f"{t.isoformat()}Z")),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(st.text(max_size=5).map(lambda s: f"~{s}"), inner, max_size=4),
    ),
    max_leaves=12,
)


@st.composite
def swapped(draw: st.DrawFn) -> Shot:
    """Values of other kinds in up to three places."""
    path, value = draw(values())
    for _ in range(draw(st.integers(1, 3))):
        value = replaced(value, draw(st.sampled_from(places(value))), draw(_ANY_JSON))
    return whole((path, dumps(value)))


@st.composite
def fields(draw: st.DrawFn) -> Shot:
    """A field too many, too few, or with another value."""
    path, value = draw(values())
    value = dict(value)
    name = draw(st.one_of(st.sampled_from(sorted(value)), st.text(max_size=8), st.just(MARKER)))
    if name in value and draw(st.booleans()):
        del value[name]
    else:
        value[name] = draw(_ANY_JSON)
    return whole((path, dumps(value)))


@st.composite
def doubled(draw: st.DrawFn) -> Shot:
    """A name that stands there twice, or five hundred times."""
    path, value = draw(values())
    name = draw(st.sampled_from(sorted(value)))
    other = dumps(draw(st.one_of(_ANY_JSON, st.just(value[name]))))
    members = b",".join([b"%b:%b" % (dumps(name), other)] * draw(st.sampled_from([1, 2, 500])))
    text = dumps(value)
    if draw(st.booleans()):
        return whole((path, b"{%b,%b" % (members, text[1:])))
    return whole((path, b"%b,%b}" % (text[:-1], members)))
