"""What was lost around a blow, in words; no clock and no network."""

from collections import defaultdict
from collections.abc import Sequence

from loadtest.chaos.verdict import Attempt, is_lost


def told(attempts: Sequence[Attempt], blow_s: float) -> str:
    """How many were lost in which way, when they were sent, and how long they waited to know.

    Seconds are those since the blow; the most frequent kind comes first.
    """
    kinds = defaultdict(list)
    for attempt in attempts:
        if is_lost(attempt.first):
            kinds[attempt.first.problem].append(attempt.first)
    lines = []
    for problem, samples in sorted(kinds.items(), key=lambda kind: -len(kind[1])):
        sent = [sample.sent_s - blow_s for sample in samples]
        waited_s = max(sample.latency_ms for sample in samples) / 1e3
        span = f"sent {min(sent):+.1f} to {max(sent):+.1f} s"
        lines.append(f"{len(samples)} {problem} ({span}, known after {waited_s:.1f} s at most)")
    return "; ".join(lines) or "nothing"
