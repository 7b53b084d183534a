#!/usr/bin/python3
"""What the library does for each call of a program, counted: instructions (valgrind --tool=callgrind) and system calls
(strace) of so many steps, with the library less without. Times differ from run to run; these do not.

--print shows what it is now, as the table that belongs into this file."""

import argparse
import collections
import concurrent.futures
import os
import re
import shutil
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.realpath(__file__))
BUILD = os.path.join(HERE, '..', '..', 'build')
NONE = ''

# A step of steps.c, the instructions that the library may take for it, and the system calls that it makes of its own. A number
# stands for a call made several times. One thread, default settings.
TABLE = [
    ('file-open', 0, ''),
    ('file-close', 40, ''),
    ('file-close-was-socket', 310, ''),
    ('pipe-close', 40, ''),
    ('file-dup', 40, ''),
    ('file-dup-close', 40, ''),
    ('tcp-socket', 730, 'getsockopt'),
    ('tcp-connect', 470, ''),
    ('tcp-accept', 1080, 'getsockopt'),
    ('tcp-close', 1540, 'getpid getsockopt*2 shutdown'),
    ('tcp-close-accepted', 1540, 'getpid getsockopt*2 shutdown'),
    ('tcp-close-unconnected', 1500, 'getpid getsockopt*3 shutdown'),
    ('tcp-shutdown-close', 1600, 'getpid getsockopt*2'),
    ('udp-socket', 740, 'getsockopt'),
    ('udp-close', 1400, 'getpid getsockopt shutdown'),
    ('socketpair', 1130, 'getsockopt*2'),
    ('socketpair-close', 1400, 'getpid getsockopt ioctl shutdown'),
    ('socket-dup', 760, ''),
    ('socket-dup-close', 900, ''),
    ('send-recv', 0, ''),
    ('write-read', 0, ''),
]

RARE = 0.1  # so many calls a step in all are let pass: what is looked at from time to time
STEPS = {'callgrind': (400, 800), 'strace': 400}


def environment(library, scratch):
    env = {k: v for k, v in os.environ.items() if not k.startswith(('PRECLOSE_', 'LD_'))}
    return env | {'LD_PRELOAD': library, 'PRECLOSE_LOG': os.path.join(scratch, 'log')} if library else env


def run(command, library, scratch):
    done = subprocess.run(command, env=environment(library, scratch), capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f'{" ".join(command[-2:])}: status {done.returncode}: {done.stderr.strip()}')


def instructions(step, n, options, library, scratch):
    """Instructions of n steps and what is around them, outside the kernel."""
    out = os.path.join(tempfile.mkdtemp(dir=scratch), 'out')
    run(['valgrind', '--tool=callgrind', f'--callgrind-out-file={out}', os.path.join(options.bin, 'steps'), step, str(n)],
        library, scratch)
    with open(out) as file:
        return int(re.search(r'^(?:summary|totals): (\d+)', file.read(), re.M)[1])


def instructions_of_ours(step, most, options, library, scratch):
    """Instructions that the library adds to a step. A look that is due by the clock can fall into a run: up to three times
    the run with the least counts, where there are more than allowed."""
    few, many = STEPS['callgrind']
    least = {}
    for _ in range(3):
        for which in [(n, preload) for n in (few, many) for preload in (NONE, library) if preload or not least.get((n, NONE))]:
            count = instructions(step, which[0], options, which[1], scratch)
            least[which] = min(count, least.get(which, count))
        more = (least[many, library] - least[few, library] - least[many, NONE] + least[few, NONE]) / (many - few)
        if more < most + 1:
            break
    return more


def calls(step, options, library, scratch):
    """System calls a step, by name."""
    trace = os.path.join(tempfile.mkdtemp(dir=scratch), 'trace')
    preload = ['-E', f'LD_PRELOAD={library}'] if library else []
    run(['strace', '-f', '-qq', '-o', trace, *preload, os.path.join(options.bin, 'steps'), step, str(STEPS['strace'])], '', scratch)
    with open(trace) as file:
        names = [match[1] for match in re.finditer(r'^\d+ +(\w+)\(', file.read(), re.M)]
    first, last = (i for i, name in enumerate(names) if name == 'getppid')
    return collections.Counter(names[first + 1:last])


