"""Tables of a result as rows of text: the terminal and the page show the same ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serve_app.backtest.scores import FEWEST_POINTS, Summary


@dataclass(frozen=True, slots=True)
class TableText:
    """A table: its title, a head and rows of as many cells; the first cell is a name."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def all_tables(result: Summary) -> list[TableText]:
    """All tables of a result, in reading order."""
    calibration = result["calibration"]
    tables = [
        _overview(result),
        _steps(result["sources"]),
        _segments(result["sources"]),
        _limits(result["width_limits"]),
    ]
    return tables + ([calibration_table(calibration)] if calibration else [])


def alerts_table(result: Summary) -> TableText:
    """The comparison of alert rules."""
    head = (
        "rule", "alerts", "a market and day", "lasted", "lasted, 1 % or more", "median change",
        "large moves seen", "mean delay, steps",
    )  # fmt: skip
    rows = [
        (
            name,
            f"{one['alerts']:,}",
            f"{one['per_market_day']:.2f}",
            share(one["lasted_share"]),
            share(one["worth_share"]),
            share(one["median_change"]),
            f"{share(one['large_moves_seen'])} of {one['large_moves']:,}",
            f"{one['mean_delay_steps']:.2f}",
        )
        for name, one in result["rules"].items()
    ]
    note = (
        f"{result['markets']} series, {result['market_days']:,.0f} days. All rules give as many "
        f"alerts as the service at a p-value of {result['p_value']:g}. lasted: half of the change "
        "is left 11 steps later; large moves: changes of 5 % or more that lasted. Distance of "
        f"randomised p-values from uniform, on {result['moving_steps']:,} steps after moving "
        f"windows: {result['randomised_ks']:.4f}."
    )
    return TableText("Alert rules", head, tuple(rows), note)


def _overview(result: Summary) -> TableText:
    head = (
        "source", "pinball loss", "against flat", "interval score 80 %", "CRPS", "MAE", "RMSE",
        "coverage 80 %", "moving: coverage 80 %", "moving: lowest to highest step",
        "moving: coverage 90 %", "mean width 80 %", "moving: breach rate", "moving: real moves",
    )  # fmt: skip
    rows = []
    for name, one in result["sources"].items():
        every, moving, against = one["all"], one["moving"], result["against_flat"].get(name)
        rows.append(
            (
                name,
                thousandths(every["pinball"], 3),
                "" if against is None else f"{against:+.1%}",
                thousandths(every["interval_score_80"], 2),
                thousandths(every["crps"], 3),
                thousandths(every["mae"], 2),
                thousandths(every["rmse"], 1),
                share(every["coverage_80"]),
                share(moving["coverage_80"]),
                _range(moving["steps"]["coverage_80"]),
                share(moving["coverage_90"]),
                thousandths(every["width_80"], 1),
                share(moving["breach_rate"]),
                share(moving["real_moves"]),
            )
        )
    note = (
        "Scores and widths in thousandths; lower scores are better. moving: windows with 12 or "
        "more changes in their past. real moves: first breaches that hold to the last step."
    )
    return TableText("All sources", head, tuple(rows), note)


def _steps(sources: Mapping[str, Summary]) -> TableText:
    rows = tuple(
        (name, *map(share, one["moving"]["steps"]["coverage_80"])) for name, one in sources.items()
    )
    head = ("source", *(str(step) for step in range(1, len(rows[0]))))
    return TableText("Coverage of the 80 % band by step, moving windows", head, rows)


def _segments(sources: Mapping[str, Summary]) -> TableText:
    rows = []
    for parts in zip(*(one["segments"] for one in sources.values()), strict=True):
        first, points = parts[0], parts[0]["moving"]["points"]
        if points >= FEWEST_POINTS:
            coverage = (share(part["moving"]["coverage_80"]) for part in parts)
            rows.append((f"{first['by']} {first['name']}", f"{points:,}", *coverage))
    return TableText(
        "Coverage of the 80 % band by segment, moving windows",
        ("segment", "points", *sources),
        tuple(rows),
        f"Segments with fewer than {FEWEST_POINTS:,} scored points are left out.",
    )


def _limits(rows: Sequence[Summary]) -> TableText:
    free = rows[0]["all"]
    cells = tuple(
        (
            row["limits"],
            thousandths(row["all"]["pinball"], 3),
            f"{row['all']['pinball'] / free['pinball'] - 1:+.1%}",
            thousandths(row["all"]["interval_score_80"], 2),
            f"{row['all']['interval_score_80'] / free['interval_score_80'] - 1:+.1%}",
            share(row["moving"]["coverage_80"]),
            thousandths(row["all"]["width_80"], 1),
        )
        for row in rows
    )
    head = (
        "baseline, width limits", "pinball loss", "change", "interval score 80 %", "change",
        "moving: coverage 80 %", "mean width 80 %",
    )  # fmt: skip
    return TableText("What the width limits cost", head, cells)


def calibration_table(found: Summary) -> TableText:
    """Coverage and interval score before and after, on windows that were held out."""
    rows = tuple(
        (
            row["name"],
            share(row["coverage"]),
            _range([row["coverage_least"], row["coverage_most"]]),
            f"{row['within_tolerance']} of {found['splits']}",
            _range(row["steps"]),
            _range(list(row["segments"].values())),
            thousandths(row["interval_score"], 2),
            thousandths(row["width"], 1),
        )
        for row in found["rows"]
    )
    head = (
        "held out, moving", "coverage 80 %", "lowest to highest split", "splits within 0.02",
        "lowest to highest step", "lowest to highest segment", "interval score 80 %",
        "mean width 80 %",
    )  # fmt: skip
    return TableText(f"Calibration, target {found['target']:g}", head, rows)


def share(value: float | None) -> str:
    """A share with three digits; "" for None."""
    return "" if value is None else f"{value:.3f}"


def thousandths(value: float | None, digits: int) -> str:
    """A score in thousandths of a probability; "" for None."""
    return "" if value is None else f"{1e3 * value:.{digits}f}"


def _range(values: Sequence[Any]) -> str:
    known = [v for v in values if v is not None]
    return f"{share(min(known))}..{share(max(known))}" if known else ""
