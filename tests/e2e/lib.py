"""What the end-to-end tests are written with: tests by name, the victim run with and without the library,
its findings, and a runner that gives every test a network of its own, a deadline and no survivors."""

import ctypes
import fcntl
import itertools
import json
import os
import re
import selectors
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import traceback

ROUTES = ['close', '__close', 'close_range', 'closefrom', 'dup2', 'dup3', 'fclose', 'freopen', 'sys_close',
          'sys_close_range', 'sys_dup3']
if os.uname().machine == 'x86_64':
    ROUTES.append('sys_dup2')

# The name of a route in findings: the call itself, whoever made it.
ROUTE_CALL = {route: route.removeprefix('sys_').removeprefix('__') for route in ROUTES}

LIB = BIN = None  # absolute paths, set by main()
BEFORE = []       # what else is preloaded, before the library
SCRATCH = None    # a directory of the running test's own
TESTS = []        # (name, function without arguments, deadline in seconds)


class Failure(Exception):
    """The library does not do what it must, or the test is wrong."""


class Late(Failure):
    """Something took longer than it may. A busy machine does that too: the test is tried again, and fails if it is late
    each time."""


TRIES = 5


class Skip(Exception):
    """The test cannot be made here; says why."""


def skip(reason):
    raise Skip(reason)


def check(condition, message):
    if not condition:
        raise Failure(message)


def in_time(took, limit, what='took'):
    if took >= limit:
        raise Late(f'{what} {took} ms, not less than {limit}')


def equal(got, wanted, what):
    if got != wanted:
        raise Failure(f'{what}: {got!r}, not {wanted!r}')


def test(name, deadline=60, **choices):
    """Makes a test of a function, or one for every combination of the choices, which fill in the name."""
    def register(function):
        for values in itertools.product(*choices.values()):
            arguments = dict(zip(choices, values))
            TESTS.append((name.format(**arguments), lambda f=function, a=arguments: f(**a), deadline))
        return function
    return register


class Run:
    """What one run of a program printed, and the findings it left."""

    def __init__(self, status, out, err, log):
        self.status, self.out, self.err, self.log = status, out, err, log
        self.lines = [line.partition('=')[::2] for line in out.splitlines() if '=' in line]
        self.values = dict(self.lines)

    def __getitem__(self, key):
        if key not in self.values:
            raise Failure(f'the program did not say {key}: {self.out!r} {self.err!r}')
        return self.values[key]

    def all(self, key):
        return [value for k, value in self.lines if k == key]

    def findings(self, event=None, cookie=None):
        """The JSON lines of the log, in order; only those of one event or one socket if asked."""
        found = []
        for line in self.log.splitlines():
            try:
                finding = json.loads(line)
            except ValueError as error:
                raise Failure(f'a line that is not JSON ({error}): {line!r}') from None
            if event in (None, finding.get('event')) and cookie in (None, finding.get('cookie')):
                found.append(finding)
        return found

    def one(self, event, cookie=None):
        """The only finding of that event."""
        found = self.findings(event, cookie)
        if len(found) != 1:
            raise Failure(f'{len(found)} findings {event}, not 1; all: {self.told()}')
        return found[0]

    def none(self, *events):
        for finding in self.findings():
            check(finding['event'] not in events, f'finding that should not be: {finding}')

    def told(self):
        return ' '.join(f"{f['event']}/{f.get('action')}/{f.get('reason')}" for f in self.findings()) or 'none'


def environment(lib, settings):
    env = {k: v for k, v in os.environ.items() if not k.startswith('PRECLOSE_') and k != 'LD_PRELOAD'}
    if lib:
        env['LD_PRELOAD'] = ' '.join([*BEFORE, LIB])
        env.update({f'PRECLOSE_{k}': v for k, v in settings.items() if v is not None})
    return env


