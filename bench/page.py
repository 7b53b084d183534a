"""README's table of costs, from docs/bench.csv."""

import csv
import re

BESIDE = ('strace', 'valgrind', 'socket_wrapper', 'torsocks', 'proxychains4', 'empty library')
BEGIN, END = '<!-- costs: written by make bench -->\n', '<!-- end of costs -->\n'


def number(line):
    if not line['median']:
        return '–'
    value = float(line['median'])
    return f'{value:.0f}' if value >= 100 else f'{value:.1f}' if value >= 10 else f'{value:.2f}' if line['variant'] in BESIDE else f'{value:.3f}'


def spread(line):
    digits = 0 if line['baseline'] == '-' else 2 if float(line['q3']) < 10 else 1
    return f'{float(line["q1"]):.{digits}f}–{float(line["q3"]):.{digits}f}'


def table(path):
    """The lines of the table; '–' where a tool does not run the workload, nothing where it was not asked to."""
    with open(path, newline='') as file:
        lines = list(csv.DictReader(file))
    beside = [name for name in BESIDE if any(line['variant'] == name for line in lines)]
    out = [f'| workload | baseline | preclose | quartiles | goal | {" | ".join(beside)} |', '|---|---|--:|---|---|' + '--:|' * len(beside)]
    for line in lines:
        if line['variant'] != 'preclose' or not line['median']:
            continue
        others = {other['variant']: number(other) for other in lines if other['row'] == line['row']}
        goal = f'{float(line["goal"]):g}' + ('' if line['met'] == 'yes' else ' **missed**')
        cells = [line['workload'], line['baseline'], number(line), spread(line), goal, *(others.get(name, '') for name in beside)]
        out.append('| ' + ' | '.join(cells) + ' |')
    return '\n'.join(out) + '\n'


def between(text):
    """What README has between the marks, or None."""
    found = re.search(re.escape(BEGIN) + '(.*?)' + re.escape(END), text, re.S)
    return found and found[1]


def put(path, readme):
    """Puts the table into README."""
    with open(readme) as file:
        text = file.read()
    if between(text) is not None:
        head, rest = text.split(BEGIN)
        with open(readme, 'w') as file:
            file.write(head + BEGIN + table(path) + END + rest.split(END)[1])
