#!/usr/bin/python3
"""Programs under valgrind's memcheck, without the library and with it: no error in a frame of the library, no kind
of error that is not there without it, and the same output and status."""

import argparse
import collections
import concurrent.futures
import difflib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

HERE = os.path.dirname(os.path.realpath(__file__))
BUILD = os.path.join(HERE, '..', '..', 'build')

# Name, its command ({bin}: where the built programs are), what is set for it.
PROGRAMS = [
    ('tour', ['{bin}/valgrind/tour'], {}),
    ('tour, told in JSON', ['{bin}/valgrind/tour'], {'PRECLOSE_FORMAT': 'json', 'PRECLOSE_UNREAD': 'reset'}),
    ('tour, audited', ['{bin}/valgrind/tour'], {'PRECLOSE_SHUTDOWN': 'never'}),
    ('web server in Python', ['/usr/bin/python3', f'{HERE}/web.py'], {'PYTHONMALLOC': 'malloc'}),
    ('curl', ['curl', '--silent', 'http://127.0.0.1:1/'], {}),
]

Result = collections.namedtuple('Result', 'status output errors')


def errors_of(path, library):
    """What memcheck says: kind and frames of each error, and whether the library is among them."""
    for error in xml.etree.ElementTree.parse(path).getroot().iter('error'):
        # With --xml it looks for leaks all the same. The library allocates nothing, but for what libc does for its one
        # thread, which the end of a process may find alive.
        if error.findtext('kind', '').startswith('Leak_'):
            continue
        frames = [(frame.findtext('obj', ''), frame.findtext('fn') or frame.findtext('ip')) for frame in error.iter('frame')]
        what = error.findtext('what') or error.findtext('xwhat/text') or ''
        yield error.findtext('kind'), what, frames, any(obj == library for obj, _ in frames)


def run(program, library, options, scratch):
    name, command, settings = program
    where = tempfile.mkdtemp(dir=scratch)
    xml_file = os.path.join(where, 'errors.xml')
    command = [word.format(bin=options.bin) for word in command]
    env = {k: v for k, v in os.environ.items() if not k.startswith(('PRECLOSE_', 'LD_'))} | settings
    if library:
        env |= {'LD_PRELOAD': library, 'PRECLOSE_LOG': os.path.join(where, 'log'), 'PRECLOSE_LEVEL': 'info',
                'PRECLOSE_RATE': '0', 'PRECLOSE_REPORT': 'always'}
    valgrind = ['valgrind', '--tool=memcheck', '--leak-check=no', '--child-silent-after-fork=yes', '--xml=yes',
                f'--xml-file={xml_file}', '--num-callers=24']
    done = subprocess.run(valgrind + command, env=env, capture_output=True, text=True, timeout=120, check=False,
                          stdin=subprocess.DEVNULL)
    if library and not os.path.getsize(os.path.join(where, 'log')):
        raise RuntimeError(f'{name}: the library has told nothing: is it there?')
    said = re.sub(r'^(--|==)\d+\1 .*\n', '', done.stdout + done.stderr, flags=re.M)  # valgrind's own
    return Result(done.returncode, said, list(errors_of(xml_file, library)))


def judge(program, options, scratch):
    """What is wrong, as lines."""
    library = os.path.join(scratch, 'libpreclose.so')
    try:
        without, preloaded = (run(program, which, options, scratch) for which in ('', library))
    except (subprocess.TimeoutExpired, RuntimeError, xml.etree.ElementTree.ParseError) as error:
        return [str(error)]
    wrong = []
    if preloaded.status != without.status:
        wrong.append(f'status {preloaded.status}, without the library {without.status}')
    if preloaded.output != without.output:
        wrong += difflib.unified_diff(without.output.splitlines(), preloaded.output.splitlines(), 'without', 'with', lineterm='')
    known = {(kind, frames[0]) for kind, _, frames, _ in without.errors}
    for kind, what, frames, ours in preloaded.errors:
        if ours or (kind, frames[0]) not in known:
            wrong.append(f'{kind}: {what}: ' + ' < '.join(fn for _, fn in frames))
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--lib', default=os.path.join(BUILD, 'libpreclose.so'), help='the library under test')
    parser.add_argument('--bin', default=os.path.join(BUILD, 'tests'), help='where the programs are')
    parser.add_argument('-j', type=int, default=2, metavar='N', help='programs at once')
    options = parser.parse_args()
    if not shutil.which('valgrind'):
        print('skip valgrind (no valgrind here)\n0 passed, 0 failed, 1 skipped')
        return 0
    passed = failed = skipped = 0
    with tempfile.TemporaryDirectory(prefix='valgrind-') as scratch, concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        shutil.copy(options.lib, os.path.join(scratch, 'libpreclose.so'))
        for program in PROGRAMS:
            if not shutil.which(program[1][0].format(bin=options.bin)):
                print(f'skip {program[0]} (no {program[1][0]} here)')
                skipped += 1
        programs = [p for p in PROGRAMS if shutil.which(p[1][0].format(bin=options.bin))]
        for program, wrong in zip(programs, pool.map(lambda p: judge(p, options, scratch), programs)):
            print(f'FAIL {program[0]}:' if wrong else f'ok   {program[0]}', flush=True)
            for line in wrong[:20]:
                print(f'  {line[:2000]}')
            failed += bool(wrong)
            passed += not wrong
    print(f'{passed} passed, {failed} failed, {skipped} skipped')
    return failed > 0


sys.exit(main())
