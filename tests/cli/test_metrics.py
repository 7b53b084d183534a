"""preclose metrics: what it counts and says, to whom, and that nobody can harm it; with Prometheus' own programs."""

import collections
import gzip
import json
import os
import random
import re
import resource
import shutil
import signal
import socket
import stat
import subprocess
import time
import urllib.parse
import urllib.request

import lib
import logs
from command import path, preclose, refused
from lib import Failure, check, equal, need_own_network, program, skip, test
from test_scan import left, listener, until

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')


def write(name, data, mode='wb'):
    with open(path(name), mode) as file:
        file.write(data)
    return path(name)


# What it says, taken apart.

NAME = r'[a-zA-Z_:][a-zA-Z0-9_:]*'
SAMPLE = re.compile(rf'({NAME})(?:\{{({NAME}="(?:[^"\\\n]|\\["\\n])*"(?:,{NAME}="(?:[^"\\\n]|\\["\\n])*")*)\}})? (-?[0-9.]+(?:e[+-][0-9]+)?)')


class Page:
    """The samples of a page by (name, labels); complains of whatever is not as both formats want it."""

    def __init__(self, text):
        lines = text.split('\n')
        equal(lines[-2:], ['# EOF', ''], 'the end')
        self.samples, self.types, self.text = {}, {}, text
        described, family, seen = set(), None, set()
        for line in lines[:-2]:
            if line.startswith('# HELP '):
                described.add(line.split(' ')[2])
                continue
            if line.startswith('# TYPE '):
                _, _, name, kind = line.split(' ')
                self.types[name] = kind
                continue
            match = SAMPLE.fullmatch(line)
            check(match, f'no sample: {line!r}')
            name, labels, value = match.groups()
            check(name in described or name.removesuffix('_total') in described, f'{name} without help')
            check(name == family or name not in seen, f'the samples of {name} are not together')
            family = name
            seen.add(name)
            found = [(k, re.sub(r'\\(.)', r'\1', v)) for k, v in re.findall(rf'({NAME})="((?:[^"\\]|\\.)*)"', labels or '')]
            key = name, tuple(sorted(found))
            check(key not in self.samples, f'twice: {line!r}')
            self.samples[key] = float(value)

    def get(self, name, **labels):
        return self.samples.get((name, tuple(sorted(labels.items()))))

    def all(self, name):
        return {labels: value for (n, labels), value in self.samples.items() if n == name}


def metrics(*arguments, **options):
    return Page(preclose('metrics', *arguments, **options).out)


def lint(text):
    """promtool has nothing to say of it."""
    done = subprocess.run([program('promtool'), 'check', 'metrics'], input=text, capture_output=True, text=True, check=False)
    equal((done.returncode, done.stdout + done.stderr), (0, ''), 'promtool check metrics')


def counted(findings):
    counts = collections.Counter()
    for made in findings:
        if made['event'] != 'summary':
            counts[tuple(sorted((k, made[k]) for k in ('event', 'level', 'comm')))] += 1
    return counts


# Once.

@test('metrics/counts/{kind}', kind=['json', 'text', 'gzip', 'standard-input'])
def counts(kind):
    findings = logs.make(500)
    findings.append(logs.summary(findings))
    data = logs.as_text(findings) if kind == 'text' else logs.as_json(findings)
    if kind == 'standard-input':
        page = metrics('-', stdin=data)
    else:
        page = metrics(write('log', gzip.compress(data) if kind == 'gzip' else data))
    equal(page.all('preclose_findings_total'), dict(counted(findings)), 'findings')
    equal(sum(page.all('preclose_exit_findings_total').values()), 500, 'what the summary counts')
    equal(page.get('preclose_log_lines_total', kind='finding'), 501, 'lines')
    newest = max(f['time'] for f in findings)
    said = page.get('preclose_last_finding_timestamp_seconds')
    equal(time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(int(said))), newest[:19], 'the latest')
    lint(page.text)


@test('metrics/of-a-program')
def of_a_program():
    """What the library writes of a program that closes with bytes unread, more often than PRECLOSE_RATE lets it tell."""
    program_ = ('import socket\nat = socket.create_server(("127.0.0.1", 0))\nfor i in range(25):\n'
                '    c = socket.create_connection(at.getsockname()); s = at.accept()[0]\n'
                '    c.sendall(b"abc"); s.recv(1, socket.MSG_PEEK); s.close(); c.close()\n')
    preclose('-o', path('log'), '-f', 'json', '--rate=10', '--', '/usr/bin/python3', '-c', program_)
    page = metrics(path('log'))
    comm = 'python3'
    written = page.get('preclose_findings_total', event='unread-reset', level='warning', comm=comm)
    equal((written, page.get('preclose_exit_findings_total', event='unread-reset', comm=comm)), (10, 25), 'written, and counted')
    lint(page.text)