def run(argv, lib=True, settings=None, timeout=40, **options):
    """Runs a program; with the library every finding goes to a log of this run as JSON, or as settings say."""
    log = tempfile.mktemp(prefix='log-', dir=SCRATCH)
    wanted = {'LOG': log, 'FORMAT': 'json', 'LEVEL': 'info', 'RATE': '0', 'REPORT': 'never'} | (settings or {})
    try:
        done = subprocess.run(argv, env=environment(lib, wanted), capture_output=True, timeout=timeout,
                              stdin=subprocess.DEVNULL, check=False, **options)
    except subprocess.TimeoutExpired as late:
        raise Failure(f'{argv} did not end in {timeout} s; it said {late.stdout!r} {late.stderr!r}') from None
    text = ''
    if os.path.exists(log):
        with open(log, errors='surrogateescape') as lines:
            text = lines.read()
    return Run(done.returncode, done.stdout.decode(), done.stderr.decode(), text)


def victim(scenario, lib=True, settings=None, status=0, timeout=40, **parameters):
    """Runs a scenario of the victim and checks that it could be set up and ended as expected."""
    argv = [os.path.join(BIN, 'victim'), scenario] + [f'{k}={v}' for k, v in parameters.items()]
    done = run(argv, lib, settings, timeout)
    if 'broken' in done.values:
        raise Failure(f'{" ".join(argv[1:])}: scenario broken: {done.values["broken"]}; {done.told()}')
    if done.status != status:
        raise Failure(f'{" ".join(argv[1:])}: status {done.status}, not {status}: {done.out!r} {done.err!r}')
    return done


def cookie(done, key='cookie'):
    return int(done[key])


def program(name):
    """The path of a program, or a skip."""
    return shutil.which(name, path=os.environ.get('PATH', '') + ':/usr/sbin:/sbin') or skip(f'no {name} here')


def function_at(place):
    """The function of the victim in which "module+0xoffset" lies."""
    match = re.fullmatch(r'(.+)\+0x([0-9a-f]+)', place)
    check(match, f'place {place!r} is not module+0xoffset')
    check(os.path.basename(match[1]) == 'victim', f'place {place!r} is not in the victim')
    out = subprocess.run([program('addr2line'), '-f', '-e', os.path.join(BIN, 'victim'), '0x' + match[2]],
                         capture_output=True, text=True, check=True).stdout
    return out.splitlines()[0]


# The runner.

LIBC = ctypes.CDLL(None, use_errno=True)
CLONE_NEWUSER, CLONE_NEWNET, PR_SET_CHILD_SUBREAPER = 0x10000000, 0x40000000, 36
SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP = 0x8913, 0x8914, 1
OWN_NETWORK = False  # does this test have a network namespace of its own?


def need_own_network():
    if not OWN_NETWORK:
        skip('no network namespace of its own may be made here')


def need_root():
    if os.geteuid() != 0:
        skip('needs root')


def all_can_be_looked_into():
    """Can the descriptors and the calls of every process be read, in the first process namespace?"""
    if os.readlink('/proc/self/ns/pid') != 'pid:[4026531836]':
        return False
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{entry}/syscall') as file:
                file.read()
            os.listdir(f'/proc/{entry}/fd')
        except (FileNotFoundError, ProcessLookupError):
            continue
        except OSError:
            return False
    return True


def own_network():
    """Moves this process into a network namespace of its own, with the loopback up. False if it may not."""
    uid, gid = os.getuid(), os.getgid()
    if LIBC.unshare(CLONE_NEWNET) < 0:
        if LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNET) < 0:
            return False
        for name, line in (('setgroups', 'deny'), ('uid_map', f'0 {uid} 1'), ('gid_map', f'0 {gid} 1')):
            with open(f'/proc/self/{name}', 'w') as file:
                file.write(line)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = bytearray(struct.pack('16sh22x', b'lo', 0))
        fcntl.ioctl(s, SIOCGIFFLAGS, request)
        flags = struct.unpack_from('16sh', request)[1]
        fcntl.ioctl(s, SIOCSIFFLAGS, struct.pack('16sh22x', b'lo', flags | IFF_UP))
    try:  # no probes for segments that a busy machine has only delayed: resets that answer them are nobody's
        with open('/proc/sys/net/ipv4/tcp_early_retrans', 'w') as file:
            file.write('0')
    except OSError:
        pass
    return True


def descendants(pid):
    """All processes below pid, from /proc."""
    children = {}
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                with open(f'/proc/{entry}/stat') as file:
                    parent = int(file.read().rpartition(')')[2].split()[1])
            except OSError:
                continue
            children.setdefault(parent, []).append(int(entry))
    found, todo = [], [pid]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return found


