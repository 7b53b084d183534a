#!/usr/bin/python3
"""Attacks on the library, one for each hazard and more: each is a program that judges itself, run with the
library preloaded, with a deadline, in a network namespace of its own where that is allowed.

A new one is a file hNN_what.c with the number of its hazard, found by its name: #include "hostile.h", whose head says how it
judges and what its first lines may ask for (variables, a deadline, a neighbour of beside/); main begins with
need_library(); each scenario is an in_child() of its own. States are waited for (wait_blocked, peer_sees), never times.
Beside the reason it prints, it is worth what it is seen to fail for: build the library once with the protection taken
out, and run it with --lib. HOSTILE_WITHOUT=1 runs a test bare: what it asks for should hold there too.
HOSTILE_FULL=1 takes every sweep whole: each instruction each time, ten million sockets; about an hour."""

import argparse
import concurrent.futures
import glob
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
BUILD = os.path.join(HERE, '..', '..', 'build')
CC = os.environ.get('CC', 'cc')
FULL = 'HOSTILE_FULL' in os.environ  # the whole sweeps, which take an hour
BUSY = 4  # times as long as a test has by itself: it is ended because it hangs, not because the machine is busy

# Strangers beside us (hazard 17): the same work under each. how: what is preloaded beside the library, and where;
# or how the work is built, or what it is linked with. needs: a file that the package brings.
STRANGERS = [
    dict(name='jemalloc-before', before='libjemalloc.so.2', package='libjemalloc2'),
    dict(name='jemalloc-after', after='libjemalloc.so.2', package='libjemalloc2'),
    dict(name='eatmydata-before', before='libeatmydata.so', package='libeatmydata1'),
    dict(name='eatmydata-after', after='libeatmydata.so', package='libeatmydata1'),
    dict(name='faketime-before', before='faketime/libfaketimeMT.so.1', package='libfaketime',
         env={'FAKETIME': '+1h', 'DONT_FAKE_MONOTONIC': '1'}),
    dict(name='faketime-after', after='faketime/libfaketimeMT.so.1', package='libfaketime',
         env={'FAKETIME': '+1h', 'DONT_FAKE_MONOTONIC': '1'}),
    # It calls libc past whoever is next in line: what the program closes never comes to the library.
    dict(name='socket_wrapper-before', before='libsocket_wrapper.so', package='libsocket-wrapper',
         env={'HOSTILE_UNSEEN': '1', 'SOCKET_WRAPPER_DIR': '{scratch}', 'SOCKET_WRAPPER_DEFAULT_IFACE': '1'}),
    dict(name='socket_wrapper-after', after='libsocket_wrapper.so', package='libsocket-wrapper',
         env={'SOCKET_WRAPPER_DIR': '{scratch}', 'SOCKET_WRAPPER_DEFAULT_IFACE': '1'}),
    dict(name='asan', build=['-fsanitize=address'], env={'ASAN_OPTIONS': 'verify_asan_link_order=0'}),
    dict(name='asan-first', build=['-fsanitize=address'], before='libasan.so.8', package='libasan8'),
    dict(name='asan-static', build=['-fsanitize=address', '-static-libasan'],
         env={'ASAN_OPTIONS': 'verify_asan_link_order=0'}),
    dict(name='asan-clang', build=['-fsanitize=address'], cc='clang'),
    dict(name='tsan', build=['-fsanitize=thread'], env={'TSAN_OPTIONS': 'report_bugs=0', 'HOSTILE_ROUNDS': '2'}),
    dict(name='malloc-before', before='{beside}/malloc.so', env={'HOSTILE_ROUNDS': '3'}),
    dict(name='malloc-after', after='{beside}/malloc.so', env={'HOSTILE_ROUNDS': '3'}),
    dict(name='lookup-before', before='{beside}/lookup.so', env={'HOSTILE_ROUNDS': '3'}),
    dict(name='jemalloc-linked', link='libjemalloc.so.2', package='libjemalloc2'),
]


class Skip(Exception):
    pass


def preamble(path):
    """The settings in the first lines of a test: {'env': [...], 'timeout': [...], ...}"""
    found = {}
    with open(path, encoding='utf-8') as f:
        for line in f:
            if not line.startswith('//'):
                break
            m = re.match(r'// (env|timeout|beside|packages): (.*)', line)
            if m:
                found.setdefault(m[1], []).extend(m[2].split())
    return found


def find_library(name):
    for pattern in ('/usr/lib/*/', '/lib/*/', '/usr/lib64/', '/usr/lib/', '/usr/lib/gcc/*/*/'):
        hits = glob.glob(pattern + name)
        if hits:
            return hits[0]
    return None