@test('metrics/held-back')
def held_back():
    made = logs.make(1, kinds=[k for k in logs.KINDS if k[0] == 'unread-reset'])[0]
    made['held_back'] = 41
    page = metrics(write('log', logs.as_json([made])))
    equal(list(page.all('preclose_findings_total').values()), [42], 'findings')


@test('metrics/formats')
def formats():
    log = write('log', logs.as_json(logs.make(50)))
    pages = {f: metrics('--format', f, log) for f in ('common', 'openmetrics', 'prometheus')}
    equal(pages['common'].types.get('preclose_findings_total'), None, 'type in what both read')
    equal(pages['openmetrics'].types['preclose_findings'], 'counter', 'type in OpenMetrics')
    equal(pages['prometheus'].types['preclose_findings_total'], 'counter', 'type for Prometheus')
    for page in pages.values():
        equal(page.types['preclose_scan_success'], 'gauge', 'type')
    equal(pages['common'].all('preclose_findings_total'), pages['openmetrics'].all('preclose_findings_total'), 'counts')
    lint(pages['common'].text)
    lint(pages['prometheus'].text)
    refused('metrics', '--format=xml', status=2, says=['xml', 'openmetrics'])


@test('metrics/openmetrics-to-the-letter')
def strict():
    """The parser of Prometheus' Python client takes nothing that the specification does not allow."""
    code = ('import sys; from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse; '
            'print({f.name: f.type for f in parse(sys.stdin.read())})')
    if subprocess.run(['/usr/bin/python3', '-c', 'import prometheus_client'], capture_output=True, check=False).returncode:
        skip('no prometheus_client here')
    at = listener()
    kept = [left(at, b'abc') for _ in range(3)]
    log = write('log', hostile_log() + logs.as_json(logs.make(50)))
    for name, kind in (('common', "'preclose_findings_total': 'unknown'"), ('openmetrics', "'preclose_findings': 'counter'")):
        text = preclose('metrics', '--format', name, log).stdout
        done = subprocess.run(['/usr/bin/python3', '-c', code], input=text, capture_output=True, check=False)
        equal((done.returncode, done.stderr.decode()[-300:]), (0, ''), f'parser of {name}')
        check(kind in done.stdout.decode(), done.stdout)
    check(kept, '')


@test('metrics/gauges')
def gauges():
    need_own_network()
    at = listener()
    kept = [left(at, b'x' * i) for i in (0, 3, 40)]
    socket.create_connection(at.getsockname()).close()
    me = {'pid': str(os.getpid()), 'comm': open('/proc/self/comm').read().strip()}
    until(lambda: metrics().get('preclose_close_wait_oldest_seconds', **me) > 0.3, 'an age')
    page = metrics()
    equal(page.get('preclose_close_wait_connections', **me), 4, 'connections')
    equal(page.get('preclose_close_wait_not_accepted_connections', **me), 1, 'not accepted')
    equal(page.get('preclose_close_wait_unread_bytes', **me), 43, 'unread')
    check(page.get('preclose_close_wait_sockets') >= 4, 'all')
    check(page.get('preclose_ghost_sockets') is not None, 'ghosts')
    equal((page.get('preclose_scan_success'), page.all('preclose_findings_total')), (1, {}), 'without a log')
    check('preclose_log' not in page.text, 'counters without a log')
    lint(page.text)
    kept.clear()


@test('metrics/no-scan')
def no_scan():
    page = metrics('--no-scan', write('log', logs.as_json(logs.make(5))))
    check('close_wait_' not in page.text.replace('close-wait', '') and 'preclose_scan' not in page.text, page.text)
    equal(sum(page.all('preclose_findings_total').values()), 5, 'findings')
    equal(metrics('--no-scan').samples, {}, 'nothing at all')


# Bad input.

