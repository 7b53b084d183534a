"""docs/bench.svg from docs/bench.csv: bench/chart.py TABLE PICTURE

Above, each row's ratio with its quartiles and its goal; below, on a scale of powers, the library beside other tools."""

import csv
import math
import sys
from xml.sax.saxutils import escape

WIDTH, LEFT, RIGHT = 1000, 410, 165  # of the picture; of the names and of the numbers beside the plot
LINE = 24
LOW, HIGH = 0.9, 2.0  # of the scale above; what is beyond is told by an arrow and its number
MARKS = {  # a tool's shape and class
    'preclose': ('circle', 'ours'), 'strace': ('square', 't1'), 'valgrind': ('diamond', 't2'), 'socket_wrapper': ('up', 't3'),
    'torsocks': ('down', 't4'), 'proxychains4': ('cross', 't5')}
STYLE = '''
text { font: 13px system-ui, sans-serif; fill: #1f2328 } .dim { fill: #59636e } .head { font-weight: 600; font-size: 15px }
.end { text-anchor: end } .mid { text-anchor: middle } .back { fill: #ffffff } .grid { stroke: #d1d9e0 } .one { stroke: #59636e }
.goal { stroke: #0969da; stroke-width: 3 } .spread { stroke-width: 6; stroke-opacity: .35 } .met { fill: #1a7f37; stroke: #1a7f37 }
.missed { fill: #cf222e; stroke: #cf222e } text.met, text.missed { stroke: none } .ours { fill: #0969da; stroke: #0969da }
.t1 { fill: none; stroke: #9a6700 } .t2 { fill: none; stroke: #8250df } .t3 { fill: none; stroke: #1a7f37 }
.t4 { fill: none; stroke: #bf3989 } .t5 { fill: none; stroke: #59636e } path { stroke-width: 2 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .dim { fill: #9198a1 } .back { fill: #0d1117 } .grid { stroke: #3d444d } .one { stroke: #9198a1 }
.goal { stroke: #4493f8 } .met { fill: #3fb950; stroke: #3fb950 } .missed { fill: #f85149; stroke: #f85149 }
.ours { fill: #4493f8; stroke: #4493f8 } .t1 { stroke: #d29922 } .t2 { stroke: #ab7df8 } .t3 { stroke: #3fb950 }
.t4 { stroke: #db61a2 } .t5 { stroke: #9198a1 } }
'''


def text(x, y, words, kind=''):
    return f'<text x="{x:.1f}" y="{y:.1f}" class="{kind}">{escape(words)}</text>'


def line(x1, y1, x2, y2, kind):
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{kind}"/>'


def mark(x, y, shape, kind):
    path = {'circle': 'm-5 0a5 5 0 1 0 10 0a5 5 0 1 0-10 0', 'square': 'm-4-4h8v8h-8z', 'diamond': 'm0-6l6 6l-6 6l-6-6z',
            'up': 'm0-5l5 9h-10z', 'down': 'm0 5l5-9h-10z', 'cross': 'm-4-4l8 8m0-8l-8 8',
            'beyond': 'm-6-5l8 5l-8 5z'}[shape]
    return f'<path d="M{x:.1f} {y:.1f}{path}" class="{kind}"/>'


def number(value):
    return f'{value:.3f}' if value < 10 else f'{value:.0f}'