class Runner:
    def __init__(self, options):
        self.options = options
        self.top = tempfile.mkdtemp(prefix='hostile.')
        os.chmod(self.top, 0o755)
        self.lock = threading.Lock()
        # Programs under test may change their user, who must be able to read the library.
        self.lib = shutil.copy(options.lib, os.path.join(self.top, 'libpreclose.so'))
        os.chmod(self.lib, 0o755)
        self.beside = os.path.join(self.top, 'beside')
        os.mkdir(self.beside)
        self.cage = self.find_cage()

    def find_cage(self):
        cage = ['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh']
        try:
            ok = subprocess.run(cage + ['true'], capture_output=True, check=False).returncode == 0
        except OSError:
            ok = False
        return cage if ok else []

    def compile(self, out, source, flags, cc=CC):
        with self.lock:
            if not os.path.exists(out):
                command = [cc, '-std=c17', '-D_GNU_SOURCE', '-O1', '-g', *flags, '-o', out, source, '-pthread', '-ldl']
                try:
                    done = subprocess.run(command, capture_output=True, text=True, check=False)
                except OSError as e:
                    raise Skip(f'{cc}: {e.strerror}') from e
                if done.returncode:
                    raise Skip(f'{cc} cannot build it here: {done.stderr.strip().splitlines()[-1][:120]}')
        return out

    def shared_object(self, name):
        """A neighbour: a source of beside/, or the library of a package."""
        name = name.format(beside=self.beside)
        if name.startswith(self.beside):
            stem = os.path.basename(name)[:-len('.so')]
            return self.compile(name, os.path.join(HERE, 'beside', stem + '.c'), ['-shared', '-fPIC'])
        found = find_library(name)
        if not found:
            raise Skip(f'{name} is not installed')
        return found

    def tests(self):
        for path in sorted(glob.glob(os.path.join(HERE, 'h*.c'))):
            name = os.path.basename(path)[:-2]
            said = preamble(path)
            row = dict(name=name, binary=os.path.join(self.options.bin, name), before=[], after=[], env={},
                       timeout=BUSY * float(said.get('timeout', ['30'])[0]))
            if FULL:
                row['timeout'] *= 20
            row['env'] = dict(v.split('=', 1) for v in said.get('env', []))
            where = None
            for word in said.get('beside', []):
                if word in ('before', 'after'):
                    where = word
                else:
                    row[where].append('{beside}/' + word + '.so')
            yield row
            if name != 'h17_strangers':
                continue
            row['bare'] = True
            for s in STRANGERS:
                yield dict(row, name=f'h17_strangers[{s["name"]}]', env=s.get('env', {}), package=s.get('package'),
                           before=[s['before']] if 'before' in s else [],
                           after=[s['after']] if 'after' in s else [],
                           build=s.get('build'), link=s.get('link'), cc=s.get('cc', CC), source=path)

    def prepare(self, test, scratch):
        binary = test['binary']
        if test.get('build') or test.get('link'):
            try:
                flags = test['build'] or ['-Wl,--no-as-needed', self.shared_object(test['link'])]
            except Skip as e:
                raise Skip(f'{e} (package {test["package"]})') from e
            binary = self.compile(os.path.join(self.top, re.sub(r'\W', '_', test['name'])), test['source'], flags,
                                  test['cc'])
        if not os.path.exists(binary):
            raise Skip(f'{binary} is not built')
        try:
            preload = [*map(self.shared_object, test['before']), self.lib, *map(self.shared_object, test['after'])]
        except Skip as e:
            raise Skip(f'{e} (package {test["package"]})' if test.get('package') else str(e)) from e
        env = {
            'PRECLOSE_LOG': os.path.join(scratch, 'log'), 'PRECLOSE_LEVEL': 'info', 'PRECLOSE_FORMAT': 'json',
            'PRECLOSE_RATE': '0', 'PRECLOSE_REPORT': 'always', 'HOSTILE_SCRATCH': scratch,
            'HOSTILE_LIB': self.lib, 'HOSTILE_CC': CC, 'HOSTILE_SOURCE': HERE,
        }
        if FULL:
            env['HOSTILE_FULL'] = '1'
        env.update({k: v.format(scratch=scratch) for k, v in test['env'].items()})
        env['LD_PRELOAD'] = ' '.join(preload)
        return binary, env

    def run(self, test):
        """→ (verdict, reason, seconds)"""
        start = time.monotonic()
        scratch = os.path.join(self.top, re.sub(r'\W', '_', test['name']) + '.d')
        os.mkdir(scratch)
        os.chmod(scratch, 0o777)
        try:
            binary, env = self.prepare(test, scratch)
        except Skip as e:
            return 'skip', str(e), 0.0
        if test.get('bare'):  # a stranger that does not bear the work by itself says nothing about the library
            alone = dict(env, LD_PRELOAD=env['LD_PRELOAD'].replace(self.lib, ''), HOSTILE_WITHOUT='1')
            status, told = self.execute(binary, alone, scratch, test['timeout'])
            if status:
                return 'skip', f'fails without the library too: {told}', time.monotonic() - start
        status, told = self.execute(binary, env, scratch, test['timeout'])
        seconds = time.monotonic() - start
        if status == 77:
            return 'skip', told.removeprefix('skip: '), seconds
        if status is None:
            return 'FAIL', f'not done after {test["timeout"]:.0f} s: {told}', seconds
        if status:
            why = told or (f'killed by {signal.Signals(-status).name}' if status < 0 else f'status {status}')
            return 'FAIL', why if status == 1 or status < 0 else f'{why} (status {status})', seconds
        torn = torn_line(env, scratch)
        if torn:
            return 'FAIL', torn, seconds
        return 'ok', told if told.startswith('note: ') else '', seconds

    def execute(self, binary, env, scratch, timeout):
        """→ (exit status, None if it had to be ended; its last line)"""
        command = self.cage + ['env', *(f'{k}={v}' for k, v in env.items()), binary]
        plain = {k: os.environ[k] for k in ('PATH', 'HOME', 'TMPDIR', 'LANG') if k in os.environ}
        # Its verdict is what it says last; to stderr go others: the library, a sanitizer.
        paths = [os.path.join(scratch, name) for name in ('output', 'errors')]
        with open(paths[0], 'wb') as out, open(paths[1], 'wb') as err:
            p = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=scratch, env=plain,
                                 start_new_session=True)
            try:
                status = p.wait(timeout)
            except subprocess.TimeoutExpired:
                status = None
        reap(p, scratch)
        for path in paths:
            with open(path, encoding='utf-8', errors='replace') as f:
                lines = [line for line in f.read().splitlines() if line.strip()]
            if lines:
                return status, lines[-1]
        return status, ''