def hostile_log():
    rng = random.Random(7)
    odd = ['"} 5', '\\', 'a\nb', 'a"b', '\x00x', '\x1b[2J', '\u202e', 'é' * 40, '', '# EOF', '{}', ',', '\ud800']
    lines = [json.dumps({'time': '2026-11-21T14:10:40Z', 'event': rng.choice(odd) or 'x', 'level': rng.choice(odd),
                         'comm': rng.choice(odd)}).encode() for _ in range(300)]
    lines += [b'{"event":"x","comm":"\xff\xfe\xc3"}', b'{"event":"x","comm":"' + b'\xc3\xa9' * 500 + b'"}']
    return b'\n'.join(lines) + b'\n'


@test('metrics/bad/{what}', what=['empty', 'binary', 'torn', 'hostile', 'many-labels', 'long-lines', 'zeros'])
def bad(what):
    rng = random.Random(3)
    data = {'empty': b'', 'binary': rng.randbytes(1 << 20), 'hostile': hostile_log(), 'zeros': b'\0' * (1 << 20),
            'torn': logs.as_json(logs.make(50))[:-100],
            'many-labels': b''.join(b'{"event":"e%d","comm":"c%d"}\n' % (i % 7, i) for i in range(30000)),
            'long-lines': b'x' * 300000 + b'\n' + logs.as_json(logs.make(3)) + b'{"event":"' + b'y' * 300000}[what]
    page = metrics('--no-scan', write('log', data))
    lint(page.text)
    check(len(page.text) < 400000, f'{len(page.text)} bytes')
    check(all(ord(c) >= 0x20 or c == '\n' for c in page.text), 'control characters')
    if what == 'torn':
        equal(page.get('preclose_log_lines_total', kind='broken'), 1, 'broken')
    if what == 'many-labels':
        equal(sum(page.all('preclose_findings_total').values()), 30000, 'all are counted')
        check(len(page.all('preclose_findings_total')) < 1100, 'series')
    if what == 'long-lines':
        equal((page.get('preclose_log_lines_total', kind='too-long'), page.get('preclose_log_lines_total', kind='finding')), (2, 3), 'lines')


@test('metrics/failures')
def failures():
    log, damaged = write('log', logs.as_json(logs.make(5))), write('x.gz', gzip.compress(logs.as_json(logs.make(900)))[:-2000])
    for bad_log in (path('none'), damaged, lib.SCRATCH):
        done = preclose('metrics', log, bad_log, status=1)
        page = Page(done.out)
        equal((page.get('preclose_logs_failed'), page.get('preclose_logs_open')), (1, 1), 'logs')
        check(done.err.startswith('preclose: '), done.err)
    refused('metrics', '--every=1s', status=2, says=['--output'])
    refused('metrics', '--every=1', '-o', path('x'), status=2, says=['duration'])
    refused('metrics', '-o', '/nowhere/x.prom', log, status=1, says=['/nowhere/x.prom'])
    refused('metrics', '-o', '/proc/version', log, status=1, says=['/proc/version'])


@test('metrics/huge', deadline=120)
def huge():
    data = logs.as_json(logs.make(20000))
    with open(path('huge'), 'wb') as file:
        for _ in range(20):
            file.write(data)
    page = metrics('--no-scan', path('huge'), preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (1 << 26, 1 << 26)))
    equal(sum(page.all('preclose_findings_total').values()), 400000, 'findings, in 64 MB of address space')


# Into a file.

@test('metrics/file')
def file():
    log, out = write('log', logs.as_json(logs.make(5))), path('x.prom')
    preclose('metrics', '-o', out, log, preexec_fn=lambda: os.umask(0o027))
    equal(stat.S_IMODE(os.stat(out).st_mode), 0o640, 'mode')
    first = os.stat(out).st_ino
    os.symlink(out, path('link.prom'))
    preclose('metrics', '--output', path('link.prom'), log)
    check(os.path.islink(path('link.prom')) and os.stat(out).st_ino != first, 'the file behind a link is replaced')
    equal(sum(Page(open(out).read()).all('preclose_findings_total').values()), 5, 'findings')
    done = preclose('metrics', '-o', '/dev/stdout', log)
    equal(sum(Page(done.out).all('preclose_findings_total').values()), 5, 'findings on standard output')
    equal(sorted(os.listdir(lib.SCRATCH)), ['link.prom', 'log', 'x.prom'], 'what is left')


