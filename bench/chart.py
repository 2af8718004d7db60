# SPDX-License-Identifier: Apache-2.0
"""Curves as one HTML file with an SVG in it, beside the numbers."""
import html
import os

from measure import ROOT

CURVES = os.path.join(ROOT, "build/bench")
COLOURS = ("#1a6fb5", "#c0392b", "#7f8c8d", "#27ae60", "#8e44ad", "#d68910")
WIDE, HIGH, LEFT, TOP, RIGHT, BOTTOM = 860, 420, 80, 40, 180, 60


def ticks(most):
    """Some five round numbers up to `most`."""
    step = 1.0
    while most / step > 6:
        step *= 2.5 if str(step)[0] == "2" else 2
    while most / step < 3:
        step /= 2
    return [i * step for i in range(int(most / step) + 1)]


def svg(title, x_name, y_name, lines):
    """`lines`: {name: [(x, y), …]}, both from 0 on."""
    points = [p for line in lines.values() for p in line]
    x_most, y_most = (max((p[i] for p in points), default=1) or 1 for i in (0, 1))
    wide, high = WIDE - LEFT - RIGHT, HIGH - TOP - BOTTOM

    def at(x, y):
        return f"{LEFT + x / x_most * wide:.1f},{TOP + high - y / y_most * high:.1f}"
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDE} {HIGH}" '
           'font-family="sans-serif" font-size="13">',
           f'<text x="{LEFT}" y="22" font-size="16">{html.escape(title)}</text>']
    for x in ticks(x_most):
        px, py = at(x, 0).split(",")
        out.append(f'<text x="{px}" y="{float(py) + 18}" text-anchor="middle">{x:g}</text>')
    for y in ticks(y_most):
        px, py = at(0, y).split(",")
        out.append(f'<path d="M{px},{py}h{wide}" stroke="#ddd"/>'
                   f'<text x="{float(px) - 6}" y="{float(py) + 4}" text-anchor="end">{y:,g}</text>')
    for (name, line), colour, n in zip(lines.items(), COLOURS, range(len(lines))):
        path = " ".join(at(*p) for p in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
                   f'<text x="{LEFT + wide + 10}" y="{TOP + 14 + 18 * n}" fill="{colour}">'
                   f'{html.escape(name)}</text>')
    out.append(f'<text x="{LEFT + wide / 2}" y="{HIGH - 14}" text-anchor="middle">'
               f'{html.escape(x_name)}</text>'
               f'<text x="{LEFT - 60}" y="{TOP - 6}">{html.escape(y_name)}</text></svg>')
    return "\n".join(out)


def page(name, title, x_name, y_name, lines):
    os.makedirs(CURVES, exist_ok=True)
    drawn = svg(title, x_name, y_name, lines)
    with open(os.path.join(CURVES, name + ".svg"), "w", encoding="utf-8") as f:
        f.write(drawn)
    with open(os.path.join(CURVES, name + ".html"), "w", encoding="utf-8") as f:
        f.write(f"<!doctype html><meta charset=utf-8><title>{html.escape(title)}</title>{drawn}\n")
