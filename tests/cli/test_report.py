"""preclose report: what it says of logs, of any kind and in any state."""

import collections
import fcntl
import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import struct
import subprocess
import termios
import time

import lib
import logs
from command import compile_c, path, preclose, refused
from lib import check, equal, program, test


def write(name, data):
    with open(path(name), 'wb') as file:
        file.write(data)
    return path(name)


def report(*arguments, **options):
    return json.loads(preclose('report', '--json', *arguments, **options).out)


CLASS = {'left-blocked': 'hangs', 'blocked-threads': 'hangs', 'retry-loop': 'hangs', 'slow-close': 'hangs', 'close-wait': 'leaks',
         'open-at-exit': 'leaks', 'unread-reset': 'resets', 'backlog-reset': 'resets', 'linger-reset': 'resets',
         'double-close': 'misuse', 'use-after-close': 'misuse'}
KEY = {'close-wait': 'opened', 'open-at-exit': 'opened', 'double-close': 'used', 'use-after-close': 'used', 'address-in-use': 'used'}


def expected(findings):
    """What a report must add up: {(event, frames of the place): how many}, and by class."""
    groups, classes = collections.Counter(), collections.Counter()
    for made in findings:
        if made['event'] in ('close', 'summary'):
            continue
        place = made.get(KEY.get(made['event'], 'closed'), {})
        groups[made['event'], tuple(place.get('at', (made['comm'],)))] += 1
        classes[CLASS.get(made['event'], 'other')] += 1
    return groups, classes


def told(found):
    groups = collections.Counter()
    for g in found['groups']:
        frames = tuple(f['at'] for f in g[g['place']].get('frames', ()))
        groups[g['event'], frames or tuple(g['comms'])[:1]] += g['count']
    return groups


@test('report/adds-up/{form}', form=['json', 'text'])
def adds_up(form):
    findings = logs.make(5000, frames=3, programs=('server',))
    data = logs.as_json(findings) if form == 'json' else logs.as_text(findings)
    found = report(write('log', data), '--no-symbols')
    groups, classes = expected(findings)
    equal(told(found), groups, 'groups')
    equal({k: v for k, v in found['classes'].items() if v}, dict(classes), 'classes')
    equal((found['lines'], found['broken_lines'], found['other_lines']), (5000, 0, 0), 'lines')
    for g in found['groups']:
        mine = [f for f in findings if f['event'] == g['event'] and
                (tuple(f.get(g['place'], {}).get('at', ())) == tuple(x['at'] for x in g[g['place']].get('frames', ())))]
        if mine and 'unread' in mine[0]:
            equal(g['unread']['sum'], sum(f['unread'] for f in mine), 'unread')
        equal((g['first'], g['last']), (min(f['time'] for f in mine)[:19] + 'Z', max(f['time'] for f in mine)[:19] + 'Z'), 'span')
        equal(sum(g['over_time']['counts']), g['count'], 'counts over time')


@test('report/both-formats-are-the-same')
def same():
    findings = logs.make(3000, frames=2, seed=5)
    findings.append(logs.summary(findings, leaks=[{'opened': {'call': 'accept4', 'at': ['/srv/my server+0x11']}, 'now': 3, 'most': 9,
                                                   'oldest_ms': 71000, 'trend': 'growing'}]))
    one = report(write('a', logs.as_json(findings)), '--no-symbols')
    two = report(write('b', logs.as_text(findings)), '--no-symbols')
    equal(two, one, 'reports')
    equal(one['close_wait_at_exit'], [{'opened': {'call': 'accept4', 'frames': [{'at': '/srv/my server+0x11'}]}, 'now': 3, 'most': 9,
                                       'oldest_ms': 71000, 'summaries': 1, 'growing': 1}], 'leaks of the summary')
    equal(preclose('report', '--no-symbols', path('a')).out, preclose('report', '--no-symbols', path('b')).out, 'texts')