@test('metrics/file/full-disk')
def full_disk():
    """What can't be written whole does not take the place of what is there."""
    out = write('x.prom', b'before\n')
    for limit in (1000, 0):
        done = preclose('metrics', '-o', out, write('log', logs.as_json(logs.make(300))), status=None, preexec_fn=lambda size=limit: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))))
        equal((done.returncode, open(out).read()), (1, 'before\n'), 'status, and the file')
        check('cannot write' in done.err and 'x.prom' in done.err, done.err)
        equal(sorted(os.listdir(lib.SCRATCH)), ['log', 'x.prom'], 'what is left')


class Running:
    """preclose metrics, staying."""

    def __init__(self, *arguments, **options):
        self.process = subprocess.Popen([os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'metrics', *arguments],
                                        env=lib.environment(False, {}), stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, **options)
        self.said = ''
        if '--listen' in arguments:
            self.line_with('metrics are at ')
            self.url = re.search(r'http://\S+', self.said)[0]
            where = urllib.parse.urlsplit(self.url)
            self.address = where.hostname, where.port

    def line_with(self, words):
        while words not in self.said:
            line = self.process.stderr.readline().decode()
            check(line, f'it has ended, and said {self.said!r}')
            self.said += line

    def page(self, openmetrics=False):
        """Waits for it to have read its logs."""
        end = time.monotonic() + 30
        while True:
            status, head, body = self.ask(b'GET /metrics HTTP/1.1\r\nHost: x\r\n' +
                                          (b'Accept: application/openmetrics-text\r\n' if openmetrics else b'') + b'\r\n')
            if status != 503:
                equal(status, 200, 'status')
                check(('openmetrics' in head) == openmetrics, head)
                return Page(body.decode())
            check(time.monotonic() < end, 'the logs were not read in 30 s')

    def ask(self, request):
        """Status, head and body of the answer."""
        with socket.create_connection(self.address, timeout=20) as s:
            s.sendall(request)
            answer = b''
            while chunk := s.recv(65536):
                answer += chunk
        head, _, body = answer.partition(b'\r\n\r\n')
        return int(head.split(b' ')[1]) if head else None, head.decode(), body

    def count(self):
        return sum(self.page().all('preclose_findings_total').values())

    def end(self, with_signal=signal.SIGTERM):
        self.process.send_signal(with_signal)
        try:
            equal(self.process.wait(10), 0, 'status')
        except subprocess.TimeoutExpired:
            raise Failure('it does not end') from None

    def peak(self):
        """The most memory that it has had, in kB."""
        with open(f'/proc/{self.process.pid}/status') as status:
            return int(re.search(r'VmHWM:\s*(\d+)', status.read())[1])


@test('metrics/file/every')
def every():
    """Whoever reads the file while it is replaced again and again finds it whole."""
    log, out = write('log', logs.as_json(logs.make(300))), path('x.prom')
    running = Running('--no-scan', '--every=100ms', '-o', out, log)
    until(lambda: os.path.exists(out), 'the file')
    inodes, end = set(), time.monotonic() + 30
    while len(inodes) < 10 and time.monotonic() < end:
        with open(out) as file_:
            inodes.add(os.fstat(file_.fileno()).st_ino)
            equal(sum(Page(file_.read()).all('preclose_findings_total').values()), 300, 'findings')
    with open(log, 'ab') as file_:
        file_.write(logs.as_json(logs.make(7)))
    until(lambda: sum(Page(open(out).read()).all('preclose_findings_total').values()) == 307, 'the rest')
    running.end(signal.SIGINT)
    equal(sorted(os.listdir(lib.SCRATCH)), ['log', 'x.prom'], 'what is left')


# Over HTTP.

@test('metrics/listen/{address}', address=['127.0.0.1:0', '[::1]:0', ':0', 'localhost:0', '[::]:0'])
def listens(address):
    need_own_network()
    running = Running('--listen', address)
    equal(running.page().get('preclose_scan_success'), 1, 'scan')
    if address == ':0':
        for host in ('127.0.0.1', '::1'):
            urllib.request.urlopen(f'http://{"[::1]" if ":" in host else host}:{running.address[1]}/metrics', timeout=10).close()
    running.end()


@test('metrics/listen/refused')
def listen_refused():
    for address in ('', 'x', '127.0.0.1', '127.0.0.1:', '127.0.0.1:65536', '::1:90', '[::1:90', '127.0.0.1:9x', ':-1', '127.0.0.1:999999999999'):
        refused('metrics', '--listen', address, status=1, says=[f'--listen={address}: takes'])
    with listener() as at:
        where = f'127.0.0.1:{at.getsockname()[1]}'
        refused('metrics', '--listen', where, status=1, says=[where, 'in use'])
    refused('metrics', '--listen', '192.0.2.1:0', status=1, says=['192.0.2.1:0'])


