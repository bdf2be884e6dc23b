"""The kinds of bodies by name, and how many of all bodies are of each."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.fuzz.inputs import odd_sending, odd_values, spoiled_text
from tests.fuzz.inputs.sound import sound
from tests.fuzz.shots import Shot

Shots = st.SearchStrategy[Shot]


@dataclass(frozen=True, slots=True)
class Kind:
    shots: Shots
    share: int = 6  # in a hundred


KINDS: Mapping[str, Kind] = {
    "sound": Kind(sound(), 10),
    "depth": Kind(odd_values.DEPTH, 5),
    "numbers": Kind(odd_values.NUMBERS, 8),
    "strings": Kind(odd_values.STRINGS, 8),
    "other values": Kind(odd_values.swapped(), 9),
    "fields": Kind(odd_values.fields()),
    "duplicate keys": Kind(odd_values.doubled()),
    "encodings": Kind(spoiled_text.encoded()),
    "compressed": Kind(spoiled_text.compressed(), 1),
    "truncated": Kind(spoiled_text.truncated()),
    "trailing": Kind(spoiled_text.trailing()),
    "mutated": Kind(spoiled_text.mutated(), 10),
    "noise": Kind(spoiled_text.noise(), 4),
    "headers": Kind(odd_sending.under_headers(), 7),
    "chunks": Kind(odd_sending.split()),
    "silent": Kind(odd_sending.silent(), 1),  # waits for the service's patience
    "endless": Kind(odd_sending.endless(), 1),
}


def planned(bodies: int) -> Iterator[tuple[str, Shots, int]]:
    """Each kind with its part of ``bodies``, at least one."""
    for name, kind in KINDS.items():
        yield name, kind.shots, max(1, bodies * kind.share // 100)
