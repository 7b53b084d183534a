"""The rows of the table: what is measured, against what, and the goal."""

import os
from collections import namedtuple


class Variant:
    """A way to run a workload: the words before its command, and its environment."""
    library = True  # a library of this project, or nothing: what there is a goal for
    tracer = False  # it does its work in another process

    def __init__(self, name, preload=None):
        self.name = name
        self.preload = preload

    def missing(self, options):
        """Why it can't be had here, or ''."""
        return ''

    def command(self, options, scratch):
        return []

    def env(self, options, scratch):
        return {'LD_PRELOAD': self.preload(options)} if self.preload else {}


BASE = Variant('base')
LIBRARY = Variant('preclose', lambda options: options.lib)
EMPTY = Variant('empty library', lambda options: os.path.join(options.build, 'bench', 'empty.so'))

# name: for --list and bench.csv. workload: of bench/work.c, or the mode of bench/table.c. arguments: its words besides.
# baseline: what the ratio is to; "by hand" shuts down before it closes. measure: processor time or time passed.
# settings: of the library, besides the defaults. parallel: on every processor. slot_ms, count: how long a slot is, or
# how many operations it has. warm: slots before it counts. held: few and many sockets (memory). others: measured beside
# it. tools: other tools too. times: so many times the rounds, where the goal is within what where memory lies makes.
# program: of build/bench.
Row = namedtuple('Row', 'name title workload baseline goal arguments measure settings parallel slot_ms count warm held others '
                 'tools times turns program', defaults=((), 'cpu', {}, False, None, None, 1, None, (), False, 1, 2, 'work'))


def words(self, variant):
    if self.program == 'table':
        return (self.workload, self.arguments[variant is LIBRARY])
    return (self.workload, *self.arguments)


Row.words = words

HAND, NONE = 'by hand', 'no library'
LOG = {'PRECLOSE_LEVEL': 'info', 'PRECLOSE_FORMAT': 'json', 'PRECLOSE_LOG': '{scratch}/close-lines'}

ROWS = [
    Row('tcp', 'TCP connect + accept + close of both', 'tcp', HAND, 1.05, tools=True),
    Row('socketpair', 'socketpair + close of both', 'socketpair', HAND, 1.12, tools=True),
    Row('udp', 'UDP socket + close', 'udp', HAND, 1.15, tools=True),
    Row('open-null', 'open + close of /dev/null', 'open-null', NONE, 1.01, tools=True, times=3),
    Row('open-file', 'open + close of a file', 'open-file', NONE, 1.01, times=3),
    Row('open-pipe', 'pipe + close of both', 'open-pipe', NONE, 1.01, times=3),
    Row('open-eventfd', 'eventfd + close', 'open-eventfd', NONE, 1.01, times=3),
    Row('dup-file', 'dup + close of a file', 'dup-file', NONE, 1.02, tools=True, times=3),
    Row('dup-socket', 'dup + close of a tracked socket', 'dup-socket', NONE, 1.6, tools=True),
    Row('send-recv-unix', 'send + recv of 64 bytes, unix', 'send-recv-unix', NONE, 1.005, tools=True, times=3),
    Row('send-recv-tcp', 'send + recv of 64 bytes, TCP', 'send-recv-tcp', NONE, 1.005, tools=True, times=3),
    Row('file-read-write', 'write + read of 64 bytes, a file', 'file-read-write', NONE, 1.005, times=3),
    Row('two-threads', 'two threads, each the socketpair row', 'two-threads', HAND, 1.12, parallel=True, warm=20, turns=4),
    Row('tcp-64', 'TCP row while 64 threads are blocked', 'tcp', HAND, 1.08, ('threads=64',), warm=20, turns=4),
    Row('tcp-1000', 'TCP row while 1,000 threads are blocked', 'tcp', HAND, 1.08, ('threads=1000',), warm=20, turns=4),
    Row('fork-17000', 'fork + exit with 17,000 tracked sockets', 'fork-exit', NONE, 1.03, ('held=17000',), slot_ms=30),
    Row('fork-connection', 'fork for each connection, parent closes', 'fork-connection', NONE, 1.05, slot_ms=20),
    Row('spawn', 'posix_spawn of /bin/true', 'spawn', NONE, 1.12, slot_ms=30, others=(EMPTY,)),
    Row('wake', 'from close() to the return of recv', 'wake', HAND, 1.05, measure='wall', parallel=True, count=10),
    Row('memory', 'memory per tracked socket, bytes', 'memory', '-', 128, held=(1000, 17000)),
    Row('open-18000', 'socketpair row, 18,000 sockets open', 'socketpair', HAND, 1.12, ('held=18000',)),
    Row('open-18000-low', 'the same, its own have low numbers', 'socketpair', HAND, 1.12, ('held=18000', 'low')),
    Row('table-next', 'table alone: the next of 1,000,000', 'next', 'of 1,000', 2, ('1000', '1000000'),
        program='table'),
    Row('table-random', 'table alone: any of 1,000,000', 'random', 'of 1,000', 2, ('1000', '1000000'), program='table'),
    Row('close-line', 'TCP row with a line per close (JSON)', 'tcp', HAND, 1.20, settings=LOG),
]
