"""Programs that have nothing to do with sockets, or into which no library is loaded: nothing changes."""

import os
import re
import shutil
import subprocess

import lib
from lib import LIBC, check, equal, need_root, program, run, skip, test, victim

CLONE_NEWNS = 0x20000


def traced(with_library, of):
    """The system calls of `victim files` from its first marker to its end."""
    trace = os.path.join(lib.SCRATCH, f'trace-{with_library}')
    argv = [program('strace'), '-f', '-qq', '-o', trace]
    argv += ['-E', 'LD_PRELOAD=' + lib.LIB] if with_library else []
    argv += [os.path.join(lib.BIN, 'victim'), 'files', 'n=1000', f'of={of}']
    done = subprocess.run(argv, env=lib.environment(False, {}), capture_output=True, text=True, check=False)
    if 'ptrace' in done.stderr:
        skip('strace may not trace here')
    equal((done.returncode, done.stderr), (0, ''), 'status and stderr')
    with open(trace) as lines:
        calls = [re.sub(r'^\d+\s+', '', line.strip()) for line in lines]
    markers = [i for i, call in enumerate(calls) if call.startswith('getppid')]
    equal(len(markers), 2, 'markers')
    # Addresses and process numbers differ from run to run.
    return [re.sub(r'0x[0-9a-f]{6,}|(?<=getppid).*|(?<=getrandom).*', '*', call) for call in calls[markers[0]:]]


@test('programs/files-only/{of}', of=['open', 'dup', 'stream'])
def files(of):
    """1,000 files opened and closed, and no socket: after start-up not one system call of ours."""
    without, done = traced(False, of), traced(True, of)
    for wanted, got in zip(without, done):
        equal(got, wanted, 'system call')
    equal(len(done), len(without), 'system calls')
    check(len(done) > 2000, f'only {len(done)} system calls: nothing was traced')


@test('programs/{command}', command=['true', 'ls', 'cat', 'sort', 'python3'])
def ordinary(command):
    argv = [program(command)] + {'ls': ['/etc'], 'cat': ['/etc/passwd'], 'sort': ['/etc/passwd'],
                                 'python3': ['-c', 'print(sum(range(10)))']}.get(command, [])
    without, done = run(argv, lib=False), run(argv)
    equal((done.status, done.out, done.err, done.log), (without.status, without.out, without.err, ''), 'output')


@test('programs/static')
def static():
    """A static program has no loader that would load us: it runs as ever."""
    compiler = program('cc')
    source, binary = (os.path.join(lib.SCRATCH, name) for name in ('static.c', 'static'))
    with open(source, 'w') as file:
        file.write('#include <stdio.h>\nint main(void) { puts("ran=yes"); return 3; }\n')
    built = subprocess.run([compiler, '-static', '-o', binary, source], capture_output=True, check=False)
    if built.returncode:
        skip('no static C library here')
    done = run([binary], settings={'REPORT': 'always'})
    equal((done.status, done['ran'], done.err, done.log), (3, 'yes', '', ''), 'status and output')


def secure_copy():
    """A copy of the victim that is set-user-ID, and one of the library, where everybody may read them."""
    if os.getuid() != 0:
        need_root()
    directory = os.path.join(lib.SCRATCH, 'secure')
    os.mkdir(directory)
    os.chmod(directory, 0o755)
    binary, library = os.path.join(directory, 'victim'), os.path.join(directory, 'libpreclose.so')
    shutil.copy(os.path.join(lib.BIN, 'victim'), binary)
    shutil.copy(lib.LIB, library)
    os.chmod(library, 0o755)
    try:
        os.chown(binary, 1, 1)
    except OSError:
        skip('files cannot be given away here')
    os.chmod(binary, 0o4755)
    return binary, library


def as_nobody(argv, log, library=None):
    env = {'PATH': '/usr/bin:/bin', 'PRECLOSE_LOG': log, 'PRECLOSE_LEVEL': 'info', 'PRECLOSE_REPORT': 'always'}
    if library:
        env['LD_PRELOAD'] = library
    done = subprocess.run(argv, env=env, capture_output=True, text=True, user=65534, group=65534, extra_groups=[],
                          timeout=30, check=False)
    return lib.Run(done.returncode, done.stdout, done.stderr, '')


@test('programs/set-user-id/preload-ignored')
def setuid_preload():
    binary, library = secure_copy()
    log = os.path.join(lib.SCRATCH, 'secure', 'log')
    done = as_nobody([binary, 'preload'], log, library)
    if done['secure'] == 'no':
        skip('set-user-ID has no effect here')
    equal((done['loaded'], os.path.exists(log)), ('no', False), 'loaded and log')


@test('programs/set-user-id/loaded-by-the-system')
def setuid_loaded():
    """Loaded through /etc/ld.so.preload, in a secure-execution process: inert, and it writes nothing."""
    binary, library = secure_copy()
    upper, work = (os.path.join(lib.SCRATCH, name) for name in ('upper', 'work'))
    os.mkdir(upper)
    os.mkdir(work)
    if LIBC.unshare(CLONE_NEWNS) < 0:
        skip('no mount namespace may be made here')
    mount = program('mount')
    for argv in ([mount, '--make-rprivate', '/'],
                 [mount, '-t', 'overlay', 'overlay', '-o', f'lowerdir=/etc,upperdir={upper},workdir={work}', '/etc']):
        if subprocess.run(argv, capture_output=True, check=False).returncode:
            skip('nothing may be mounted over /etc here')
    with open('/etc/ld.so.preload', 'w') as file:
        file.write(library + '\n')
    os.chmod('/etc/ld.so.preload', 0o644)
    os.chmod(os.path.join(lib.SCRATCH, 'secure'), 0o777)
    log = os.path.join(lib.SCRATCH, 'secure', 'log')
    done = as_nobody([binary, 'preload'], log)
    if done['secure'] == 'no':
        skip('set-user-ID has no effect here')
    equal(done['loaded'], 'yes', 'loaded')
    # Had it acted on the unread bytes, the peer would have seen a clean end.
    done = as_nobody([binary, 'state', 'unread=3'], log)
    check('end=reset' in done.out, f'the peer saw {done.out!r}')
    equal((done.status, done.err, os.path.exists(log)), (0, '', False), 'status, stderr and log')


@test('programs/scenario-list')
def scenario_list():
    names = run([os.path.join(lib.BIN, 'victim'), '--list'], lib=False).out.split()
    check('wake' in names and len(names) == len(set(names)), f'{names}')
    equal(victim('none', lib=False)['ran'], 'yes', 'ran')
