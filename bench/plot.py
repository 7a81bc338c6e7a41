"""plot.py VALUES: an SVG of what bench/run measured, to stdout: throughput over request size, latency over depth."""
import math
import statistics
import sys

COLORS = {"verity": "#1f6fb4", "ganesha": "#d9822b", "nfs3_server": "#3a8f4a", "ceiling": "#777777"}
WIDTH, HEIGHT, LEFT, TOP = 380, 260, 60, 50

sizes, depths = {}, {}  # server -> {x: [values]}, and (server, percentile) -> {x: [values]}
for line in open(sys.argv[1]):
    load, server, *found = line.split()
    kind, _, at = load.partition(":")
    if server not in COLORS:
        continue
    if kind == "size":
        sizes.setdefault((server, 0), {}).setdefault(int(at), []).append(float(found[0]) / 1e3)
    elif kind == "depth":
        for percentile, value in zip([50, 99], found[1:]):
            depths.setdefault((server, percentile), {}).setdefault(int(at), []).append(float(value))


def text(x, y, words, anchor="middle", more=""):
    print(f'<text x="{x:.0f}" y="{y:.0f}" text-anchor="{anchor}" {more}>{words}</text>')


def panel(origin, title, series, label_x, ticks, place):
    """Axes and lines; `place` gives the height, 0 to 1, of a value."""
    text(origin + WIDTH / 2, TOP - 24, title, more='font-weight="bold"')
    xs = sorted({x for points in series.values() for x in points})
    if not xs:
        return
    span = math.log2(xs[-1] / xs[0]) or 1
    across = lambda x: origin + math.log2(x / xs[0]) / span * WIDTH
    up = lambda value: TOP + HEIGHT - place(value) * HEIGHT
    for tick in ticks:
        print(f'<path d="M{origin},{up(tick):.1f}h{WIDTH}" stroke="#ddd"/>')
        text(origin - 6, up(tick) + 4, f"{tick:g}", "end")
    for x in xs:
        text(across(x), TOP + HEIGHT + 18, label_x(x))
    for (server, percentile), points in series.items():
        line = " ".join(f"{across(x):.1f},{up(statistics.median(v)):.1f}" for x, v in sorted(points.items()))
        dashed = ' stroke-dasharray="5 4"' if percentile == 99 else ""
        print(f'<polyline points="{line}" fill="none" stroke="{COLORS[server]}" stroke-width="2"{dashed}/>')


medians = lambda series: [statistics.median(v) for points in series.values() for v in points.values()]
size_name = lambda x: f"{x >> 20} MiB" if x >= 1 << 20 else f"{x >> 10} KiB"
second = LEFT + WIDTH + 80
print(f'<svg xmlns="http://www.w3.org/2000/svg" width="{second + WIDTH + 20}" height="{TOP + HEIGHT + 60}" '
      'font-family="sans-serif" font-size="12" fill="#222"><rect width="100%" height="100%" fill="white"/>')
top = math.ceil(max(medians(sizes), default=1))
panel(LEFT, "Sequential READ, 8 under way, again: GB/s over size", sizes, size_name, range(top + 1), lambda v: v / top)
low = math.floor(math.log10(min(medians(depths), default=1)))
high = math.ceil(math.log10(max(medians(depths), default=10)))
panel(second, "READ of 4 KiB, random, again: µs over READs under way", depths, str,
      [10.0**n for n in range(low, high + 1)], lambda v: (math.log10(v) - low) / (high - low))
x = LEFT
for server in [s for s in COLORS if (s, 0) in sizes or (s, 50) in depths]:
    print(f'<path d="M{x},{TOP + HEIGHT + 40}h24" stroke="{COLORS[server]}" stroke-width="2"/>')
    text(x + 30, TOP + HEIGHT + 44, server, "start")
    x += 120
text(second, TOP + HEIGHT + 44, "solid: median; dashed: 99th percentile", "start")
print("</svg>")
