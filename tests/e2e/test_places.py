"""Where a socket was opened and closed: each frame is the function and the line that made the call, as addr2line
reads it from the module and the offset that are told."""

import json
import os
import re
import shutil
import subprocess

import lib
from lib import check, cookie, equal, program, skip, test

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'places')
CC = os.environ.get('CC', 'cc')

# How the program is built: flags for all of it, and whether part.c is a shared object.
BUILT = {
    'pie': (['-O2', '-fPIE', '-pie'], False),
    'no-pie': (['-O2', '-fno-pie', '-no-pie'], False),
    'O0': (['-O0'], False),
    'frame-pointers': (['-O2', '-fno-omit-frame-pointer'], False),
    'sections': (['-Os', '-ffunction-sections', '-Wl,-z,noseparate-code'], False),
    'shared': (['-O2', '-fPIC'], True),
    'shared-no-pie': (['-O2', '-no-pie'], True),
    'clang': (['-O2'], False),
}
OPEN = ['socket', 'socketpair', 'accept', 'accept4', 'sys_socket']
CLOSE = ['close', 'fclose', 'freopen', 'dup2', 'dup3', 'close_range', 'closefrom', 'sys_close', 'sys_dup3',
         'from-qsort', 'in-handler', 'in-thread']


def compile_in(directory, how):
    """Builds the program in that directory; its path."""
    flags, shared = BUILT[how]
    cc = program('clang') if how == 'clang' else program(CC)
    os.makedirs(directory, exist_ok=True)
    binary, part = os.path.join(directory, 'program'), os.path.join(SOURCE, 'part.c')
    common = [cc, '-std=gnu17', '-D_GNU_SOURCE', '-g', *flags]
    parts = [part]
    if shared:
        parts = [os.path.join(directory, 'libpart.so')]
        subprocess.run([cc, '-std=gnu17', '-D_GNU_SOURCE', '-g', '-O2', '-fPIC', '-shared', '-o', *parts, part],
                       check=True)
    done = subprocess.run([*common, '-o', binary, os.path.join(SOURCE, 'program.c'), *parts, '-pthread',
                           f'-Wl,-rpath,{directory}'], capture_output=True, text=True, check=False)
    if done.returncode:
        skip(f'{cc} {" ".join(flags)}: {done.stderr.splitlines()[0]}')
    return binary


def run(binary, opened, closed, **settings):
    done = lib.run([binary, opened, closed], settings=settings)
    equal(done.status, 0, f'status ({done.err!r})')
    return done, done.one('close', cookie(done))


def said(done, what):
    """The (function, line) pairs that the program said, innermost first."""
    return [tuple(line.split()[1:]) for line in done.out.splitlines() if line.startswith(what + ' ')][::-1]


def resolve(frames):
    """The function and the line of each frame, by every tool that is here; one call for each module."""
    found = {}
    for frame in frames:
        match = re.fullmatch(r'(/.+)\+(0x[0-9a-f]+)', frame)
        check(match, f'frame {frame!r} is not module+0xoffset')
        found.setdefault(match[1], []).append(match[2])
    names = {}
    for tool in ('addr2line', 'eu-addr2line'):
        path = shutil.which(tool)
        if not path and tool == 'addr2line':
            program(tool)
        for module, offsets in found.items() if path else ():
            out = subprocess.run([path, '-f', '-e', module, *offsets], capture_output=True, text=True,
                                 check=True).stdout.splitlines()
            for i, offset in enumerate(offsets):
                line = re.match(r'[^:]*:(\d+)', out[2 * i + 1])  # and perhaps the column
                if not line or line[1] != '0':  # the compiler has merged lines: one tool says so, the other one of them
                    names.setdefault(f'{module}+{offset}', set()).add((out[2 * i], line[1] if line else ''))
    return [names[frame] for frame in frames]


def compare(done, place, what):
    """What the program said is what the frames are. Frames of libc may come between and behind."""
    frames = place['at']
    own = [frame for frame in frames if not re.match(r'.*/(libc|ld-linux)[^/]*\+', frame)]
    wanted, got = said(done, what), resolve(own)
    check(len(own) >= len(wanted), f'{what}: {frames}, wanted {wanted}')
    for i, pair in enumerate(wanted):
        equal(got[i], {pair}, f'{what}, frame {i} of {own}')
    check(all(name == '_start' for pairs in got[len(wanted):] for name, _ in pairs), f'{what}: more frames: {own}')


@test('places/{built}/{route}', deadline=120, built=BUILT, route=['opened', 'closed'])
def functions_and_lines(built, route):
    binary = compile_in(os.path.join(lib.SCRATCH, 'bin'), built)
    for opened, closed in [(how, 'close') for how in OPEN] if route == 'opened' else [('socket', how) for how in CLOSE]:
        done, finding = run(binary, opened, closed, STACK='24')
        compare(done, finding['opened'], 'opened')
        if closed != 'in-handler':
            compare(done, finding['closed'], 'closed')
        else:
            in_handler(done, finding['closed']['at'])


