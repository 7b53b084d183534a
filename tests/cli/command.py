"""Runs the command, and builds what it is run on."""

import os
import shutil
import subprocess

import lib
from lib import Failure, check, equal, skip


def path(name):
    """A file of the running test's own."""
    return os.path.join(lib.SCRATCH, name)


def preclose(*arguments, status=0, env=None, timeout=60, binary=None, stdin=None, **options):
    """Runs the command; checks its exit status unless that is None. stdin: bytes, or None for /dev/null."""
    argv = [binary or os.path.join(os.path.dirname(lib.LIB), 'preclose'), *arguments]
    environment = {**lib.environment(False, {}), 'LC_ALL': 'C', **(env or {})}
    environment.pop('DEBUGINFOD_URLS', None)
    given = {'input': stdin} if stdin is not None else {'stdin': subprocess.DEVNULL}
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, timeout=timeout, check=False,
                              **(given | options))
    except subprocess.TimeoutExpired:
        raise Failure(f'{argv} did not end in {timeout} s') from None
    done.out = done.stdout.decode(errors='surrogateescape')
    done.err = done.stderr.decode(errors='surrogateescape')
    if status is not None and done.returncode != status:
        raise Failure(f'{argv[1:]}: status {done.returncode}, not {status}: {done.out[-300:]!r} {done.err[-300:]!r}')
    return done


def for_others():
    """The command where any user may run it."""
    return shutil.copy(os.path.join(os.path.dirname(lib.LIB), 'preclose'), lib.SCRATCH)


def refused(*arguments, status, says, **options):
    """The command refuses in one line on stderr that has every one of the words in it."""
    done = preclose(*arguments, status=status, **options)
    equal(done.out, '', 'standard output')
    check(done.err.startswith('preclose: ') and done.err.count('\n') == 1 and done.err.endswith('\n'),
          f'not one line: {done.err!r}')
    for words in says:
        check(words in done.err, f'{words!r} is not in {done.err!r}')
    return done


def compile_c(name, text, *flags, compiler='cc'):
    """Builds a C program in the test's directory; a skip where that can't be done."""
    source, binary = path(name + '.c'), path(name)
    with open(source, 'w') as file:
        file.write(text)
    try:
        done = subprocess.run([compiler, '-g', '-o', binary, source, *flags], capture_output=True, text=True,
                              check=False)
    except FileNotFoundError:
        skip(f'no {compiler} here')
    if done.returncode:
        skip(f'{compiler} {" ".join(flags)}: {done.stderr.strip().splitlines()[-1]}')
    return binary


def script(name, text, mode=0o755):
    """Writes a file that can be executed."""
    with open(path(name), 'wb') as file:
        file.write(text.encode() if isinstance(text, str) else text)
    os.chmod(path(name), mode)
    return path(name)