@test('metrics/listen/requests')
def requests():
    need_own_network()
    running = Running('--listen', '127.0.0.1:0', write('log', logs.as_json(logs.make(3))))
    equal(running.page(True).types['preclose_findings'], 'counter', 'type')
    equal(running.page().types['preclose_findings_total'], 'counter', 'type')
    status, head, body = running.ask(b'HEAD /metrics HTTP/1.1\r\n\r\n')
    equal((status, body), (200, b''), 'HEAD')
    check(re.search(r'Content-Length: [1-9]\d+\r\n', head + '\r\n'), head)
    for request, status in ((b'GET / HTTP/1.0\r\n\r\n', 200), (b'GET http://x/metrics?a HTTP/1.1\n\n', 200), (b'GET /x HTTP/1.1\r\n\r\n', 404),
                            (b'POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc', 405), (b'nonsense\r\n\r\n', 400),
                            (b'\x16\x03\x01\n\n', 400), (b'GET /metrics HTTP/1.1\r\nX: ' + b'x' * 9000 + b'\r\n\r\n', 431),
                            (b'POST /metrics HTTP/1.1\r\n\r\n' + b'x' * 1000000, 405)):
        equal(running.ask(request)[0], status, f'status of {request[:40]!r}')
    with socket.create_connection(running.address, timeout=10) as s:  # byte by byte
        for byte in b'GET /metrics HTTP/1.1\r\n\r\n':
            s.sendall(bytes([byte]))
        check(s.recv(100).startswith(b'HTTP/1.1 200 '), 'a request in pieces')
    with socket.create_connection(running.address, timeout=10) as s:  # the client has no more to say
        s.sendall(b'GET /metrics HTTP/1.1\r\n')
        s.shutdown(socket.SHUT_WR)
        equal(s.recv(100), b'', 'half of a request')
    running.end()


@test('metrics/listen/enemies', deadline=90)
def enemies():
    """Clients that say nothing, take nothing, talk nonsense and go away, by the hundred: others are served, and memory stays."""
    need_own_network()
    log = write('log', b''.join(b'{"event":"e%d","comm":"c%d"}\n' % (i % 7, i) for i in range(3000)))
    running = Running('--listen', '127.0.0.1:0', log)
    running.page()
    rng, kept = random.Random(5), []
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    for i in range(400):
        s = socket.socket()
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.connect(running.address)
        kept.append(s)
        try:
            if i % 4 == 1:
                s.sendall(b'GET /metrics HTTP/1.1\r\nX: ')
            if i % 4 == 2:
                s.sendall(b'GET /metrics HTTP/1.1\r\n\r\n')  # and takes nothing of the answer
            if i % 4 == 3:
                s.sendall(rng.randbytes(rng.randrange(1, 20000)))
        except OSError:
            pass  # it had to go
        if i % 100 == 99:
            equal(running.count(), 3000, 'findings, in between')
    for i in range(300):
        with socket.create_connection(running.address) as s:
            if i % 2:
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\1\0\0\0\0\0\0\0')
            s.send(rng.randbytes(50))
    equal(running.count(), 3000, 'findings')
    check(running.peak() < 60000, f'{running.peak()} kB of memory')
    fds = len(os.listdir(f'/proc/{running.process.pid}/fd'))
    check(fds < 80, f'{fds} descriptors')
    running.end()


@test('metrics/listen/no-descriptors')
def no_descriptors():
    """Out of descriptors it waits for some, and does not spin."""
    need_own_network()
    running = Running('--no-scan', '--listen', '127.0.0.1:0', preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (12, 12)))
    kept = [socket.create_connection(running.address) for _ in range(20)]
    until(lambda: len(os.listdir(f'/proc/{running.process.pid}/fd')) == 12, 'its last descriptor is taken')

    def busy():
        """Seconds that it has run or has been ready to."""
        with open(f'/proc/{running.process.pid}/schedstat') as file_:
            return sum(int(word) for word in file_.read().split()[:2]) / 1e9

    before, began = busy(), time.monotonic()
    until(lambda: time.monotonic() - began > 1, 'a second')
    check(busy() - before < 0.5, f'{busy() - before:.2f} s of a second')
    for s in kept:
        s.close()
    running.page()
    running.end()