def torn_line(env, scratch):
    """Whatever a test is about, its log consists of whole lines."""
    path = env.get('PRECLOSE_LOG', '')
    if env.get('PRECLOSE_FORMAT') != 'json' or not path.startswith(scratch) or not os.path.isfile(path):
        return None
    with open(path, 'rb') as f:
        for n, line in enumerate(f, 1):
            try:
                if not line.endswith(b'\n'):
                    raise ValueError
                json.loads(line)
            except ValueError:
                return f'line {n} of the log is torn: {line[:200]!r}'
    return None


def reap(p, scratch):
    """Ends what a test has left behind: its processes are those that have its scratch directory in their
    environment."""
    mark = b'HOSTILE_SCRATCH=' + scratch.encode() + b'\0'
    for _ in range(20):
        found = False
        for pid in filter(str.isdigit, os.listdir('/proc')):
            try:
                with open(f'/proc/{pid}/environ', 'rb') as f:
                    if mark in f.read() + b'\0' and int(pid) != os.getpid():
                        os.kill(int(pid), signal.SIGKILL)
                        found = True
            except OSError:
                pass
        if not found:
            break
        time.sleep(0.01)
    p.kill()
    p.wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lib', default=os.path.join(BUILD, 'libpreclose.so'), help='the library under test')
    parser.add_argument('--bin', default=os.path.join(BUILD, 'tests', 'hostile'), help='where the tests are')
    parser.add_argument('-k', default='', metavar='PATTERN', help='only tests whose name matches')
    parser.add_argument('-j', type=int, default=2, metavar='N', help='tests at once')
    options = parser.parse_args()
    if not os.path.exists(options.lib):
        sys.exit(f'{options.lib} is not there')
    runner = Runner(options)
    counts = {'ok': 0, 'FAIL': 0, 'skip': 0}
    try:
        tests = [t for t in runner.tests() if re.search(options.k, t['name'])]
        with concurrent.futures.ThreadPoolExecutor(options.j) as pool:
            for test, (verdict, reason, seconds) in zip(tests, pool.map(runner.run, tests)):
                counts[verdict] += 1
                print(f'{verdict:4} {test["name"]} ({seconds:.1f} s)' + (f': {reason}' if reason else ''), flush=True)
    finally:
        shutil.rmtree(runner.top, ignore_errors=True)
    print(f'{counts["ok"]} passed, {counts["FAIL"]} failed, {counts["skip"]} skipped')
    sys.exit(1 if counts['FAIL'] else 0)


if __name__ == '__main__':
    main()