def in_handler(done, frames):
    """A signal that came in a system call: the frames go on behind it."""
    wanted = said(done, 'closed')
    got = [names for names in resolve(frames) if names & set(wanted)]
    equal(got[:-1], [{pair} for pair in wanted[:-1]], f'frames {frames}')
    if os.uname().machine == 'x86_64':
        equal(got[-1], {wanted[-1]}, 'main')


@test('places/through-libc')
def through_libc():
    """A callback has libc between it and the program, and all of it is told."""
    binary = compile_in(os.path.join(lib.SCRATCH, 'bin'), 'pie')
    frames = run(binary, 'socket', 'from-qsort', STACK='32')[1]['closed']['at']
    modules = [os.path.basename(frame.partition('+')[0]) for frame in frames]
    first = modules.index('libc.so.6')
    equal(set(modules[:first]), {'program'}, 'before libc')
    check('program' in modules[first:], f'behind libc: {modules}')


@test('places/stack/{frames}', frames=[0, 1, 2, 3, 8, 32])
def number_of_frames(frames):
    binary = compile_in(os.path.join(lib.SCRATCH, 'bin'), 'pie')
    whole = run(binary, 'socket', 'close', STACK='32')[1]
    some = run(binary, 'socket', 'close', STACK=str(frames))[1]
    offsets = {}
    for key in ('opened', 'closed'):
        check(len(whole[key]['at']) > 6, f'{key}: {whole[key]}')
        equal('at' in some[key], frames > 0, f'{key}.at is there')
        offsets[key] = [re.sub(r'.*\+', '', frame) for frame in some[key].get('at', [])]
        wanted = [re.sub(r'.*\+', '', frame) for frame in whole[key]['at']][:frames]
        equal(offsets[key], wanted, key)
        equal(some[key]['call'], whole[key]['call'], 'call')
    check(' at ' not in some['text'] if frames == 0 else f'+{offsets["closed"][0]}' in some['text'],
          f'text: {some["text"]}')


@test('places/stack/default-is-one')
def default():
    binary = compile_in(os.path.join(lib.SCRATCH, 'bin'), 'pie')
    finding = run(binary, 'socket', 'close')[1]
    equal((len(finding['opened']['at']), len(finding['closed']['at'])), (1, 1), 'frames')


@test('places/text')
def text():
    """The text has the same frames, with commas between them."""
    binary = compile_in(os.path.join(lib.SCRATCH, 'bin'), 'pie')
    frames = run(binary, 'socket', 'close', STACK='5')[1]['opened']['at']
    done = lib.run([binary, 'socket', 'close'], settings={'STACK': '5', 'FORMAT': 'text'})
    line = re.search(r' opened\.at=(\S+)', done.log)
    equal(line[1].split(','), frames, f'opened.at in {done.log}')


@test('places/long-paths/{form}', form=['json', 'text'])
def long_paths(form):
    """What does not fit into a line is left out at the end, by whole frames, and closed is not left out for opened."""
    deep = os.path.join(lib.SCRATCH, *['a directory with a long name' * 4] * 3)
    binary = compile_in(deep, 'shared')
    done = lib.run([binary, 'socket', 'close'], settings={'STACK': '32', 'FORMAT': form})
    equal(done.status, 0, 'status')
    check(all(len(line.encode()) < 4096 for line in done.log.splitlines()), 'a line too long for a pipe')
    if form == 'json':
        finding = done.one('close', cookie(done))
        for key in ('opened', 'closed'):
            check(1 < len(finding[key]['at']) < 12, f'{key}: {finding[key]["at"]}')
            equal([pairs for pairs in resolve(finding[key]['at'])][:2], [{pair} for pair in said(done, key)][:2], key)
    else:
        for key in ('opened', 'closed'):
            match = re.search(r' %s\.at="([^"]+)"' % key, done.log)
            check(match, f'no {key}.at in {done.log}')
            check(all(frame.startswith('/') and '+0x' in frame for frame in match[1].split(',')), match[1])


@test('places/long-paths/three-places/{form}', form=['json', 'text'])
def three_places(form):
    """A line that tells three places has something of each."""
    deep = os.path.join(lib.SCRATCH, *['a directory with a long name' * 5] * 4)
    os.makedirs(deep)
    binary = shutil.copy(os.path.join(lib.BIN, 'victim'), deep)
    done = lib.run([binary, 'use-after-close'], settings={'STACK': '32', 'FORMAT': form})
    check(all(len(line.encode()) < 4096 for line in done.log.splitlines()), 'a line too long for a pipe')
    for key in ('opened', 'closed', 'used'):
        if form == 'json':
            check(done.one('use-after-close')[key].get('at'), f'no {key}.at in {done.log}')
        else:
            check(re.search(r' use-after-close: .* %s\.at="/' % key, done.log), f'no {key}.at in {done.log}')


@test('places/many-stacks')
def many():
    """The first frame is right whatever there is to remember."""
    done = lib.victim('repeat', settings={'STACK': '32'}, first=50, second=50)
    equal(len({json.dumps(f['closed']['at']) for f in done.findings('unread-reset')}), 2, 'places')