@test('metrics/listen/grows')
def grows():
    """Counters follow the log, over rotation and truncation, and never go back."""
    need_own_network()
    findings = logs.make(60)
    lines = logs.as_json(findings).splitlines(keepends=True)
    log = write('log', b''.join(lines[:10]))
    running = Running('--no-scan', '--listen', '127.0.0.1:0', log)
    seen = [0]

    def reaches(count):
        now = running.count()
        check(now >= seen[-1], f'from {seen[-1]} back to {now}')
        seen.append(now)
        return now == count

    def add(name, some):
        with open(path(name), 'ab') as file_:
            file_.write(b''.join(some))

    until(lambda: reaches(10), '10')
    add('log', lines[10:20])
    until(lambda: reaches(20), '20')
    os.rename(log, path('log.1'))
    add('log.1', lines[20:25])  # who had it open
    until(lambda: reaches(25), '25')
    add('log', lines[25:30])
    until(lambda: reaches(30), '30')
    add('log', [lines[30][:50]])
    add('log', [lines[30][50:]])
    until(lambda: reaches(31), '31')
    os.truncate(log, 0)
    until(lambda: reaches(31), 'the same')
    with open(log, 'ab') as file_:
        file_.write(lines[31])
    until(lambda: reaches(32), '32')
    os.unlink(log)
    until(lambda: reaches(32), 'the same')
    add('log', lines[32:])
    until(lambda: reaches(60), '60')
    equal(running.page().all('preclose_findings_total'), dict(counted(findings)), 'findings')
    running.end()


@test('metrics/listen/pattern')
def pattern():
    """A log per process: those that come later are found; each file counts once, whatever its names."""
    need_own_network()
    lines = logs.as_json(logs.make(60)).splitlines(keepends=True)
    write('a.1.log', b''.join(lines[:10]))
    os.link(path('a.1.log'), path('a.1.again.log'))
    write('old.log.gz', gzip.compress(b''.join(lines[:5])))
    running = Running('--no-scan', '--listen', '127.0.0.1:0', path('a.*.log*'), path('a.1.log'), path('later'), path('old.log.gz'), path('no*'))
    running.line_with('later is not there yet')
    running.line_with('no* is not there yet')
    until(lambda: running.count() == 15, '15')
    write('a.2.log', b''.join(lines[10:20]))
    write('later', b''.join(lines[20:30]))
    until(lambda: running.count() == 35, '35')
    os.rename(path('a.2.log'), path('a.2.log.1'))  # found by the pattern too: it is the same
    write('a.2.log', b''.join(lines[30:35]))
    until(lambda: running.count() == 40, '40')
    with open(path('a.2.log.1'), 'rb') as before:
        write('a.2.log.1.gz', gzip.compress(before.read()))
    os.unlink(path('a.2.log.1'))
    write('a.3.log', b''.join(lines[35:36]))
    until(lambda: running.count() == 41, '41')
    os.mkfifo(path('a.4.log'))
    os.mkdir(path('a.5.log'))
    running.line_with('a.4.log is no file')
    running.line_with('a.5.log is no file')
    write('a.6.log', b''.join(lines[36:]))
    until(lambda: running.count() == 65, '65')
    page = running.page()
    equal(page.get('preclose_logs_failed'), 2, 'failed')
    running.end()


@test('metrics/listen/many-logs')
def many_logs():
    """A log per process, of many processes: each is open, none takes much memory."""
    need_own_network()
    line = logs.as_json(logs.make(1))
    for i in range(1100):
        write(f'{i}.log', (b'x' * 1300000 + b'\n' if i % 20 == 0 else b'') + line + b'{"event":"half')
    running = Running('--no-scan', '--listen', '127.0.0.1:0', path('*.log'))
    running.line_with('more than 1024 logs')
    equal((running.count(), running.page().get('preclose_logs_open')), (1024, 1024), 'findings, logs')
    for i in range(0, 1100, 3):
        with open(path(f'{i}.log'), 'ab') as file_:
            file_.write(b'"}\n')
    until(lambda: running.count() > 1300, 'the halves')
    check(running.peak() < 40000, f'{running.peak()} kB of memory')
    running.end()


