"""The geometry of the charts: pure; `plot.svg.j2` draws it.

Across, everything is in percent of the plot, so that a chart fits a phone and a printed page while its texts keep
their size; down it is in pixels. Colour never carries a meaning alone: each cloud has its own pattern, each
mark its own shape.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from lockstep.audit.report.data import Bin, CredentialReport, Emergency, Life
from lockstep.audit.report.words import many, minute, span, stamp

STEPS = tuple(
    timedelta(minutes=m)
    for m in (1, 2, 5, 10, 30, 60, 120, 360, 720, 1440, 2880, 10_080, 20_160, 40_320, 80_640, 161_280)
)
"""Between two labels of the axis of time."""
MOST_TICKS = 8
NEWEST = 24
"""Generations of the first chart of lives."""
MOST_EMERGENCIES = 3
"""Emergencies with a chart of their own."""
AROUND = 5
"""Generations before and after an emergency that its chart shows."""
ROW = 18
COLUMNS = 104
"""Height of the columns of a chart, in pixels."""
LANE = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle; `left` and `width` in percent."""

    left: float
    width: float
    top: float
    height: float
    look: str
    title: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A shape at a point; `left` in percent."""

    left: float
    top: float
    look: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line across the plot."""

    top: float
    look: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A text beside the plot."""

    top: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tick:
    """A label of the axis of time; a minor one is left out on a narrow page."""

    left: float
    text: str
    minor: bool
    anchor: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A chart.

    Attributes:
        about: What it shows, as a sentence, for who cannot see it.
        height: Of the plot, without the axis.
        start: Of the axis of time.
    """

    about: str
    height: float
    start: datetime
    end: datetime
    boxes: tuple[Box, ...]
    marks: tuple[Mark, ...]
    lines: tuple[Line, ...]
    labels: tuple[Label, ...]
    ticks: tuple[Tick, ...]


@dataclass(frozen=True, slots=True)
class _Axis:
    start: datetime
    end: datetime

    def at(self, moment: datetime) -> float:
        share = (moment - self.start) / max(self.end - self.start, timedelta(seconds=1))
        return round(100 * min(max(share, 0.0), 1.0), 3)

    def width(self, start: datetime, end: datetime) -> float:
        return round(self.at(end) - self.at(start), 3)

    def box(
        self, start: datetime, end: datetime, *, top: float, height: float, look: str, title: str = ""
    ) -> Box:
        return Box(
            left=self.at(start),
            width=self.width(start, end),
            top=round(top, 2),
            height=round(height, 2),
            look=look,
            title=title,
        )

    def ticks(self) -> Iterator[Tick]:
        length = self.end - self.start
        step = next((s for s in STEPS if length / s <= MOST_TICKS), length / MOST_TICKS)
        moment = self.start + (datetime(2000, 1, 3, tzinfo=UTC) - self.start) % step
        form, every = ("%-d %b" if step >= timedelta(days=1) else "%H:%M"), 2
        if step < timedelta(days=1) <= length:
            form, every = "%-d %b %H:%M", 4
        count = 0
        while moment <= self.end and count <= MOST_TICKS:
            left = self.at(moment)
            anchor = "start" if left < 5 else "end" if left > 95 else "middle"  # noqa: PLR2004 - percent
            yield Tick(left=left, text=moment.strftime(form), minor=count % every != 0, anchor=anchor)
            moment += step
            count += 1