def ours(step, most, options, scratch):
    """What the library adds to a step: instructions, and {system call: how often}."""
    library = os.path.join(scratch, 'libpreclose.so')
    more = None
    if options.callgrind:
        more = instructions_of_ours(step, most, options, library, scratch)
    added = {}
    if options.strace:
        without, done = calls(step, options, NONE, scratch), calls(step, options, library, scratch)
        added = {name: (done[name] - without[name]) / STEPS['strace'] for name in sorted(done | without)}
    return more, {name: often for name, often in added.items() if often}


def told(added):
    """{'getpid': 1.0, 'rt_sigprocmask': 2.0} as the table has it: 'getpid rt_sigprocmask*2'; and what is rare, apart."""
    words, rare = [], []
    for name, often in added.items():
        if round(often) and abs(often - round(often)) <= RARE:
            words.append(name if round(often) == 1 else f'{name}*{round(often)}')
        else:
            rare.append(f'{name}*{often:.3f}')
    return ' '.join(words), ' '.join(rare)


def expected(words):
    return {word.partition('*')[0]: int(word.partition('*')[2] or 1) for word in words.split()}


def judge(step, most, words, more, added, options):
    """The tests of a step: (name, what is wrong or '', why it is skipped or '')."""
    if options.callgrind:
        yield f'instructions/{step}', '' if more < most + 1 else f'{more:.0f} of ours a step, {most} allowed', options.bounds
    else:
        yield f'instructions/{step}', '', 'no valgrind here'
    if not options.strace:
        yield f'calls/{step}', '', options.untraced
        return
    want = expected(words)
    off = {name: added.get(name, 0) - want.get(name, 0) for name in {*want, *added}}
    wrong = sum(abs(often) for often in off.values()) > RARE
    yield f'calls/{step}', f'{" + ".join(filter(None, told(added))) or "none"}, not {words or "none"}' if wrong else '', ''


def is_optimised(library):
    """Was it built with optimisation, as far as its debug information tells?"""
    with open(library, 'rb') as file:
        return re.search(rb' -O[23]\b', file.read()) is not None


def prepare(options, scratch):
    options.callgrind, options.strace = shutil.which('valgrind'), shutil.which('strace')
    options.bounds = '' if is_optimised(options.lib) else 'the bounds are for -O2, and the library was not built so'
    options.untraced = 'no strace here'
    if options.strace:
        done = subprocess.run(['strace', '-qq', '-o', '/dev/null', 'true'], capture_output=True, text=True, check=False)
        if done.returncode:
            options.strace, options.untraced = None, 'strace may not trace here'
    shutil.copy(options.lib, os.path.join(scratch, 'libpreclose.so'))


def show(results):
    for (step, _, _), (more, added) in results:
        words, rare = told(added)
        # Some room for another compiler.
        bound = 0 if not more or more < 1 else int(-(-more * 1.1 // 10) * 10)
        print(f'    ({step!r}, {bound}, {words!r}),' + (f'  # {more:.1f}' if more else '') + (f', {rare}' if rare else ''), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--lib', default=os.path.join(BUILD, 'libpreclose.so'), help='the library under test')
    parser.add_argument('--bin', default=os.path.join(BUILD, 'tests', 'cost'), help='where steps is')
    parser.add_argument('-j', type=int, default=2, metavar='N', help='programs at once')
    parser.add_argument('--print', action='store_true', help='what it is, and no test')
    options = parser.parse_args()
    table = TABLE
    if options.print:
        names = subprocess.run([os.path.join(options.bin, 'steps')], capture_output=True, text=True, check=True).stdout.split()
        table = [(name, 0, '') for name in names]
    counts = collections.Counter()
    with tempfile.TemporaryDirectory(prefix='cost-') as scratch, concurrent.futures.ThreadPoolExecutor(options.j) as pool:
        prepare(options, scratch)
        results = zip(table, pool.map(lambda row: ours(*row[:2], options, scratch), table))
        if options.print:
            show(results)
            return 0
        for (step, most, words), (more, added) in results:
            for name, wrong, skipped in judge(step, most, words, more, added, options):
                verdict = 'skip' if skipped else 'FAIL' if wrong else 'ok  '
                print(f'{verdict} {name}' + (f' ({skipped})' if skipped else f': {wrong}' if wrong else ''), flush=True)
                counts[verdict.strip()] += 1
    print(f'{counts["ok"]} passed, {counts["FAIL"]} failed, {counts["skip"]} skipped')
    return counts['FAIL'] > 0


sys.exit(main())