@test('report/strange-names/{form}', form=['json', 'text'])
def strange_names(form):
    """Names that hold what formats are made of; a terminal gets none of it raw."""
    made = logs.make(1, kinds=[k for k in logs.KINDS if k[0] == 'blocked-threads'])[0]
    made['comm'] = 'a "b" time=1 \\ \x1b[31m ü'
    made['threads'] = [{'tid': 7, 'name': 'x:y time=2', 'call': 'recvfrom'}]
    made['closed']['at'] = ['/opt/a,b c/"q"+0x1f', '/opt/\x1b]0;t\x07+0x2']
    made['text'] = 'closed by thread ' + logs.value('time=3 "') + ' here'
    found = report(write('log', (logs.as_json if form == 'json' else logs.as_text)([made])), '--no-symbols')
    group = found['groups'][0]
    equal(list(group['comms']), [made['comm']], 'comm')
    equal(list(group['threads']), ['x:y time=2 in recvfrom'], 'threads')
    equal([f['at'] for f in group['closed']['frames']], made['closed']['at'], 'frames')
    equal(group['text'], made['text'], 'sentence')
    text = preclose('report', '--no-symbols', path('log')).out
    check('\x1b' not in text and '\x07' not in text, 'a control character reaches the terminal')
    check('ü' in text, 'a letter is lost')