def goals(rows, y):
    """The library's rows, each with its goal."""
    def at(ratio):
        return LEFT + (min(max(ratio, LOW), HIGH) - LOW) / (HIGH - LOW) * (WIDTH - LEFT - RIGHT)
    out = [text(16, y, 'What preclose costs: ratio to the same program without it', 'head'), text(WIDTH - 16, y, 'ratio (goal, marked blue)', 'dim end')]
    y += 16
    bottom = y + LINE * len(rows)
    for tenth in range(round(LOW * 10), round(HIGH * 10) + 1):
        out.append(line(at(tenth / 10), y, at(tenth / 10), bottom, 'one' if tenth == 10 else 'grid'))
        if tenth % 2 == 0:
            out.append(text(at(tenth / 10), bottom + 16, f'{tenth / 10:.1f}', 'dim mid'))
    for row in rows:
        middle = y + LINE / 2
        value, kind = row['median'], 'met' if row['met'] == 'yes' else 'missed'
        out.append(text(16, middle + 4, row['workload']))
        out.append(text(LEFT - 10, middle + 4, row['baseline'], 'dim end'))
        if value > HIGH:
            out.append(mark(at(value), middle, 'beyond', kind))
        else:
            out.append(line(at(row['q1']), middle, at(row['q3']), middle, f'spread {kind}'))
            out.append(mark(at(value), middle, 'circle', kind))
        if row['goal'] <= HIGH:
            out.append(line(at(row['goal']), middle - 9, at(row['goal']), middle + 9, 'goal'))
        out.append(text(WIDTH - 16, middle + 4, f'{"" if kind == "met" else "missed: "}{number(value)} ({row["goal"]:g})', f'{kind} end'))
        y += LINE
    return out, bottom + 40


def beside(rows, tools, y):
    """The same with other tools, where their workloads run."""
    powers = [math.log10(value) for row in tools.values() for value in row.values()]
    low, high = math.floor(min(powers) * 4) / 4 - 0.05, math.ceil(max(powers) * 4) / 4

    def at(ratio):
        return LEFT + (math.log10(ratio) - low) / (high - low) * (WIDTH - LEFT - 24)
    out = [text(16, y, 'Beside other tools', 'head')]
    x = 190
    for tool, (shape, kind) in MARKS.items():
        out += [mark(x, y - 4, shape, kind), text(x + 10, y, tool)]
        x += 36 + 7.5 * len(tool)
    y += 16
    bottom = y + LINE * len(tools)
    for ratio in (0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500):
        if low <= math.log10(ratio) <= high:
            out.append(line(at(ratio), y, at(ratio), bottom, 'one' if ratio == 1 else 'grid'))
            out.append(text(at(ratio), bottom + 16, f'{ratio:g}', 'dim mid'))
    for row in rows:
        if row['row'] not in tools:
            continue
        middle = y + LINE / 2
        out += [text(16, middle + 4, row['workload']), text(LEFT - 10, middle + 4, row['baseline'], 'dim end')]
        for tool in reversed(MARKS):
            if tool in tools[row['row']]:
                out.append(mark(at(tools[row['row']][tool]), middle, *MARKS[tool]))
        y += LINE
    return out, bottom + 30


def draw(table, picture):
    with open(table, newline='') as file:
        lines = [row for row in csv.DictReader(file) if row['median']]
    for row in lines:
        row.update({k: float(row[k]) for k in ('median', 'q1', 'q3', 'goal') if row[k]})
    ours = [row for row in lines if row['variant'] == 'preclose']
    ratios = [row for row in ours if row['baseline'] != '-']
    out, y = goals(ratios, 30)
    for row in ours:
        if row['baseline'] == '-':
            kind = 'met' if row['met'] == 'yes' else 'missed'
            out += [text(16, y, row['workload']), text(WIDTH - 16, y, f'{"" if kind == "met" else "missed: "}{row["median"]:.0f} '
                                                       f'({row["goal"]:g})', f'{kind} end')]
            y += 40
    tools = {}
    for row in lines:
        if row['variant'] in MARKS and row['variant'] != 'preclose':
            tools.setdefault(row['row'], {})[row['variant']] = row['median']
    for row in ratios:
        if row['row'] in tools:
            tools[row['row']]['preclose'] = row['median']
    if tools:
        more, y = beside(ratios, tools, y)
        out += more
    with open(picture, 'w') as file:
        file.write(f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {y:.0f}" width="{WIDTH}" height="{y:.0f}" '
                   f'role="img" aria-label="What preclose costs, as ratios">\n<style>{STYLE}</style>\n'
                   f'<rect width="100%" height="100%" class="back"/>\n' + '\n'.join(out) + '\n</svg>\n')


if __name__ == '__main__':
    draw(*sys.argv[1:3])