def kill_descendants(pid):
    for _ in range(50):
        left = descendants(pid)
        if not left:
            return
        for child in left:
            try:
                os.kill(child, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if pid == os.getpid():
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                return
        time.sleep(0.01)


def try_it(function):
    for _ in range(TRIES - 1):
        try:
            return function()
        except Late:
            pass
    return function()


def run_here(function, pipe):
    """The child's side: runs one test and writes what came of it as JSON."""
    global SCRATCH, OWN_NETWORK
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    SCRATCH = tempfile.mkdtemp(dir=SCRATCH)
    os.chmod(SCRATCH, 0o755)
    try:
        OWN_NETWORK = own_network()
        try_it(function)
        result = ['ok', '']
    except Failure as failure:
        result = ['FAIL', str(failure)]
    except Skip as reason:
        result = ['skip', str(reason)]
    except BaseException:
        result = ['FAIL', 'the test itself: ' + traceback.format_exc()]
    kill_descendants(os.getpid())
    shutil.rmtree(SCRATCH, ignore_errors=True)
    with os.fdopen(pipe, 'w') as file:
        json.dump(result, file)
    os._exit(0)


class Runner:
    def __init__(self, tests, jobs, quiet):
        self.todo, self.jobs, self.quiet = list(tests), jobs, quiet
        self.running = {}  # pipe → (name, pid, started, deadline)
        self.counts = {'ok': 0, 'FAIL': 0, 'skip': 0}
        self.failed = []
        self.selector = selectors.DefaultSelector()

    def start(self):
        name, function, deadline = self.todo.pop(0)
        ours, theirs = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            run_here(function, theirs)
        os.close(theirs)
        self.running[ours] = name, pid, time.monotonic(), time.monotonic() + deadline
        self.selector.register(ours, selectors.EVENT_READ)

    def end(self, pipe, verdict=None):
        name, pid, started, _ = self.running.pop(pipe)
        self.selector.unregister(pipe)
        if not verdict:
            with os.fdopen(pipe) as file:
                text = file.read()
            verdict = json.loads(text) if text else ['FAIL', 'the test itself died']
        else:
            kill_descendants(pid)
            os.kill(pid, signal.SIGKILL)
            os.close(pipe)
        os.waitpid(pid, 0)
        result, message = verdict
        self.counts[result] += 1
        if result == 'FAIL':
            self.failed.append((name, message))
        if result != 'ok' or not self.quiet:
            what = f': {message}' if message and result != 'skip' else f'({message})' if message else ''
            print(f'{result:4} {name}{what}  [{time.monotonic() - started:.2f} s]', flush=True)

    def run(self):
        while self.todo or self.running:
            while self.todo and len(self.running) < self.jobs:
                self.start()
            for key, _ in self.selector.select(0.2):
                self.end(key.fd)
            for pipe, (_, _, started, deadline) in list(self.running.items()):
                if time.monotonic() > deadline:
                    self.end(pipe, ['FAIL', f'not done in {deadline - started:.0f} s'])


def main(lib, directory, pattern, jobs, quiet):
    """Runs the tests whose name contains the pattern. Returns the exit status."""
    global LIB, BIN, SCRATCH
    LIB, BIN = os.path.realpath(lib), os.path.realpath(directory)
    for path in (LIB, os.path.join(BIN, 'victim')):
        if not os.path.exists(path):
            print(f'{path}: not built', file=sys.stderr)
            return 2
    LIBC.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    SCRATCH = tempfile.mkdtemp(prefix='preclose-e2e-')
    os.chmod(SCRATCH, 0o755)
    runner = Runner([t for t in TESTS if re.search(pattern, t[0])], jobs, quiet)
    try:
        runner.run()
    finally:
        kill_descendants(os.getpid())
        shutil.rmtree(SCRATCH, ignore_errors=True)
    for name, message in runner.failed if not quiet else []:
        print(f'failed: {name}: {message.splitlines()[0] if message else ""}')
    counts = runner.counts
    print(f'{counts["ok"]} passed, {counts["FAIL"]} failed, {counts["skip"]} skipped', flush=True)
    return 1 if counts['FAIL'] else 0