def rotations(report: CredentialReport) -> Plot:
    """How often each cloud rotated, with failures, orders, emergencies and gaps."""
    axis = _Axis(report.start, max(report.end, report.bins[-1].end))
    top = max(sum(b.rotated.values()) for b in report.bins)
    scale = COLUMNS / max(top, 1)
    failed_at, ordered_at = COLUMNS + 0.5 * LANE, COLUMNS + 1.5 * LANE
    height = COLUMNS + 2 * LANE
    boxes = [*_bands(report, axis, height)]
    marks = []
    for part in report.bins:
        base = float(COLUMNS)
        for stream, count in part.rotated.items():
            if count:
                base -= count * scale
                title = f"{_of_bin(part)}: {many(count, 'rotation')} by {stream.upper()}"
                boxes.append(_column(axis, part, top=base, height=count * scale, look=stream, title=title))
        if part.failed:
            title = f"{_of_bin(part)}: {many(part.failed, 'failed run')}"
            marks.append(Mark(left=_middle(axis, part), top=failed_at, look="fail", title=title))
    for order in report.orders[-200:]:
        look = "urgent" if order.name == "revoke" else "order"
        title = f"{stamp(order.at)}: order {order.name}"
        marks.append(Mark(left=axis.at(order.at), top=ordered_at, look=look, title=title))
    return Plot(
        about=f"Rotations per {span(report.bins[0].end - report.bins[0].start)} by cloud, at most {top}; "
        f"{many(report.figures.failed, 'failed run')}, {many(len(report.gaps), 'gap')}.",
        height=height,
        start=axis.start,
        end=axis.end,
        boxes=tuple(boxes),
        marks=tuple(marks),
        lines=(
            Line(top=COLUMNS, look="base"),
            Line(top=COLUMNS + LANE, look="lane"),
            Line(top=COLUMNS + 2 * LANE, look="lane"),
        ),
        labels=(
            Label(top=9, text=str(top)),
            Label(top=COLUMNS - 1, text="0"),
            Label(top=failed_at + 4, text="failed"),
            Label(top=ordered_at + 4, text="orders"),
        ),
        ticks=tuple(axis.ticks()),
    )


def ages(report: CredentialReport) -> Plot:
    """How old the current password became, against the plan's interval."""
    axis = _Axis(report.start, max(report.end, report.bins[-1].end))
    interval, limit = report.credential.schedule.interval, report.figures.between_limit
    highest = max([limit, *(b.longest_age for b in report.bins if b.longest_age)])
    scale = COLUMNS / (highest * 1.06).total_seconds()
    boxes = [*_bands(report, axis, COLUMNS)]
    for part in report.bins:
        if part.longest_age is not None:
            tall = part.longest_age.total_seconds() * scale
            look = "age over" if part.longest_age > limit else "age"
            title = f"{_of_bin(part)}: at most {span(part.longest_age)} old"
            boxes.append(_column(axis, part, top=COLUMNS - tall, height=tall, look=look, title=title))
    at = {
        name: COLUMNS - length.total_seconds() * scale
        for name, length in (("plan", interval), ("limit", limit))
    }
    labels = [Label(top=at["limit"] + 4, text=span(limit))]
    room = 13
    if at["plan"] - at["limit"] >= room and COLUMNS - at["plan"] >= room:
        labels.append(Label(top=at["plan"] + 4, text=span(interval)))
    if highest > limit and at["limit"] > 2 * room:
        labels.append(Label(top=13, text=span(highest)))
    return Plot(
        about=f"The greatest age of the current password, at most {span(report.figures.longest_age)}; the plan's "
        f"interval is {span(interval)}, and {span(limit)} is the longest that a fault of one cloud explains.",
        height=COLUMNS,
        start=axis.start,
        end=axis.end,
        boxes=tuple(boxes),
        marks=(),
        lines=(Line(top=COLUMNS, look="base"), *(Line(top=round(at[n], 2), look=n) for n in at)),
        labels=tuple(labels),
        ticks=tuple(axis.ticks()),
    )


def newest_lives(report: CredentialReport) -> Plot | None:
    """The newest generations, one bar each: current, then still alive beside the next one, then dead."""
    return lives_plot(report.lives[-NEWEST:], report.end)


