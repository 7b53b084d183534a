#!/usr/bin/python3
"""The library end to end: a program of named scenarios, run with it and without it."""

import argparse
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
BUILD = os.path.join(HERE, '..', '..', 'build')

import lib                # noqa: E402
import test_wake          # noqa: E402,F401
import test_results       # noqa: E402,F401
import test_duplicates    # noqa: E402,F401
import test_sharing       # noqa: E402,F401
import test_epoll         # noqa: E402,F401
import test_abort         # noqa: E402,F401
import test_findings      # noqa: E402,F401
import test_settings      # noqa: E402,F401
import test_cures         # noqa: E402,F401
import test_random        # noqa: E402,F401
import test_watch         # noqa: E402,F401
import test_programs      # noqa: E402,F401
import test_places        # noqa: E402,F401

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('--lib', default=os.path.join(BUILD, 'libpreclose.so'), help='the library under test')
parser.add_argument('--before', metavar='LIB', help='another library, to be preloaded before it')
parser.add_argument('--bin', default=os.path.join(BUILD, 'tests', 'e2e'), help='where the victim is')
parser.add_argument('-k', default='', metavar='PATTERN', help='only tests whose name matches')
parser.add_argument('-j', type=int, default=3, metavar='N', help='tests at once')
parser.add_argument('-q', action='store_true', help='only what failed or was skipped')
parser.add_argument('--list', action='store_true', help='the names of the tests')
parser.add_argument('--seed', type=int, help='of the randomized check (a new one each time)')
parser.add_argument('--closes', type=int, help='of the randomized check (1000)')
options = parser.parse_args()
if options.list:
    print('\n'.join(name for name, _, _ in lib.TESTS))
    sys.exit()
lib.BEFORE = [options.before] if options.before else []
test_random.configure(options.seed, options.closes)
sys.exit(lib.main(options.lib, options.bin, options.k, options.j, options.q))