@test('metrics/listen/catches-up', deadline=120)
def catches_up():
    """As long as it has not read all there is, it says so: half of it would look as if counters had gone back."""
    need_own_network()
    data = logs.as_json(logs.make(20000))
    with open(path('huge'), 'wb') as file_:
        for _ in range(30):
            file_.write(data)
    running = Running('--no-scan', '--listen', '127.0.0.1:0', path('huge'))
    seen, end = [], time.monotonic() + 60
    while 200 not in seen and time.monotonic() < end:
        status, _, body = running.ask(b'GET /metrics HTTP/1.0\r\n\r\n')
        seen.append(status)
    equal(seen[0], 503, 'first status')
    equal((set(seen), sum(Page(body.decode()).all('preclose_findings_total').values())), ({503, 200}, 600000), 'statuses, findings')
    running.end()


@test('metrics/listen/ends')
def ends():
    """SIGTERM ends it at once, with clients or without."""
    need_own_network()
    for with_signal in (signal.SIGTERM, signal.SIGINT):
        running = Running('--listen', '127.0.0.1:0')
        kept = [socket.create_connection(running.address) for _ in range(5)]
        kept[0].sendall(b'GET /met')
        began = time.monotonic()
        running.end(with_signal)
        check(time.monotonic() - began < 3, 'it took its time')


# With Prometheus, node_exporter and rsyslog themselves.

def port():
    with socket.socket() as s:
        s.bind(('127.0.0.1', 0))
        return s.getsockname()[1]


def start(*argv):
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=open(path(os.path.basename(argv[0]) + '.err'), 'wb'),
                            stdin=subprocess.DEVNULL, env={**lib.environment(False, {}), 'HOME': lib.SCRATCH})


def fetched(url):
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.read().decode()
    except OSError:
        return ''


@test('metrics/node-exporter')
def node_exporter():
    """Its textfile collector takes the file, in the format that both read and in Prometheus' own, and says the same."""
    need_own_network()
    findings = logs.make(100)
    log = write('log', hostile_log() + logs.as_json(findings))
    os.mkdir(path('textfiles'))
    at = f'127.0.0.1:{port()}'
    start(shutil.which('node_exporter') or program('prometheus-node-exporter'), f'--web.listen-address={at}', f'--collector.textfile.directory={path("textfiles")}',
          '--collector.disable-defaults', '--collector.textfile')
    for name in ('common', 'prometheus'):
        preclose('metrics', '-f', name, '-o', path('textfiles/preclose.prom'), log)
        ours = Page(open(path('textfiles/preclose.prom')).read())
        text = ''

        def is_there():
            nonlocal text
            text = fetched(f'http://{at}/metrics')
            return ('preclose_findings_total counter' in text) == (name == 'prometheus') and 'preclose_findings_total{' in text

        until(is_there, 'the metrics')
        theirs = Page(re.sub(r'^(?!#|preclose_).*\n', '', text, flags=re.M) + '# EOF\n')
        for family in ('preclose_findings_total', 'preclose_log_lines_total', 'preclose_exit_findings_total'):
            equal(theirs.all(family), ours.all(family), f'{family} as {name}')
        check('node_textfile_scrape_error 0' in text, 'node_exporter could not read the file')


@test('metrics/prometheus', deadline=120)
def prometheus():
    """It scrapes, a query gives the number, and the alert rules are loaded."""
    need_own_network()
    findings = logs.make(100)
    log = write('log', hostile_log() + logs.as_json(findings))
    at = listener()
    kept = [left(at) for _ in range(5)]
    running = Running('--listen', '[::1]:0', log)
    here, there = f'127.0.0.1:{port()}', running.url.split('/')[2]
    shutil.copy(os.path.join(TOP, 'docs', 'preclose.rules.yml'), lib.SCRATCH)
    config = write('prometheus.yml', f'global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [preclose.rules.yml]\n'
                   f'scrape_configs:\n  - job_name: preclose\n    static_configs: [{{targets: ["{there}"]}}]\n', 'w')
    start(program('prometheus'), f'--config.file={config}', f'--storage.tsdb.path={path("data")}', f'--web.listen-address={here}')

    def query(text):
        answer = fetched(f'http://{here}/api/v1/query?' + urllib.parse.urlencode({'query': text}))
        return [(r['metric'], float(r['value'][1])) for r in json.loads(answer)['data']['result']] if answer else []

    until(lambda: query('up{job="preclose"} == 1'), 'a scrape', 60)
    wanted = dict(counted(findings))
    for labels, count in wanted.items():
        asked = ','.join(f'{k}="{v}"' for k, v in labels)
        until(lambda q=f'preclose_findings_total{{{asked}}}', n=count: [v for _, v in query(q)] == [n], f'{count} for {asked}')
    until(lambda: [v for _, v in query(f'preclose_close_wait_connections{{pid="{os.getpid()}"}}')] == [5], 'connections')
    before = sum(v for _, v in query('sum(preclose_findings_total{event="unread-reset",comm="server"})'))
    with open(log, 'ab') as file_:
        file_.write(logs.as_json([f for f in findings if f['event'] == 'unread-reset' and f['comm'] == 'server'][:1] * 3))
    until(lambda: [v for _, v in query('sum(preclose_findings_total{event="unread-reset",comm="server"})')] == [before + 3], 'three more')
    kinds = json.loads(fetched(f'http://{here}/api/v1/metadata?metric=preclose_findings_total'))['data'] or \
        json.loads(fetched(f'http://{here}/api/v1/metadata?metric=preclose_findings'))['data']
    equal([m['type'] for ms in kinds.values() for m in ms], ['counter'], 'type')
    rules = json.loads(fetched(f'http://{here}/api/v1/rules'))['data']['groups']
    equal([r['lastError'] for g in rules for r in g['rules'] if 'lastError' in r], [], 'errors of rules')
    check(sum(len(g['rules']) for g in rules) >= 5, 'rules')
    kept.clear()
    running.end()


