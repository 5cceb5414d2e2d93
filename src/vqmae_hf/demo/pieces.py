"""Pieces of HTML that the tabs are made of. Everything that comes from elsewhere (labels, messages) is escaped."""

from collections.abc import Sequence
from html import escape

# Okabe and Ito's colours, told apart by everyone; black, which is lost on a dark page, and yellow, on a light one, are
# replaced by grey and ochre. From the fifth on, lines are dashed as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#9A7D0A")
DASHES = ("", "6 4")
SOLID_COLOURS = 4


def colour_of(number: int) -> str:
    """The colour of the class of that number."""
    return COLOURS[number % len(COLOURS)]


def dash_of(number: int) -> str:
    """The dashes of its line."""
    return DASHES[number // SOLID_COLOURS % len(DASHES)]


def card(kind: str, title: str, text: str) -> str:
    """A state without result: `kind` "hint", "missing" or "error"."""
    role = ' role="alert"' if kind == "error" else ""
    return f'<div class="vq-card vq-{kind}"{role}><b>{escape(title)}</b><p>{escape(text)}</p></div>'


def error_card(message: str) -> str:
    """What went wrong, and what to do."""
    return card("error", "That did not work", message)


def missing_card(what: str, option: str) -> str:
    """A tab whose model was not given."""
    return card(
        "missing",
        f"This tab needs {what}",
        f"The demo was started without one. Start it with {option} FOLDER to try this.",
    )


def player(address: str, name: str, *, overlay: str = "", note: str = "") -> str:
    """A clip with its name above and a note below."""
    below = f'<p class="vq-note">{escape(note)}</p>' if note else ""
    return (
        f'<figure class="vq-player"><figcaption>{escape(name)}</figcaption>'
        f'<div class="vq-stage"><video src="{address}" playsinline preload="auto"></video>{overlay}</div>'
        '<div class="vq-controls"><button type="button" class="vq-play" aria-label="Play or pause">▶</button>'
        '<input type="range" class="vq-seek" min="0" max="1000" value="0" aria-label="Position"></div>'
        f"{below}</figure>"
    )


def picture(address: str, alt: str, css_class: str = "") -> str:
    """An image with a text for those who do not see it."""
    return f'<img src="{address}" alt="{escape(alt, quote=True)}" class="{css_class}">'


def bars(labels: Sequence[str], scores: Sequence[float]) -> str:
    """Scores as bars, best first, in the colours of the classes."""
    order = sorted(range(len(labels)), key=lambda number: -scores[number])
    rows = [
        f'<div class="vq-bar"><span>{escape(labels[number])}</span>'
        f'<div><i style="width:{100 * scores[number]:.1f}%;background:{colour_of(number)}"></i></div>'
        f"<span>{100 * scores[number]:.0f} %</span></div>"
        for number in order
    ]
    return f'<div class="vq-bars">{"".join(rows)}</div>'


def curves(seconds: Sequence[float], rows: Sequence[Sequence[float]], duration: float, best: int) -> str:
    """
    Scores (N moments x C classes) over the time of a clip, as lines over the full width of the page.

    Lines begin at the first moment; that of the class `best` is thicker.
    """
    lines, chosen = [], ' class="vq-first"'
    for number in range(len(rows[0])):
        points = [(1000 * s / duration, 100 - 100 * row[number]) for s, row in zip(seconds, rows, strict=True)]
        if len(points) == 1:  # a line needs two
            points = [(0.0, points[0][1]), (1000.0, points[0][1])]
        path = " ".join(f"{x:.1f},{y:.2f}" for x, y in points)
        lines.append(
            f'<polyline points="{path}" stroke="{colour_of(number)}" stroke-dasharray="{dash_of(number)}"'
            f"{chosen if number == best else ''}></polyline>"
        )
    grid = "".join(f'<line x1="0" x2="1000" y1="{y}" y2="{y}"></line>' for y in (0, 50, 100))
    return (
        '<div class="vq-chart"><span class="vq-top">100 %</span><span class="vq-middle">50 %</span>'
        '<span class="vq-bottom">0 %</span><svg viewBox="0 -2 1000 104" preserveAspectRatio="none" aria-hidden="true">'
        f"{grid}{''.join(lines)}</svg></div>"
    )


def legend(labels: Sequence[str]) -> str:
    """Which line is which class."""
    items = [
        f'<span><svg width="26" height="10" aria-hidden="true"><line x1="1" x2="25" y1="5" y2="5" '
        f'stroke="{colour_of(number)}" stroke-dasharray="{dash_of(number)}"></line></svg>{escape(label)}</span>'
        for number, label in enumerate(labels)
    ]
    return f'<div class="vq-legend">{"".join(items)}</div>'


def time_axis(duration: float) -> str:
    """Seconds below what lies over time."""
    step = next(step for step in (0.5, 1, 2, 5, 10, 30, 60, 600) if duration / step <= 8)
    marks = [step * number for number in range(int(duration / step + 1e-6) + 1)]
    spans = [f'<span style="left:{100 * mark / duration:.2f}%">{mark:g} s</span>' for mark in marks]
    return f'<div class="vq-axis">{"".join(spans)}</div>'


def timeline(content: str, duration: float) -> str:
    """Rows over time, with an axis below and a line that follows the clip."""
    return (
        f'<div class="vq-timeline" data-duration="{duration:.3f}">{content}{time_axis(duration)}'
        '<div class="vq-rail"><div class="vq-cursor"></div></div></div>'
    )


def facts(items: Sequence[tuple[str, str]]) -> str:
    """Small figures with their names."""
    cells = [f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in items]
    return f'<div class="vq-facts">{"".join(cells)}</div>'
