"""preclose top, in a terminal of tmux: what it shows, its keys, and how it leaves the terminal."""

import datetime
import fcntl
import json
import os
import re
import shlex
import signal
import socket
import struct
import subprocess
import termios
import time

import lib
import logs
from command import for_others, path, refused
from lib import Failure, check, equal, need_own_network, program, test
from test_scan import left, listener, need_other_user, until

TITLE = 'preclose top - '
LEAKER = '''
import socket, sys
open('/proc/self/comm', 'w').write(sys.argv[1])
at, kept = socket.create_server(('127.0.0.1', 0)), []
print('here', flush=True)
for line in sys.stdin:
    for _ in range(int(line)):
        client = socket.create_connection(at.getsockname())
        kept.append(at.accept()[0])
        client.sendall(b'x' * int(sys.argv[2]))
        client.close()
    print('done', flush=True)
'''


class Leaker:
    """A process of that name, whose connections in CLOSE_WAIT become as many more as it is told, each with so many bytes unread."""

    def __init__(self, name, count, unread=0):
        self.process = subprocess.Popen(['/usr/bin/python3', '-c', LEAKER, name, str(unread)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, encoding='utf-8', errors='surrogateescape')
        self.pid = self.process.pid
        self.process.stdout.readline()
        self.leak(count)

    def leak(self, count):
        self.process.stdin.write(f'{count}\n')
        self.process.stdin.flush()
        equal(self.process.stdout.readline(), 'done\n', 'the leaker')


class Terminal:
    """A terminal in which a command runs, by a tmux of its own."""

    def __init__(self, command, columns=80, rows=24, **env):
        self.tmux = program('tmux')
        self.socket = path('tmux')
        wanted = {**lib.environment(False, {}), 'LC_ALL': 'C.UTF-8', 'SHELL': '/bin/sh', **env}
        wanted.pop('TMUX', None)
        wanted.pop('NO_COLOR', None) if 'NO_COLOR' not in env else None
        shell = ' '.join(f'{k}={shlex.quote(v)}' for k, v in env.items())
        done = subprocess.run([self.tmux, '-S', self.socket, '-f', '/dev/null', 'new-session', '-d', '-x', str(columns), '-y', str(rows),
                               f'{"env " + shell if shell else ""} {command}'], env=wanted, capture_output=True, text=True, check=False)
        equal((done.returncode, done.stderr), (0, ''), 'tmux')

    def do(self, *arguments):
        done = subprocess.run([self.tmux, '-S', self.socket, *arguments], capture_output=True, check=False, timeout=20)
        if done.returncode:
            raise Failure(f'tmux {arguments}: {done.stderr.decode()}')
        return done.stdout.decode()

    def keys(self, *keys):
        self.do('send-keys', *keys)

    def lines(self, *how):
        return self.do('capture-pane', '-p', *how).split('\n')

    def until(self, what, condition=None, seconds=20):
        """Waits until the screen has those words, or meets the condition. Returns its lines."""
        end = time.monotonic() + seconds
        while True:
            lines = self.lines()
            if condition(lines) if condition else any(what in line for line in lines):
                return lines
            if time.monotonic() > end:
                raise Failure(f'{what!r} did not come: ' + '\n'.join(line for line in lines if line))
            time.sleep(0.02)

    def until_not(self, what):
        return self.until(f'no {what}', lambda lines: not any(what in line for line in lines))

    def state(self, what):
        return self.do('display-message', '-p', f'#{{{what}}}').strip()

    def pid(self):
        return int(self.state('pane_pid'))


def command(*arguments):
    return ' '.join(shlex.quote(a) for a in (os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'top', '-d', '0.1', *arguments))


def top(*leakers, logs_=(), columns=80, rows=24, options=(), **env):
    """top of these processes alone."""
    pids = ','.join(str(one.pid) for one in leakers)
    terminal = Terminal(command(*(['-p', pids] if pids else []), *options, *logs_) + '; echo "status $?"; sleep 60', columns, rows, **env)
    terminal.until(TITLE)
    return terminal


def table(lines):
    """The rows as {column: text}, in order."""
    for i, line in enumerate(lines):
        titles = line.split()
        if titles[:1] == ['PID']:
            return [dict(zip(titles, row.split(None, len(titles) - 1))) for row in lines[i + 1:-2]
                    if re.match(r' *(\d+|-) ', row)]
    return []


def names(lines):
    return [row['COMMAND'].strip() for row in table(lines)]


@test('top/refuse')
def refuse():
    refused('top', status=2, says=['terminal', 'preclose scan'])
    for arguments, says in ((['-d', '0'], 'delay'), (['-d', 'x'], 'delay'), (['-n', '0'], 'iterations'), (['-n', 'x'], 'iterations'),
                            (['--sort=CONNS'], 'CONN'), (['-p', '1,x'], 'process ids'), (['-p', '0'], 'process ids')):
        refused('top', *arguments, status=2, says=[says])


@test('top/refuse/no-cursor/{term}', term=['dumb', '', 'nonsense', None])
def refuse_term(term):
    """A terminal that can't be drawn on."""
    ours, theirs = os.openpty()
    env = {**lib.environment(False, {}), **({} if term is None else {'TERM': term})}
    if term is None:
        env.pop('TERM', None)
    done = subprocess.run([os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'top'], stdin=theirs, stdout=theirs, stderr=subprocess.PIPE,
                          env=env, timeout=20, check=False)
    os.close(ours)
    os.close(theirs)
    said = done.stderr.decode()
    check(done.returncode == 1 and said.startswith('preclose: ') and 'preclose scan' in said and said.count('\n') == 1, f'{done.returncode} {said!r}')


@test('top/shows')
def shows():
    need_own_network()
    one, two = Leaker('worker', 12, 5000), Leaker('server', 3)
    terminal = top(one, two)
    lines = terminal.until('12 processes', lambda l: names(l) == ['worker', 'server'])
    rows = table(lines)
    check(all(len(line) <= 80 for line in lines) and len(lines) == 25, 'it does not fit')
    equal((rows[0]['PID'], rows[0]['CONN'], rows[0]['GROWTH'], rows[0]['/MIN'], rows[0]['UNREAD']),
          (str(one.pid), '12', '0', '-', '60k'), 'row')
    check('FIND/S' not in rows[0], 'a column of findings without logs')
    check('15 in 2 processes, 0' in lines[1] and '60kB unread' in lines[1], lines[1])
    check(lines[23].startswith('F1Help') and lines[23].rstrip().endswith('F10Quit'), lines[23])
    two.leak(20)
    lines = terminal.until('+20', lambda l: names(l) == ['server', 'worker'])
    rows = table(lines)
    equal((rows[0]['CONN'], rows[0]['GROWTH'], rows[1]['GROWTH']), ('23', '+20', '0'), 'row')
    check('35 in 2 processes, +20' in lines[1], lines[1])
    terminal.keys('F5')
    terminal.until('growth from now', lambda l: table(l)[0]['GROWTH'] == '0' and '2 processes, 0' in l[1])
    one.process.kill()
    one.process.wait()
    terminal.until('it is gone', lambda l: names(l) == ['server'] and '23 in 1 process, -12' in l[1])
    terminal.until('an age', lambda l: re.fullmatch(r'[2-9]s', table(l)[0]['OLDEST']))


@test('top/growth')
def growth():
    """A process that was not there at first has grown from nothing; the growth a minute is that of the last minute."""
    need_own_network()
    first = Leaker('first', 2)
    terminal = Terminal(command('--filter', 'new-') + '; sleep 60')
    terminal.until(TITLE)
    terminal.until('(none that the filter lets through)')
    began = time.monotonic()
    made = Leaker('new-one', 6)
    lines = terminal.until('+6', lambda l: names(l) == ['new-one'] and table(l)[0]['GROWTH'] == '+6')
    equal((table(lines)[0]['PID'], table(lines)[0]['CONN']), (str(made.pid), '6'), 'row')
    lines = terminal.until('a rate', lambda l: table(l)[0]['/MIN'].startswith('+'))
    took = time.monotonic() - began
    rate = float(table(lines)[0]['/MIN'])
    # It has seen it for 5 s at least, and for no longer than this test and the look before it began.
    check(6 * 60 / (took + 1) - 0.1 <= rate <= 6 * 60 / 5 + 0.1, f'{rate} a minute after {took} s')
    check(first.process.poll() is None, '')


@test('top/keys')
def keys():
    need_own_network()
    # By connections: c, b, a; by unread bytes: b, a, c.
    a, b, c = Leaker('aa', 2, 300), Leaker('bb', 4, 300), Leaker('cc', 6)
    terminal = top(a, b, c)

    def order(wanted):
        return terminal.until(wanted, lambda l: ''.join(name[0] for name in names(l)) == wanted)

    order('cba')
    for key, wanted in (('>', 'cba'), ('>', 'cba'), ('>', 'bac'), ('I', 'cab'), ('<', 'cba'), ('<', 'cba'), ('<', 'cba'), ('<', 'cba'),
                        ('<', 'abc'), ('I', 'cba'), ('<', 'abc')):  # /MIN, GROWTH are the same for all; USER too; PID; COMMAND
        terminal.keys(key)
        order(wanted)
    terminal.keys('F6')
    terminal.until('Sort by')
    terminal.keys('Up', 'Up')
    terminal.keys('Enter')
    order('bac')
    terminal.keys('h')
    terminal.until('the sockets of the process')
    terminal.keys('h')
    terminal.until(TITLE)
    terminal.keys('Home', 'Down', 'Enter')
    lines = terminal.until(f'aa, pid {a.pid}: 2 in CLOSE_WAIT')
    check(sum('127.0.0.1:' in line for line in lines) == 2 and sum('300 bytes unread' in line for line in lines) == 2, lines[:6])
    terminal.keys('Escape')
    terminal.until(TITLE)
    terminal.keys('/')
    terminal.until('Search: _')
    terminal.keys('C', 'c')
    terminal.until('Search: Cc_')
    terminal.keys('Enter')
    terminal.until('F1Help')
    terminal.keys('Enter')
    terminal.until(f'cc, pid {c.pid}: 6 in CLOSE_WAIT')
    terminal.keys('q')
    terminal.until('F1Help')
    terminal.keys('F4')
    terminal.until('Filter: _')
    terminal.keys('b', 'x')
    terminal.until('(none that the filter lets through)')
    terminal.keys('BSpace', 'b')
    order('b')
    terminal.keys('Enter')
    terminal.until('F1Help')
    terminal.keys('Escape')
    order('bac')
    terminal.keys('d')
    terminal.until('Seconds: _')
    terminal.keys('0', '.', '5', 'Enter')
    terminal.until('every 0.5 s')
    terminal.keys('C-l', 'Space', 'x', 'F9', 'F5')
    order('bac')
    terminal.keys('F10')
    terminal.until('status 0')


@test('top/many')
def many():
    """More processes than lines: PgDn, End, PgUp, Home; more sockets than lines."""
    need_own_network()
    made = [Leaker(f'p-{i:02}', 1) for i in range(30)]
    made[0].leak(40)
    pids = [one.pid for one in made]
    terminal = top(*made, options=['-s', 'pid'])

    def shown(first, last):
        terminal.until(f'{first} to {last}', lambda l: [int(r['PID']) for r in table(l)] == pids[first:last])

    shown(0, 18)
    terminal.keys('End')
    shown(12, 30)
    terminal.keys('PPage', 'PPage')
    shown(0, 18)
    terminal.keys('NPage', 'Down')
    shown(1, 19)
    terminal.keys('Home')
    shown(0, 18)
    terminal.keys('Enter')
    terminal.until('p-00, pid')
    first = terminal.lines()[2].split()[:3]
    terminal.keys('NPage')
    terminal.until('other sockets', lambda l: l[2].split()[:3] != first and '127.0.0.1' in l[22])
    terminal.keys('Down', 'Down', 'NPage', 'NPage', 'Home')
    terminal.until('the first', lambda l: l[2].split()[:3] == first)


@test('top/resize')
def resize():
    need_own_network()
    one = Leaker('worker', 2)
    terminal = top(one)
    for columns, rows in ((50, 12), (200, 60), (30, 7), (2, 2), (80, 24), (20, 4), (1, 1), (120, 10)):
        terminal.do('resize-window', '-x', str(columns), '-y', str(rows))
        wanted = 'worker' if columns >= 30 and rows >= 7 else ''
        terminal.until(wanted, lambda l, c=columns, r=rows: len(l) == r + 1 and all(len(x) <= c for x in l))
        terminal.until(wanted)
        for key in ('h', 'q', 'F6', 'Escape', 'Down', 'Enter', 'Escape'):
            terminal.keys(key)
    terminal.until('worker', lambda l: names(l) == ['worker'])
    terminal.keys('q')
    terminal.until('status 0')


@test('top/color/{how}', how=['color', 'NO_COLOR', 'option', 'vt100', 'linux'])
def color(how):
    need_own_network()
    one = Leaker('worker', 2)
    env = {'NO_COLOR': {'NO_COLOR': '1'}, 'vt100': {'TERM': 'vt100'}, 'linux': {'TERM': 'linux'}}.get(how, {'TERM': 'screen-256color'})
    terminal = top(one, options=['-C'] if how == 'option' else [], **env)
    terminal.until('worker', lambda l: names(l) == ['worker'])
    text = '\n'.join(terminal.lines('-e'))
    colors = re.search(r'\x1b\[(?:\d+;)*(?:3[0-7]|4[0-7])m', text)
    equal(bool(colors), how in ('color', 'linux'), 'colours')
    check(how in ('color', 'linux') or '\x1b[7m' in text, 'nothing is in reverse')


@test('top/ends/{how}', how=['q', 'C-c', 'TERM', 'HUP', 'QUIT', 'n'])
def ends(how):
    """The terminal is as it was: its modes, its screen, its cursor."""
    need_own_network()
    shell = f'trap : INT; echo before; stty -a > {path("a")}; ' + command(*(['-n', '3'] if how == 'n' else [])) + \
        f'; echo "status $?"; stty -a > {path("b")}; echo after; sleep 60'
    terminal = Terminal(shell)
    if how != 'n':
        terminal.until(TITLE)
        equal(terminal.state('alternate_on'), '1', 'a screen of its own')
    if how in ('q', 'C-c'):
        terminal.keys(how)
    elif how != 'n':
        until(lambda: children(terminal.pid()), 'the process')
        os.kill(children(terminal.pid())[0], getattr(signal, 'SIG' + how))
    lines = terminal.until('after')
    status = {'TERM': 143, 'HUP': 129, 'QUIT': 131}.get(how, 0)
    check(f'status {status}' in '\n'.join(lines), lines)
    check(lines[0] == 'before', 'the screen was not given back')
    equal((terminal.state('alternate_on'), terminal.state('cursor_flag'), terminal.state('keypad_flag')), ('0', '1', '0'), 'terminal')
    equal(open(path('a')).read(), open(path('b')).read(), 'modes of the terminal')


def children(pid):
    with open(f'/proc/{pid}/task/{pid}/children') as file:
        return [int(word) for word in file.read().split()]


@test('top/stopped')
def stopped():
    """Ctrl-Z gives the terminal back; fg goes on."""
    need_own_network()
    one = Leaker('worker', 2)
    terminal = Terminal('bash --norc --noprofile -i', PS1='prompt> ')
    terminal.until('prompt>')
    terminal.keys(command('-p', str(one.pid)), 'Enter')
    terminal.until('worker', lambda l: names(l) == ['worker'])
    terminal.keys('C-z')
    terminal.until('Stopped')
    equal((terminal.state('alternate_on'), terminal.state('cursor_flag')), ('0', '1'), 'terminal')
    terminal.keys('fg', 'Enter')
    terminal.until('worker', lambda l: names(l) == ['worker'])
    one.leak(3)
    terminal.until('it goes on', lambda l: table(l) and table(l)[0]['CONN'] == '5')
    terminal.keys('q')
    terminal.until('prompt>')


@test('top/terminal-gone')
def terminal_gone():
    """Without its terminal it ends, and does not spin."""
    need_own_network()
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
    process = subprocess.Popen([os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'top'], stdin=theirs, stdout=theirs,
                               stderr=subprocess.DEVNULL, env={**lib.environment(False, {}), 'TERM': 'screen'})
    os.close(theirs)
    seen = b''
    while TITLE.encode() not in seen:
        seen += os.read(ours, 65536)
    os.close(ours)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        raise Failure('it goes on without a terminal') from None


# With logs.

def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime('%Y-%m-%dT%H:%M:%S.%fZ')


def finding(process, name, event='unread-reset', **more):
    return (json.dumps({'time': now(), 'pid': process, 'comm': name, 'level': 'warning', 'event': event, **more}) + '\n').encode()


def append(name, data):
    with open(path(name), 'ab') as file:
        file.write(data)
    return path(name)


@test('top/findings')
def findings():
    need_own_network()
    one = Leaker('worker', 2)
    log = append('log', logs.as_json(logs.make(40, kinds=[k for k in logs.KINDS if k[0] == 'slow-close'])))
    terminal = Terminal(command(log, path('later')) + '; sleep 60')
    terminal.until('Findings: 0.0/s, 40 in all: slow-close 40')
    terminal.until('later is not there yet')
    mine = [f'{one.pid}', 'worker']

    def row(lines, pid):
        return next((r for r in table(lines) if r['PID'] == pid), {})

    terminal.until('worker', lambda l: row(l, mine[0]).get('FIND/S') == '0.0')
    append('log', b''.join(finding(one.pid, 'worker') for _ in range(20)))
    lines = terminal.until('2.0 a second', lambda l: row(l, mine[0]).get('FIND/S') == '2.0' and 'Findings: 2.0/s, 60 in all' in l[2])
    check('slow-close 40, unread-reset 20' in lines[2], lines[2])
    append('later', finding(4194300, 'elsewhere', 'close-wait', held_back=9))
    lines = terminal.until('elsewhere', lambda l: row(l, '4194300').get('FIND/S') == '1.0' and 'close-wait 10' in l[2])
    equal((row(lines, '4194300')['CONN'], row(lines, '4194300')['COMMAND'].strip()), ('0', 'elsewhere'), 'row')
    os.rename(log, path('log.1'))
    append('log.1', finding(one.pid, 'worker'))
    append('log', finding(one.pid, 'worker'))
    terminal.until('72 in all')
    terminal.until('they are past', lambda l: row(l, mine[0]).get('FIND/S') == '0.0' and 'Findings: 0.0/s' in l[2])


@test('top/bad/{what}', what=['empty', 'binary', 'torn', 'hostile', 'huge', 'directory'], deadline=90)
def bad(what):
    """A screen is a screen, whatever comes."""
    need_own_network()
    one = Leaker('a\x1b[31m\x1b[2J\tb\u202e', 2) if what == 'hostile' else Leaker('worker', 2)
    names_ = ['"\x1b[2J', '\x1b]0;x\x07', '\u202eabc', '\x00', '\x9b31m', 'é' * 9, '漢' * 15, '%n%s']
    data = {'empty': b'', 'binary': os.urandom(1 << 20), 'torn': logs.as_json(logs.make(5))[:-70],
            'hostile': b''.join(finding(i + 1, names_[i % len(names_)], names_[-1 - i % len(names_)]) for i in range(200)) +
            finding(7, 'x', 'y' * 1000) + b'{"event":"\xff\xfe","pid":5}\n' + b'\n' * 100,
            'huge': logs.as_json(logs.make(20000)), 'directory': b''}[what]
    if what == 'directory':
        os.mkdir(path('log'))
    for _ in range(15 if what == 'huge' else 1):
        if what != 'directory':
            append('log', data)
    terminal = Terminal(command(path('log')) + '; echo "status $?"; sleep 60')
    lines = terminal.until('worker', lambda l: any(r['PID'] == str(one.pid) for r in table(l)))
    if what == 'huge':
        shown = len([f for f in logs.make(20000) if f['event'] != 'close']) * 15
        lines = terminal.until('all of it', lambda l: f', {shown} in all' in l[2] and 'read)' not in l[2], 60)
    if what == 'torn':
        lines = terminal.until('Findings: 0.0/s, ')
    if what == 'directory':
        lines = terminal.until('is no file that could be followed')
    if what == 'hostile':
        lines = terminal.until('200 in all', lambda l: re.search(r'\d{3} in all', l[2]))
        row = next(r for r in table(lines) if r['PID'] == str(one.pid))
        equal(row['COMMAND'].strip(), 'a?[31m?[2J?b?', 'name')
    check(all(len(line) <= 80 for line in lines), lines)
    check(lines[0].startswith(TITLE) and lines[23].startswith('F1Help'), lines)
    terminal.keys('q')
    lines = terminal.until('status 0')


@test('top/as-another-user')
def as_nobody():
    need_other_user()
    need_own_network()
    binary = for_others()
    at = listener()
    made = left(at)
    terminal = Terminal(f'setpriv --reuid=65534 --regid=65534 --clear-groups {binary} top -d 0.1; sleep 60')
    lines = terminal.until('not root')
    lines = terminal.until('(unseen)', lambda l: names(l) == ['(unseen)'])
    equal(table(lines)[0]['PID'], '-', 'process')
    check(made.fileno() > 0 and isinstance(at, socket.socket), '')
