"""What a run measured as a curve: drawn in a terminal, as an SVG, as CSV and as data. No library draws it."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from reconciler.render.words import Line, clean, page
from reconciler.resource import Measurement

ROWS, COLUMNS = 14, 64  # of the drawing in a terminal, without its axes
WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 720, 400, 64, 52, 44, 24  # of the SVG and its margins
COLORS = ("#1f5fbf", "#c2410c", "#15803d", "#7c3aed")
MARKS = "xo+*"
NOTHING_YET = "nothing was measured yet"


class Curve(NamedTuple):
    """One name of the log over its steps. Only losses are drawn: other measures have other scales."""

    name: str
    points: tuple[tuple[float, float], ...]


class Frame(NamedTuple):
    """The part of the plane that is drawn, its ends on round numbers upwards."""

    left: float
    right: float
    low: float
    high: float

    def across(self, step: float) -> float:
        return (step - self.left) / (self.right - self.left)

    def up(self, value: float) -> float:
        return (value - self.low) / (self.high - self.low)


def curves(measured: Sequence[Measurement]) -> tuple[Curve, ...]:
    """The losses, that of the training first."""
    names = {name for one in measured for name in one.values if name.endswith("loss")}
    return tuple(
        Curve(name, tuple((one.step, one.values[name]) for one in measured if name in one.values))
        for name in sorted(names, key=lambda name: (name != "loss", name))
    )


def frame(drawn: Sequence[Curve]) -> Frame:
    steps = [step for curve in drawn for step, _ in curve.points]
    values = [value for curve in drawn for _, value in curve.points]
    left, right, low, high = min(steps), max(steps), min(values), max(values)
    gap = spacing(high - low or abs(high) or 1.0)
    low, high = math.floor(low / gap) * gap, math.ceil(high / gap) * gap
    return Frame(left, right if right > left else left + 1, low, high if high > low else low + gap)


def spacing(span: float, parts: int = 5) -> float:
    """The distance of ticks: 1, 2 or 5 times a power of ten, for about so many of them."""
    rough = span / parts
    power: float = 10.0 ** math.floor(math.log10(rough))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)


def ticks(low: float, high: float, parts: int = 5) -> list[float]:
    gap = spacing(high - low, parts)
    first = math.ceil(low / gap - 1e-9)
    return [number * gap for number in range(first, math.floor(high / gap + 1e-9) + 1)]


def number(value: float) -> str:
    return f"{value:.4g}"


# In a terminal --------------------------------------------------------------------------------------------------------


def chart_text(title: str, measured: Sequence[Measurement], width: int | None, *, plain: bool) -> str:
    """The training's loss as a line of dots, other losses as letters. `plain`: ASCII alone."""
    drawn = curves(measured)
    if not drawn:
        return page([Line(f"{clean(title)}: {NOTHING_YET}")], width)
    seen, wide = frame(drawn), max(16, min(COLUMNS, (width or 80) - 12))
    cells = _line(drawn[0], seen, wide, plain)
    for curve, mark in zip(drawn[1:], MARKS, strict=False):
        for step, value in curve.points:
            cells[ROWS - 1 - round(seen.up(value) * (ROWS - 1))][round(seen.across(step) * (wide - 1))] = mark
    labels = {ROWS - 1 - round(seen.up(tick) * (ROWS - 1)): number(tick) for tick in ticks(seen.low, seen.high, 4)}
    bar, corner, rule = ("|", "+", "-") if plain else ("┤", "└", "─")
    side, first, last = max(map(len, labels.values()), default=0), number(seen.left), number(seen.right)
    rows = [f"{labels.get(row, ''):>{side}} {bar}{''.join(line)}" for row, line in enumerate(cells)]
    margin = " " * (side + 1)
    last = last if len(first) + len(last) < wide else ""  # two that touch read as one; the legend has the last step
    axis = [f"{margin}{corner}{rule * wide}", f"{margin} {first}{last:>{wide - len(first)}}"]
    axis.append(f"{margin} {'step':>{wide}}")
    legend = page(map(Line, _legend(drawn, plain)), width)
    return "\n".join([page([Line(clean(title), {"bold": True})], width), *rows, *axis, legend])