def emergency_lives(report: CredentialReport) -> Iterator[tuple[Emergency, Plot]]:
    """The generations around the last emergencies."""
    for emergency in report.emergencies[-MOST_EMERGENCIES:]:
        if emergency.over is None or not emergency.over.generation:
            continue
        middle = emergency.over.generation
        near = [life for life in report.lives if abs(life.generation - middle) <= AROUND]
        ordered = emergency.ordered
        marks = [(ordered.at, f"{stamp(ordered.at)}: revocation ordered")] if ordered else []
        end = max(life.dead or life.superseded or report.end for life in near) if near else report.end
        plot = lives_plot(near, end, marks)
        if plot:
            yield emergency, plot


def lives_plot(
    shown: Sequence[Life], end: datetime, marks: Sequence[tuple[datetime, str]] = ()
) -> Plot | None:
    """Generations, one bar each; None without any.

    Args:
        shown: The oldest first.
        end: Of the axis of time.
        marks: Times to be marked, with what they are.
    """
    if not shown:
        return None
    axis = _Axis(shown[0].promoted, max(end, shown[-1].promoted + timedelta(seconds=1)))
    boxes, dots, labels = [], [], []
    for number, life in enumerate(shown):
        top = number * ROW + 3
        until = life.superseded or axis.end
        by = f"generation {life.generation}"
        title = f"{by}, {life.kind}: current from {stamp(life.promoted)}, promoted by {life.stream.upper()}"
        boxes.append(axis.box(life.promoted, until, top=top, height=ROW - 6, look=life.stream, title=title))
        if life.superseded:
            over = life.dead or axis.end
            title = f"{by}: still logs in beside the next one, {span(over - life.superseded)}"
            boxes.append(
                axis.box(
                    life.superseded, over, top=top, height=ROW - 6, look=f"overlap {life.stream}", title=title
                )
            )
        if life.dead:
            title = f"{by}: {_DEATHS.get(life.death or '', 'dead')} at {stamp(life.dead)}"
            dots.append(Mark(left=axis.at(life.dead), top=top + 6, look=life.death or "refused", title=title))
        labels.append(Label(top=top + 10, text=f"{life.generation}"))
    dots += [Mark(left=axis.at(at), top=4, look="urgent", title=title) for at, title in marks]
    return Plot(
        about=f"{many(len(shown), 'generation')}, from {minute(shown[0].promoted)}: when each was current, how long it "
        "still logged in beside the next one, and when its login was refused.",
        height=len(shown) * ROW,
        start=axis.start,
        end=axis.end,
        boxes=tuple(boxes),
        marks=tuple(dots),
        lines=(Line(top=len(shown) * ROW, look="base"),),
        labels=tuple(labels),
        ticks=tuple(axis.ticks()),
    )


_DEATHS = {
    "refused": "its login was refused on every database",
    "unreadable": "no store holds it any more",
    "revoked": "ended by the revocation",
}


def _bands(report: CredentialReport, axis: _Axis, height: float) -> Iterator[Box]:
    for since, until in report.paused[-50:]:
        title = f"paused from {minute(since)} to {minute(until)}"
        yield axis.box(since, until, top=0, height=height, look="paused", title=title)
    for gap in report.gaps[-200:]:
        title = f"no rotation for {span(gap.end - gap.start)}, from {minute(gap.start)}"
        yield axis.box(gap.start, gap.end, top=0, height=height, look="gap", title=title)


def _column(axis: _Axis, part: Bin, *, top: float, height: float, look: str, title: str) -> Box:
    box = axis.box(part.start, part.end, top=top, height=height, look=look, title=title)
    return Box(
        left=box.left,
        width=round(box.width * 0.86, 3),  # Room between the columns.
        top=box.top,
        height=box.height,
        look=look,
        title=title,
    )


def _middle(axis: _Axis, part: Bin) -> float:
    return round(axis.at(part.start) + axis.width(part.start, part.end) * 0.43, 3)


def _of_bin(part: Bin) -> str:
    return f"{minute(part.start)} to {minute(part.end)}"