@test('metrics/alerts')
def alerts():
    promtool = program('promtool')
    done = subprocess.run([promtool, 'check', 'rules', os.path.join(TOP, 'docs', 'preclose.rules.yml')], capture_output=True, text=True,
                          check=False)
    equal((done.returncode, 'SUCCESS' in done.stdout), (0, True), 'promtool check rules')
    done = subprocess.run([promtool, 'test', 'rules', os.path.join(TOP, 'tests', 'cli', 'alerts.yml')], capture_output=True, text=True,
                          check=False)
    check(done.returncode == 0, done.stdout + done.stderr)
    exported = set(re.findall(r'^\w+', metrics(write('log', logs.as_json(logs.make(300)))).text, re.M)) | {'preclose_close_wait_connections',
                                                                                                      'preclose_close_wait_oldest_seconds'}
    used = set(re.findall(r'\bpreclose_\w+', open(os.path.join(TOP, 'docs', 'preclose.rules.yml')).read()))
    equal(used - exported, set(), 'metrics that alerts go by and that are not there')


@test('metrics/rsyslog')
def rsyslog():
    """The example of docs/ takes the JSON lines of two programs in: as they are, and the warnings as text."""
    rsyslogd = program('rsyslogd')
    with open(os.path.join(TOP, 'docs', 'rsyslog.conf')) as file_:
        config = file_.read().replace('/var/log/preclose/', path('in') + '/').replace('/var/log/', lib.SCRATCH + '/')
    equal(config.count(lib.SCRATCH), 4, 'paths of the example')  # one of them in a comment
    os.mkdir(path('in'))
    write('rsyslog.conf', f'global(workDirectory="{lib.SCRATCH}")\n' + config, 'w')
    done = subprocess.run([rsyslogd, '-N1', '-f', path('rsyslog.conf')], capture_output=True, text=True, check=False)
    check(done.returncode == 0 and 'warning' not in done.stderr, done.stderr)
    findings = [f for f in logs.make(200) if f['event'] != 'close']
    findings[0]['text'] = 'quotes " and \\ and \t and é'
    write('in/1.json', b'Listening on port 80\n' + logs.as_json(findings[:50]))
    start(rsyslogd, '-n', '-f', path('rsyslog.conf'), '-i', path('rsyslogd.pid'))

    def taken():
        try:
            with open(path('preclose-all.json')) as file__:
                return [json.loads(line) for line in file__ if line.endswith('\n')]
        except FileNotFoundError:
            return []

    until(lambda: len(taken()) == 50, 'the first log', 30)
    write('in/2.json', logs.as_json(findings[50:]))
    until(lambda: len(taken()) == len(findings), 'the second log', 30)
    missing = [f for f in findings if f not in taken()]
    check(not missing, f'{len(missing)} are not as they were: {missing[:1]}')
    warnings = [f for f in findings if f['level'] == 'warning']
    until(lambda: open(path('preclose-warnings.log')).read().count('\n') == len(warnings), 'the warnings')
    first = f'{warnings[0]["comm"]}[{warnings[0]["pid"]}] {warnings[0]["event"]}: '
    check(first in open(path('preclose-warnings.log')).read(), 'the first warning')