def _line(curve: Curve, seen: Frame, wide: int, plain: bool) -> list[list[str]]:
    """Cells of 2 x 4 dots each, a column of them joined to the one before."""
    dots: set[tuple[int, int]] = set()
    most_x, most_y = 2 * wide - 1, 4 * ROWS - 1
    at = [(round(seen.across(step) * most_x), round(seen.up(value) * most_y)) for step, value in curve.points]
    for (x0, y0), (x1, y1) in zip(at[:1] + at, at, strict=False):
        steps = max(abs(x1 - x0), abs(y1 - y0), 1)
        dots |= {(x0 + round((x1 - x0) * n / steps), y0 + round((y1 - y0) * n / steps)) for n in range(steps + 1)}
    codes = [[0] * wide for _ in range(ROWS)]
    for x, y in dots:
        codes[ROWS - 1 - y // 4][x // 2] |= _BRAILLE[x % 2][y % 4]
    empty, full = (" ", "*") if plain else (" ", "")
    return [[empty if not code else full or chr(0x2800 + code) for code in line] for line in codes]


_BRAILLE = ((0x40, 0x04, 0x02, 0x01), (0x80, 0x20, 0x10, 0x08))  # by column, from the lowest dot upwards


def _legend(drawn: Sequence[Curve], plain: bool) -> Iterator[str]:
    for mark, curve in zip(("*" if plain else "⠒", *MARKS), drawn, strict=False):
        (_, first), (step, last) = curve.points[0], curve.points[-1]
        lowest = min(value for _, value in curve.points)
        yield f"{mark} {clean(curve.name)}: {number(first)} -> {number(last)} at step {step:g}, lowest {number(lowest)}"


# As a picture ---------------------------------------------------------------------------------------------------------


def svg_text(title: str, measured: Sequence[Measurement]) -> str:
    """A picture that stands alone: axes with their names, a line for each loss, a legend."""
    drawn = curves(measured)
    body = _plot(drawn, frame(drawn)) if drawn else [_text(WIDTH / 2, HEIGHT / 2, NOTHING_YET, "middle")]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
            f' font-family="sans-serif" font-size="12" role="img" aria-label="{_quoted(title)}">',
            f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
            _text(LEFT, 22, title, extra=' font-size="14" font-weight="bold"'),
            *body,
            "</svg>",
        ]
    )


def _plot(drawn: Sequence[Curve], seen: Frame) -> Iterator[str]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def across(step: float) -> float:
        return LEFT + seen.across(step) * (right - LEFT)

    def up(value: float) -> float:
        return bottom - seen.up(value) * (bottom - TOP)

    for tick in ticks(seen.low, seen.high):
        yield f'<path d="M{LEFT} {up(tick):.1f}H{right}" stroke="#e5e7eb"/>'
        yield _text(LEFT - 8, up(tick) + 4, number(tick), "end")
    for tick in ticks(seen.left, seen.right, 8):
        yield f'<path d="M{across(tick):.1f} {bottom}v5" stroke="#374151"/>'
        yield _text(across(tick), bottom + 18, number(tick), "middle")
    yield f'<path d="M{LEFT} {TOP}V{bottom}H{right}" fill="none" stroke="#374151"/>'
    yield _text((LEFT + right) / 2, HEIGHT - 12, "step", "middle")
    middle = (TOP + bottom) / 2
    yield _text(18, middle, "loss", "middle", extra=f' transform="rotate(-90 18 {middle:g})"')
    for place, curve in enumerate(drawn):
        color = COLORS[place % len(COLORS)]
        points = " ".join(f"{across(step):.1f},{up(value):.1f}" for step, value in curve.points)
        yield f'<polyline points="{points}" fill="none" stroke="{color}" stroke-width="1.5" stroke-linejoin="round"/>'
        if len(curve.points) <= 40:  # a few points are worth seeing, and a single one is no line
            for step, value in curve.points:
                yield f'<circle cx="{across(step):.1f}" cy="{up(value):.1f}" r="2.5" fill="{color}"/>'
        top = TOP + 8 + 18 * place
        yield f'<path d="M{right - 130} {top}h22" stroke="{color}" stroke-width="2"/>'
        yield _text(right - 102, top + 4, curve.name)


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="#111827"{extra}>{escape(clean(text))}</text>'


def _quoted(text: str) -> str:
    return escape(clean(text), {'"': "&quot;"})


# As rows and as data --------------------------------------------------------------------------------------------------


def csv_text(measured: Sequence[Measurement]) -> str:
    """A row for each step that was logged; what a line did not tell is empty."""
    names = list(dict.fromkeys(name for one in _by_step(measured) for name in one.values))
    written = io.StringIO()
    rows = csv.writer(written, lineterminator="\n")
    rows.writerow(["step", *names])
    rows.writerows([one.step, *(one.values.get(name, "") for name in names)] for one in _by_step(measured))
    return written.getvalue().rstrip("\n")


def measured_json(address: str, remote_id: str, measured: Sequence[Measurement]) -> dict[str, Any]:
    points = [{"step": one.step, **one.values} for one in _by_step(measured)]
    return {"address": address, "id": remote_id, "measurements": points}


def _by_step(measured: Sequence[Measurement]) -> list[Measurement]:
    """Lines about the same step as one."""
    merged: dict[int, dict[str, float]] = {}
    for one in measured:
        merged.setdefault(one.step, {}).update(one.values)
    return [Measurement(step, values) for step, values in sorted(merged.items())]
