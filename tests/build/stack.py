#!/usr/bin/python3
"""The deepest chains of calls inside the library: stack.py [--depth NAME=N] LIB FILE.su…  Prints those that take
more than 4 KiB, what recurses, and frames without a bound; nothing if all is well. A function that calls itself N
deep at most counts N times if --depth says so. --all prints every chain.

A frame is what the compiler wrote to the .su file (-fstack-usage: saved registers included, the return address
not); who calls whom is read from the machine code. Calls through pointers, and into libc, are not followed: what
those take on a handler's stack is libc's business with the library or without it."""

import argparse
import re
import subprocess

LIMIT = 4096
RETURN_ADDRESS = 8


def frames(files):
    """Function → bytes of its frame, the largest of those of one name; and the functions without a bound."""
    size, unbounded = {}, set()
    for path in files:
        with open(path, encoding='utf-8') as lines:
            for line in lines:
                where, number, kind = line.rstrip('\n').split('\t')
                name = where.rpartition(':')[2]
                size[name] = max(size.get(name, 0), int(number))
                if kind == 'dynamic':
                    unbounded.add(name)
    return size, unbounded


def calls(lib):
    """Function → the functions of the library that it calls, or jumps to."""
    code = subprocess.run(['objdump', '-d', '--no-show-raw-insn', lib], capture_output=True, text=True,
                          check=True).stdout
    graph, function = {}, None
    for line in code.splitlines():
        start = re.match(r'[0-9a-f]+ <([^>]+)>:', line)
        if start:
            function = start[1]
            graph.setdefault(function, set())
            continue
        target = re.search(r'\s(?:call|jmp|j[a-z]+)\s+[0-9a-f]+ <([^>+@]+)>', line)
        if target and (target[1] != function or 'call' in line):
            graph[function].add((target[1], ' call' in line or '\tcall' in line))
    return graph


def frame_of(name, size, depths):
    # A part that the compiler split off (.cold, .part.0) runs in the frame of its function, or has its own.
    own = size.get(name, size.get(name.split('.')[0], 0) if '.' in name and '.cold' not in name else 0)
    times = depths.get(name.split('.')[0], 1)
    return own * times + RETURN_ADDRESS * (times - 1)


def deepest(name, graph, size, depths, done, path, loops):
    """(bytes, chain) of the deepest chain from this function."""
    if name in done:
        return done[name]
    if name in path:
        if name == path[-1] and name.split('.')[0] in depths:
            return 0, []
        loops.add(' -> '.join(path[path.index(name):] + [name]))
        return 0, []
    best = 0, []
    for target, is_call in sorted(graph.get(name, ())):
        if target not in graph or '@plt' in target:
            continue
        depth, chain = deepest(target, graph, size, depths, done, path + [name], loops)
        if not is_call and not target.startswith(name + '.'):
            depth -= frame_of(name, size, depths)  # a tail call: this frame is gone
        if depth > best[0]:
            best = depth, chain
    own = frame_of(name, size, depths)
    done[name] = best[0] + own + RETURN_ADDRESS, [(name, own)] + best[1]
    return done[name]


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition('  ')[0])
    parser.add_argument('lib')
    parser.add_argument('files', nargs='+', metavar='FILE.su')
    parser.add_argument('--depth', action='append', default=[], metavar='NAME=N')
    parser.add_argument('--all', action='store_true')
    options = parser.parse_args()
    depths = {name: int(n) for name, _, n in (item.partition('=') for item in options.depth)}
    size, unbounded = frames(options.files)
    graph = calls(options.lib)
    done, loops = {}, set()
    for name in graph:
        deepest(name, graph, size, depths, done, [], loops)
    for name in sorted(unbounded):
        print(f'{name}: a frame without a bound')
    for loop in sorted(loops):
        print(f'recursion: {loop}')
    called = {target for targets in graph.values() for target, _ in targets}
    for name, (depth, chain) in sorted(done.items(), key=lambda item: -item[1][0]):
        if name not in called and (depth > LIMIT or options.all):
            print(f'{depth} bytes: ' + ' > '.join(f'{n} ({s})' for n, s in chain))


main()
