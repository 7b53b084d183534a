"""Makes logs of findings as the library writes them, of any size and in both formats, from a seed."""

import datetime
import json
import os
import random

START = datetime.datetime(2026, 11, 20, 8, 0, 0, tzinfo=datetime.timezone.utc)

# event, severity, the places it tells, how many numbers
KINDS = [('close-wait', 'warning', ('opened',), 40), ('unread-reset', 'warning', ('opened', 'closed'), 20),
         ('blocked-threads', 'warning', ('opened', 'closed'), 8), ('left-blocked', 'warning', ('opened', 'closed'), 2),
         ('backlog-reset', 'warning', ('opened', 'closed'), 3), ('double-close', 'warning', ('opened', 'closed', 'used'), 4),
         ('use-after-close', 'warning', ('opened', 'closed', 'used'), 4), ('linger-reset', 'notice', ('opened', 'closed'), 6),
         ('open-at-exit', 'notice', ('opened',), 5), ('slow-close', 'warning', ('opened', 'closed'), 3),
         ('address-in-use', 'notice', ('used',), 1), ('close', 'info', ('opened', 'closed'), 30)]


def finding(rng, at, modules, programs=('server', 'worker'), places=6, kinds=KINDS, frames=1):
    event, level, tells, _ = rng.choices(kinds, [kind[3] for kind in kinds])[0]
    made = {'time': at.strftime('%Y-%m-%dT%H:%M:%S.%fZ'), 'pid': 4000 + rng.randrange(5), 'comm': rng.choice(programs),
            'level': level, 'event': event}
    if tells:
        made.update(fd=rng.randrange(3, 900), cookie=rng.randrange(1 << 40), type='tcp', state='close-wait',
                    local='10.0.0.1:8080', peer=f'10.0.{rng.randrange(2)}.{rng.randrange(9)}:{rng.randrange(1024, 65536)}',
                    unread=rng.choice((0, 0, 3, 4096)), unsent=0, age_ms=rng.randrange(10 ** 7))
    if event == 'close-wait':
        made['close_wait_ms'] = rng.randrange(60000, 9000000)
    if event == 'slow-close':
        made['blocked_ms'] = rng.randrange(100, 20000)
    if event in ('blocked-threads', 'left-blocked', 'unread-reset', 'close'):
        made['action'] = 'shutdown' if event != 'left-blocked' else 'none'
    if event == 'left-blocked':
        made['reason'] = 'shared'
    if event.endswith('blocked') or event.startswith('blocked'):
        made['threads'] = [{'tid': 4100 + i, 'name': f'worker-{i}', 'call': 'recvfrom'} for i in range(rng.randrange(1, 4))]
    for tell in tells:
        made[tell] = {'call': {'opened': 'accept4', 'closed': 'close', 'used': 'shutdown'}[tell], 'tid': 4100, 'thread': 'worker-0',
                      'at': [place(rng, modules, places) for _ in range(frames)]}
    where = made[tells[-1]]['at'][0]
    made['text'] = f'fd {made.get("fd", -1)} tcp ... {event} at {os.path.basename(where)} (thread 4100 worker-0); mend it'
    return made


def place(rng, modules, places):
    module, offsets = modules[rng.randrange(len(modules))]
    return f'{module}+0x{offsets[rng.randrange(min(places, len(offsets)))]:x}'


def summary(findings, **more):
    counts = {}
    for made in findings:
        counts[made['event']] = counts.get(made['event'], 0) + 1
    last = findings[-1]
    return {'time': last['time'], 'pid': last['pid'], 'comm': last['comm'], 'level': 'notice', 'event': 'summary',
            'counts': counts, **more, 'text': ', '.join(f'{n} {event}' for event, n in counts.items())}


def make(count, seed=1, modules=(('/nowhere/bin/server', tuple(range(0x1000, 0x1400, 0x10))),), seconds=86400, **options):
    """That many findings, in order of time."""
    rng = random.Random(seed)
    times = sorted(rng.uniform(0, seconds) for _ in range(count))
    return [finding(rng, START + datetime.timedelta(seconds=t), modules, **options) for t in times]


def as_json(findings):
    return ''.join(json.dumps(f, separators=(',', ':'), ensure_ascii=False) + '\n' for f in findings).encode()


def value(text):
    text = str(text)
    bare = text and not any(c in ' ="\x7f' or ord(c) < 32 for c in text)
    return text if bare else json.dumps(text, ensure_ascii=False)


def as_text(findings):
    lines = []
    for made in findings:
        fields = []
        for key, v in made.items():
            if key in ('level', 'event', 'text'):
                continue
            if key == 'threads':
                fields.append((key, ','.join(f'{t["tid"]}:{t["name"]}:{t["call"]}' for t in v)))
            elif key == 'leaks':
                fields.append((key, ', '.join(f'{k["opened"]["call"]} at {value(k["opened"]["at"][0])} now {k["now"]} most {k["most"]}'
                                              f' oldest_ms {k["oldest_ms"]} {k["trend"]}' for k in v)))
            elif isinstance(v, dict):
                fields += [(f'{key}.{k}', ','.join(x) if k == 'at' else x) for k, x in v.items()]
            else:
                fields.append((key, v))
        lines.append(f'preclose: {made["level"]}: {made["event"]}: {made["text"]} '
                     + ' '.join(f'{k}={value(v)}' for k, v in fields) + '\n')
    return ''.join(lines).encode()