@test('report/held-back')
def held_back():
    findings = logs.make(3, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset'], places=1)
    findings[2]['held_back'] = 400
    findings[1]['text'] += '; 7 more from here held back since the last line'  # the sentence is for people
    one = report(write('log', logs.as_json(findings)), '--no-symbols')
    equal(sum(g['count'] for g in one['groups']), 403, 'count')
    check('403 unread-reset' in preclose('report', '--no-symbols', path('log')).out, 'text')
    equal(report('--no-symbols', stdin=logs.as_text(findings))['findings'], 403, 'from text')


@test('report/summary-counts-more')
def counted_more():
    findings = logs.make(3, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset'])
    total = logs.summary(findings)
    total['counts']['unread-reset'] = 50
    text = preclose('report', '--no-symbols', stdin=logs.as_json(findings + [total])).out
    check('47 more unread-reset were counted and not written' in text, text)
    check('resets 3 (of 50 counted)\n' in text, text)


@test('report/summary-has-many-places')
def many_leaks():
    """Of what is left open at the end, the places with most of it first, and not a screen full."""
    findings = logs.make(3)
    leaks = [{'opened': {'call': 'accept4', 'at': [f'/srv/server+0x{i:x}']}, 'now': i % 30, 'most': 30 + i, 'oldest_ms': 71000,
              'trend': 'growing'} for i in range(1, 61)]
    data = logs.as_json(findings + [logs.summary(findings, leaks=leaks[i:i + 8]) for i in range(0, 60, 8)])
    text = preclose('report', '--no-symbols', stdin=data).out
    shown = [int(n) for n in re.findall(r'^ +(\d+) opened by accept4 at server', text, re.M)]
    equal(shown, sorted([leak['now'] for leak in leaks], reverse=True)[:8], 'shown')
    check('and at 52 other places (--all)' in text, text)
    text = preclose('report', '--no-symbols', '--all', stdin=data).out
    equal(len(re.findall(r'^ +\d+ opened by', text, re.M)), 60, 'with --all')
    equal([leak['now'] for leak in report('--no-symbols', stdin=data)['close_wait_at_exit']],
          sorted([leak['now'] for leak in leaks], reverse=True), 'JSON')


@test('report/of-a-later-version')
def later():
    """Events, fields and severities that this version does not know."""
    made = logs.make(1)[0] | {'event': 'brand-new', 'level': 'fatal', 'extra': {'deep': [1, {'x': None}]}, 'age_ms': 1.5e3,
                              'closed': {'call': 'close', 'at': ['/x+0x1'], 'why': []}}
    found = report('--no-symbols', stdin=logs.as_json([made]))
    equal([(g['event'], g['class'], g['count']) for g in found['groups']], [('brand-new', 'other', 1)], 'groups')


# Places → functions.

LEAK = r'''
#include <arpa/inet.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
static int __attribute__((noinline)) take_one(int listener)
{
    return accept(listener, 0, 0); // LINE-OF-ACCEPT
}
static void __attribute__((noinline)) answer(int fd)
{
    close(fd); // LINE-OF-CLOSE
    __asm__ volatile("" ::: "memory");
}
int main(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM, 0), client = socket(AF_INET, SOCK_STREAM, 0);
    bind(listener, (struct sockaddr *)&at, n);
    listen(listener, 5);
    getsockname(listener, (struct sockaddr *)&at, &n);
    connect(client, (struct sockaddr *)&at, n);
    int server = take_one(listener);
    if (write(client, "abc", 3) != 3) return 1;
    char byte;
    recv(server, &byte, 1, MSG_PEEK);
    answer(server);
    return 0;
}
'''


def line_of(mark):
    return 1 + next(i for i, line in enumerate(LEAK.splitlines()) if mark in line)


@test('report/names-function-and-line/{how}', how=['pie', 'no-pie', 'debuglink', 'build-id', 'stripped', 'root', 'changed', 'gone'])
def names(how):
    """Run, log, report: the line of the program that did it, wherever its debug information is."""
    binary = compile_c('leaky', LEAK, '-O1', *(['-no-pie', '-fno-pie'] if how == 'no-pie' else []))
    preclose('-o', path('log'), '-f', 'json', '--', binary)
    options = []
    if how in ('debuglink', 'build-id', 'stripped'):
        subprocess.run([program('objcopy'), '--only-keep-debug', binary, binary + '.debug'], check=True)
        subprocess.run([program('strip'), '-p', binary], check=True)
        if how == 'debuglink':
            subprocess.run([program('objcopy'), '-p', f'--add-gnu-debuglink={binary}.debug', binary], check=True)
        if how == 'build-id':
            notes = subprocess.run([program('readelf'), '-n', binary], capture_output=True, text=True, check=True).stdout
            number = re.search(r'Build ID: ([0-9a-f]+)', notes)[1]
            os.rename(binary + '.debug', path('kept'))
            where = f'/usr/lib/debug/.build-id/{number[:2]}'
            lib.need_root()
            os.makedirs(where, exist_ok=True)
            shutil.move(path('kept'), f'{where}/{number[2:]}.debug')
        if how == 'stripped':
            os.unlink(binary + '.debug')
    if how == 'root':
        moved = path('root') + binary
        os.makedirs(os.path.dirname(moved))
        os.rename(binary, moved)
        options = ['--root', path('root')]
    if how == 'changed':
        os.utime(binary, (2 ** 32, 2 ** 32))
    if how == 'gone':
        os.unlink(binary)
    try:
        found = report(path('log'), *options)
        text = preclose('report', path('log'), *options).out
    finally:
        if how == 'build-id':
            os.unlink(f'{where}/{number[2:]}.debug')
    group = [g for g in found['groups'] if g['event'] == 'unread-reset'][0]
    if how in ('stripped', 'gone'):
        check(re.search(r'unread-reset closed by close at leaky\+0x[0-9a-f]+\n', text), text)
        check('debug information' in text if how == 'stripped' else 'is not here any more' in text, text)
        return
    symbol = group['closed']['frames'][0]['functions'][0]
    equal((symbol['function'], os.path.basename(symbol['file']), symbol['line']), ('answer', 'leaky.c', line_of('LINE-OF-CLOSE')), 'closed')
    symbol = group['others'][0]['opened']['frames'][0]['functions'][0]
    equal((symbol['function'], symbol['line']), ('take_one', line_of('LINE-OF-ACCEPT')), 'opened')
    check(f'closed by close in answer (' in text and f'leaky.c:{line_of("LINE-OF-CLOSE")})' in text, text)
    check(f'by close at answer (' in ' '.join(text.split()), f'the sentence still has the offset: {text}')
    equal('changed after' in text, how == 'changed', 'a doubt')


TOO_LATE = r'''
#include <sys/socket.h>
#include <unistd.h>
static void __attribute__((noinline)) end_it(int fd)
{
    close(fd);
    __asm__ volatile("" ::: "memory");
}
static void __attribute__((noinline)) end_it_again(int fd)
{
    close(fd); // LINE-OF-SECOND-CLOSE
    __asm__ volatile("" ::: "memory");
}
int main(void)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    end_it(fd);
    end_it_again(fd);
    shutdown(fd, SHUT_RDWR); // LINE-OF-USE
    return 0;
}
'''


@test('report/names-the-call-that-came-too-late')
def too_late():
    """Misuse belongs to where the closed descriptor was used; where it was closed is told with it."""
    preclose('-o', path('log'), '-f', 'json', '--', compile_c('late', TOO_LATE, '-O1'))
    groups = {g['event']: g for g in report(path('log'))['groups']}
    for event, call, function, mark in (('double-close', 'close', 'end_it_again', 'LINE-OF-SECOND-CLOSE'),
                                        ('use-after-close', 'shutdown', 'main', 'LINE-OF-USE')):
        group = groups[event]
        symbol = group['used']['frames'][0]['functions'][0]
        equal((group['place'], group['used']['call'], symbol['function'], symbol['line']),
              ('used', call, function, 1 + [mark in line for line in TOO_LATE.splitlines()].index(True)), event)
        closed = [o['closed'] for o in group['others'] if 'closed' in o]
        equal(closed[0]['frames'][0]['functions'][0]['function'], 'end_it', 'where it was closed')


@test('report/agrees-with-addr2line')
def addr2line():
    """Every function of a program, by us and by addr2line."""
    binary = os.path.join(lib.BIN, 'victim')
    table = subprocess.run([program('nm'), '--defined-only', binary], capture_output=True, text=True, check=True).stdout
    offsets = [int(line.split()[0], 16) + 4 for line in table.splitlines() if line.split()[1] in 'tT' and '.' not in line.split()[2]]
    findings = [logs.make(1)[0] | {'event': 'unread-reset', 'closed': {'call': 'close', 'at': [f'{binary}+0x{o:x}']}} for o in offsets]
    found = report(write('log', logs.as_json(findings)))
    ours = {}
    for g in found['groups']:
        frame = g['closed']['frames'][0]
        ours[int(frame['at'].rpartition('+')[2], 16)] = [(s.get('function'), os.path.basename(s.get('file', '?')), s.get('line', 0))
                                                         for s in frame.get('functions', [])]
    out = subprocess.run([program('addr2line'), '-f', '-e', binary, *map(hex, offsets)], capture_output=True, text=True, check=True).stdout
    lines, wrong = out.splitlines(), []
    for i, offset in enumerate(offsets):
        function, place = lines[2 * i], os.path.basename(lines[2 * i + 1]).split(' ')[0]
        line = place.rpartition(':')[2]
        if not line.isdigit() or not ours[offset]:
            continue
        if (function, int(line)) != (ours[offset][0][0], ours[offset][0][2]):
            wrong.append((hex(offset), function, place, ours[offset][0]))
    check(len(offsets) > 100 and not wrong, f'{len(wrong)} of {len(offsets)} differ: {wrong[:3]}')


@test('report/module-is-a/{what}', what=['fifo', 'directory', 'device', 'text', 'cut', 'loop'])
def module_strange(what):
    """A log may name anything as a module: it is looked at only if it is a file, and no harm comes of it."""
    name = path('module')
    if what == 'fifo':
        os.mkfifo(name)
    if what == 'directory':
        os.mkdir(name)
    if what == 'device':
        name = '/dev/zero'
    if what == 'text':
        write('module', b'#!/bin/sh\n' * 100)
    if what == 'cut':
        with open('/bin/true', 'rb') as true:
            write('module', true.read(9000))
    if what == 'loop':
        os.symlink(name, name)
    made = logs.make(1)[0] | {'event': 'unread-reset', 'closed': {'call': 'close', 'at': [f'{name}+0x1234']}}
    found = report(write('log', logs.as_json([made])), timeout=20)
    equal(found['findings'], 1, 'findings')
    check('functions' not in found['groups'][0]['closed']['frames'][0], 'a function was found')


# Logs in any state.

@test('report/empty/{what}', what=['nothing', 'newlines', 'stdin', 'null'])
def empty(what):
    if what == 'nothing':
        equal(preclose('report', write('log', b'')).out, 'nothing found in 0 lines\n', 'text')
    if what == 'newlines':
        found = report(write('log', b'\n\r\n \n'))
        equal((found['findings'], found['lines'], found['broken_lines'], found['other_lines']), (0, 3, 0, 0), 'lines')
    if what == 'stdin':
        equal(preclose('report', stdin=b'').out, 'nothing found in 0 lines\n', 'text')
    if what == 'null':
        equal(preclose('report', '/dev/null').out, 'nothing found in 0 lines\n', 'text')


@test('report/truncated')
def truncated():
    """Cut at every byte: what is whole counts, the rest is one broken line or none."""
    findings = logs.make(2, seed=3)
    for form in (logs.as_json, logs.as_text):
        data = form(findings)
        first = data.index(b'\n') + 1
        for cut in range(first, len(data), 7):
            found = report('--no-symbols', stdin=data[:cut])
            whole = found['finding_lines']
            check(1 <= whole <= 2, f'{whole} lines whole at byte {cut}')
            check(found['broken_lines'] + found['other_lines'] + whole == found['lines'], f'lines at byte {cut}: {found}')


@test('report/binary')
def binary():
    rng = random.Random(9)
    data = rng.randbytes(3_000_000)
    findings = logs.make(50)
    mixed = logs.as_json(findings[:25]) + b'\n' + data + b'\n' + logs.as_text(findings[25:])
    found = report('--no-symbols', stdin=mixed)
    equal(sum(e['lines'] for name, e in found['events'].items() if name in {f['event'] for f in findings}), 50, 'findings')
    equal(found['lines'], mixed.count(b'\n'), 'lines')
    preclose('report', '/bin/true')


@test('report/among-other-output')
def among_others():
    """A stderr that the program writes to as well, and a collector that puts something in front."""
    made = logs.make(4, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset'])
    text = logs.as_text(made[:2]).splitlines(keepends=True)
    lines = [b'starting up\n', b'no newline here' + text[0], b'Nov 21 11:22:18 host server[12]: ' + text[1], b'{"other": "json"}\n',
             b'preclose: PRECLOSE_LEVEL=loud: takes warning, notice or info; using warning\n',
             b'Nov 21 11:22:18 host server[12]: ' + logs.as_json(made[2:3]), b'   ' + logs.as_json(made[3:])]
    found = report('--no-symbols', stdin=b''.join(lines))
    equal((found['findings'], found['broken_lines'], found['other_lines']), (4, 0, 3), 'findings, broken, other')


@test('report/long-lines')
def long_lines():
    """A line that is too long is counted and left out, also one that never ends."""
    made = logs.as_json(logs.make(2, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset']))
    first, second = made.splitlines(keepends=True)
    found = report('--no-symbols', stdin=first + b'{"text":"' + b'x' * 5_000_000 + b'"}\n' + second + b'y' * 3_000_000)
    equal((found['findings'], found['broken_lines'], found['lines']), (2, 2, 4), 'findings, broken, lines')
    padded = second[:-2] + b',"more":"' + b'z' * 60000 + b'"}\n'
    equal(report('--no-symbols', stdin=padded)['findings'], 1, 'one of 60 kB counts')


JSON_TEXTS = ['1', '-0', '0.5', '1e5', '1E+5', '01', '1.', '.5', '+1', '-', '1e', 'true', 'tru', 'nul', 'null', '""', '"a', '"\\u12"',
              '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud83d"', '"\\x"', '"\t"', '[]', '[1,]', '[,1]', '[1 2]', '{}', '{"a"}', '{"a":}', '{"a":1,}',
              '{a:1}', '[[[[1]]]]', '{"a":{"b":[{}]}}', '[1', '"a\\"b"', '"\\\\"', ' 1 ', '1 1', '', '[' * 60 + ']' * 60, '"a"b', "'a'"]


def is_json(text):
    def refuse(word):
        raise ValueError(word)
    try:
        json.loads(text, parse_constant=refuse)
        return True
    except (ValueError, RecursionError):
        return False


@test('report/json/{seed}', seed=[0, 1, 2])
def json_like_python(seed):
    """What is JSON and what is not, as Python sees it: a table, and 30,000 lines with a byte or two changed."""
    rng, lines = random.Random(seed), []
    if seed == 0:
        lines = ['{"event":"x","v":%s}' % text for text in JSON_TEXTS]
    else:
        pool = logs.as_json(logs.make(40, seed=seed, frames=2)).decode().splitlines()
        for _ in range(30000):
            line = list(rng.choice(pool))
            for _ in range(rng.randrange(1, 3)):
                at = rng.randrange(1, len(line))
                line[at:at + rng.randrange(2)] = rng.choice(['"', '\\', '{', '}', '[', ']', ',', ':', '0', 'e', '-', ' ', 'x', '\\u00', ''])
            lines.append(''.join(line))
    # A line that is JSON and has no event is no finding; one that does not begin so is not looked at as one.
    wanted = collections.Counter()
    for line in lines:
        if not line.strip():
            wanted['empty'] += 1
        elif not is_json(line):
            wanted['broken'] += 1
        else:
            event = json.loads(line).get('event')
            wanted['findings' if isinstance(event, str) and event else 'other'] += 1
    found = report('--no-symbols', stdin='\n'.join(lines).encode() + b'\n')
    got = {'findings': found['finding_lines'], 'broken': found['broken_lines'], 'other': found['other_lines']}
    equal(got, {k: wanted[k] for k in got}, 'lines')


@test('report/packed/{how}', how=['gzip', 'members', 'padded', 'truncated', 'damaged', 'zstd', 'xz', 'stdin'])
def packed(how):
    findings = logs.make(4000)
    data = logs.as_json(findings)
    whole = gzip.compress(data)
    if how in ('gzip', 'stdin'):
        found = report(write('log.1.gz', whole)) if how == 'gzip' else report(stdin=whole)
        equal(told(found), expected(findings)[0], 'groups')
    if how == 'members':
        lines = data.splitlines(keepends=True)
        members = b''.join(gzip.compress(b''.join(lines[i:i + 3]), 1) for i in range(0, len(lines), 3))
        equal(report(write('log.gz', members))['lines'], 4000, 'lines')
    if how == 'padded':
        equal(report(write('log.gz', whole + b'\0' * 1000))['lines'], 4000, 'lines')
    if how in ('truncated', 'damaged'):
        bad = whole[:len(whole) // 2] if how == 'truncated' else whole[:20000] + b'\xff' * 200 + whole[20200:]
        done = preclose('report', '--json', write('log.gz', bad), status=1)
        check('gzip' in done.err and done.err.count('\n') == 1, done.err)
        check(0 < json.loads(done.out)['lines'] < 4000, 'what came before does not count')
    if how in ('zstd', 'xz'):
        subprocess.run([program(how), '-q', write('log', data)], check=True)
        done = preclose('report', path('log' + ('.zst' if how == 'zstd' else '.xz')), status=1)
        check(f'{how}cat LOG | preclose report' in done.err and done.err.count('\n') == 1, done.err)


@test('report/several')
def several():
    """Rotated logs, in any order, are one; one that can't be read is told, and the others count."""
    findings = logs.make(900)
    write('log.2.gz', gzip.compress(logs.as_json(findings[:300])))
    write('log.1', logs.as_text(findings[300:600]))
    write('log', logs.as_json(findings[600:]))
    for order in (('log', 'log.1', 'log.2.gz'), ('log.2.gz', 'log', 'log.1')):
        equal(told(report('--no-symbols', *map(path, order))), expected(findings)[0], 'groups')
    done = preclose('report', '--json', path('missing'), path('log'), lib.SCRATCH, status=1)
    equal(json.loads(done.out)['lines'], 300, 'lines')
    check('missing' in done.err and 'directory' in done.err and done.err.count('\n') == 2, done.err)
    refused('report', path('missing'), status=1, says=['missing', 'No such file'])


@test('report/refuse')
def refuse():
    refused('report', '--nonsense', status=2, says=['--nonsense', 'report --help'])
    refused('report', '--html', status=2, says=['needs an argument'])
    check('/nowhere/x.html' in preclose('report', '--html', '/nowhere/x.html', '/dev/null', status=1).err, 'not told')
    with open('/dev/full', 'w') as full:
        done = subprocess.run([os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'report', '/dev/null'], stdout=full,
                              stderr=subprocess.PIPE, check=False)
    equal((done.returncode, done.stderr.count(b'\n'), b'No space' in done.stderr), (1, 1, True), 'a full disk')


@test('report/many-places', deadline=120)
def many_places():
    """More places than are told apart: nothing is lost from the sums, and memory stays bounded."""
    made = logs.make(1, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset'])[0]
    lines = []
    for i in range(60000):
        made['closed'] = {'call': 'close', 'at': [f'/srv/{"m" * 50}/{i}+0x{i:x}'] * 4}
        made['pid'] = i + 1
        lines.append(json.dumps(made))
    write('log', '\n'.join(lines).encode() + b'\n')
    done = preclose('report', '--json', '--no-symbols', path('log'), preexec_fn=limit(64))
    found = json.loads(done.out)
    equal((found['classes']['resets'], len(found['groups'])), (60000, 10001), 'sums')


def limit(megabytes):
    """Ends a program that takes more memory than that: what it allocates, not what it maps of files."""
    return lambda: resource.setrlimit(resource.RLIMIT_DATA, (megabytes * 1000000,) * 2)


@test('report/speed-and-memory', deadline=180)
def speed():
    """At least 200 MB for a second of processor time, and no more memory for more log."""
    data = logs.as_json(logs.make(20000, frames=2))
    with open(path('large'), 'wb') as file:
        for _ in range(300_000_000 // len(data)):
            file.write(data)
    size, before = os.path.getsize(path('large')), os.times()
    preclose('report', '--no-symbols', path('large'), preexec_fn=limit(16), timeout=150)
    after = os.times()
    seconds = after.children_user + after.children_system - before.children_user - before.children_system
    check(size / seconds > 200e6, f'{size / seconds / 1e6:.0f} MB/s')


# Followed.

class Follower:
    """report --follow --json: the report after each change is a line."""

    def __init__(self, *logs_, **options):
        self.process = subprocess.Popen([os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'report', '--follow', '--json', '--no-symbols',
                                         *logs_], stdout=subprocess.PIPE, **options)

    def until(self, count):
        """Reads reports until one has that many findings."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            line = self.process.stdout.readline()
            check(line, 'it has ended')
            found = json.loads(line)
            if found['findings'] >= count:
                return found
        raise lib.Failure(f'no report with {count} findings')

    def end(self):
        self.process.send_signal(signal.SIGINT)
        equal(self.process.wait(10), -signal.SIGINT, 'status')


@test('report/follow/{how}', how=['grows', 'rotated', 'cut', 'in-pieces', 'two'])
def follow(how):
    findings = logs.make(30, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset'])
    lines = logs.as_json(findings).splitlines(keepends=True)
    write('log', b''.join(lines[:10]))
    write('other', b'')
    follower = Follower(path('log'), *([path('other')] if how == 'two' else []))
    follower.until(10)
    if how == 'grows':
        with open(path('log'), 'ab') as log:
            log.write(b''.join(lines[10:]))
    if how == 'rotated':
        with open(path('log'), 'ab') as log:
            os.rename(path('log'), path('log.1'))
            log.write(b''.join(lines[10:15]))
            log.flush()
            write('log', b''.join(lines[15:]))
    if how == 'cut':
        os.truncate(path('log'), 0)
        with open(path('log'), 'ab') as log:
            log.write(b''.join(lines[10:12]))
        follower.until(12)
        with open(path('log'), 'ab') as log:
            log.write(b''.join(lines[12:]))
    if how == 'in-pieces':
        data = b''.join(lines[10:])
        with open(path('log'), 'ab', buffering=0) as log:
            for i in range(0, len(data), 1000):
                log.write(data[i:i + 1000])
                time.sleep(0.001)
    if how == 'two':
        with open(path('other'), 'ab') as log:
            log.write(b''.join(lines[10:]))
    found = follower.until(30)
    equal((found['findings'], found['broken_lines']), (30, 0), 'findings')
    follower.end()


@test('report/follow/pipe')
def follow_pipe():
    """What comes through a pipe is told as it comes, and the end of the pipe is the end."""
    lines = logs.as_json(logs.make(30, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset'])).splitlines(keepends=True)
    follower = Follower(stdin=subprocess.PIPE)
    for upto in (10, 25):
        follower.process.stdin.write(b''.join(lines[0 if upto == 10 else 10:upto]))
        follower.process.stdin.flush()
        equal(follower.until(upto)['findings'], upto, 'findings')
    follower.process.stdin.write(b''.join(lines[25:])[:-1])
    follower.process.stdin.close()
    equal(follower.until(30)['findings'], 30, 'findings, and the last line has no newline')
    equal(follower.process.wait(10), 0, 'status')


# On a terminal.

def on_terminal(arguments, until, stdout=True):
    """Runs the command with a terminal of 80 columns as stderr (and stdout), until it has written that or has ended. Returns what it
    wrote there."""
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    process = subprocess.Popen([os.path.join(os.path.dirname(lib.LIB), 'preclose'), *arguments], stderr=theirs,
                               stdout=theirs if stdout else subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    os.close(theirs)
    seen, end = b'', time.monotonic() + 60
    while until not in seen and time.monotonic() < end:
        try:
            seen += os.read(ours, 65536)
        except OSError:  # the other side is closed
            break
    if process.poll() is None and until in seen:
        process.kill()
    process.wait()
    os.close(ours)
    return seen


@test('report/terminal/progress', deadline=90)
def progress():
    data = logs.as_json(logs.make(20000))
    with open(path('large'), 'wb') as file:
        for _ in range(30):
            file.write(data)
    # A processor time of 1 s would be far more than this takes; a first look after 100 ms is all it needs.
    seen = on_terminal(['report', '--no-symbols', path('large'), path('large'), path('large')], b'nothing ends this', stdout=False)
    check(re.search(rb'\rreading: +\d+ % of [\d.]+ [MG]B, [\d.]+ [kMG]B/s', seen), seen[-300:])
    check(seen.endswith(b'\r\x1b[K'), f'the line of progress is left: {seen[-80:]!r}')
    small = on_terminal(['report', write('small', logs.as_json(logs.make(3)))], b'nothing ends this', stdout=False)
    equal(small, b'', 'progress of what takes no time')


@test('report/terminal/width')
def width():
    seen = on_terminal(['report', '--no-symbols', write('log', logs.as_json(logs.make(200)))], b'nothing ends this')
    lines = [line for line in seen.decode().split('\r\n') if ' ' in line.strip()]
    check(lines and max(len(line) for line in lines) <= 80, f'a line of {max(map(len, lines))} columns')


@test('report/terminal/follow')
def follow_terminal():
    seen = on_terminal(['report', '--follow', '--no-symbols', write('log', logs.as_json(logs.make(20)))], b'in 20 lines')
    check(seen.startswith(b'\x1b[H\x1b[2J'), f'the screen is not cleared first: {seen[:40]!r}')


@test('report/no-log-on-a-terminal')
def no_log():
    """Without a log and with a terminal as standard input it says what it wants, and does not wait."""
    ours, theirs = os.openpty()
    done = subprocess.run([os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'report'], stdin=theirs, capture_output=True, timeout=20,
                          check=False)
    os.close(ours)
    os.close(theirs)
    equal((done.returncode, b'which log' in done.stderr), (2, True), 'status, and what it says')
