"""The loss of the runs of one report as a picture, in one SVG file that runs nothing and loads nothing."""

from __future__ import annotations

import re
from collections.abc import Sequence

from reconciler.errors import ReconcilerError
from reconciler.render.chart import curves
from reconciler.render.words import clean
from reconciler.report import Trained

WIDTH, HEIGHT = 900, 480


def picture(
    title: str, trained: Sequence[Trained], *, size: tuple[int, int] = (WIDTH, HEIGHT), alone: bool = False
) -> str:
    """An SVG of so many pixels with a line for each loss of each run, which is not named where it stands `alone`.

    ReconcilerError where the library that draws it is missing.
    """
    try:
        import pygal
        from pygal.style import Style
    except ImportError as error:
        raise ReconcilerError(
            "the picture is drawn by pygal, which is not installed", hint="pip install 'bailian-reconciler[report]'"
        ) from error
    light = Style(
        background="#ffffff",
        plot_background="#ffffff",
        font_family="sans-serif",
        guide_stroke_color="#e5e7eb",
        major_guide_stroke_color="#e5e7eb",
        guide_stroke_dasharray="none",
        major_guide_stroke_dasharray="none",
        stroke_width="1.5",
        transition="0s",
    )
    drawn = pygal.XY(
        js=[],
        style=light,
        explicit_size=True,
        width=size[0],
        height=size[1],
        show_dots=False,
        truncate_label=-1,
        truncate_legend=-1,
        legend_at_bottom=True,
        legend_at_bottom_columns=1,
        disable_xml_declaration=True,
        title=clean(title),
        x_title="step",
        y_title="loss",
    )
    for run in trained:
        for curve in curves(run.measured):
            dots = len(curve.points) == 1  # a single one is no line
            name = curve.name if alone else f"{run.slot} {run.id} {curve.name}"
            drawn.add(clean(name), list(curve.points), show_dots=dots)
    return re.sub(r"<script.*?</script>", "", str(drawn.render(is_unicode=True)), flags=re.DOTALL)
