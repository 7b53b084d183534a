#!/usr/bin/python3
"""The command preclose end to end."""

import argparse
import os
import sys

sys.dont_write_bytecode = True
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, '..', 'e2e')]
BUILD = os.path.join(HERE, '..', '..', 'build')

import lib                # noqa: E402
import test_run           # noqa: E402,F401
import test_completion    # noqa: E402,F401
import test_free          # noqa: E402,F401
import test_html          # noqa: E402,F401
import test_metrics       # noqa: E402,F401
import test_report        # noqa: E402,F401
import test_scan          # noqa: E402,F401
import test_top           # noqa: E402,F401

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument('--build', default=BUILD, help='where preclose and libpreclose.so are')
parser.add_argument('--bin', help='where tests/e2e/victim is, if not there')
parser.add_argument('-k', default='', metavar='PATTERN', help='only tests whose name matches')
parser.add_argument('-j', type=int, default=2, metavar='N', help='tests at once')
parser.add_argument('-q', action='store_true', help='only what failed or was skipped')
parser.add_argument('--list', action='store_true', help='the names of the tests')
options = parser.parse_args()
if options.list:
    print('\n'.join(name for name, _, _ in lib.TESTS))
    sys.exit()
if not os.path.exists(os.path.join(options.build, 'preclose')):
    print(f'{options.build}/preclose: not built', file=sys.stderr)
    sys.exit(2)
sys.exit(lib.main(os.path.join(options.build, 'libpreclose.so'), options.bin or os.path.join(options.build, 'tests', 'e2e'),
                  options.k, options.j, options.q))
