"""The settings: where findings go, which, how many; and what is wrong with one is said in a line."""

import glob
import json
import os
import re

import lib
from lib import check, cookie, equal, test, victim

UNREAD = {'unread': 3}  # a state with one warning


def path(name):
    return os.path.join(lib.SCRATCH, name)


def read(name):
    with open(path(name)) as file:
        return file.read()


@test('settings/log/file-with-pid')
def log_pid():
    victim('state', settings={'LOG': path('out-%p.log'), 'LEVEL': 'warning'}, **UNREAD)
    files = glob.glob(path('out-*.log'))
    equal(len(files), 1, f'files {files}')
    pid = int(re.search(r'out-(\d+)\.log', files[0])[1])
    equal(json.loads(read(os.path.basename(files[0])))['pid'], pid, 'pid')


@test('settings/log/none')
def log_none():
    done = victim('state', settings={'LOG': 'none'}, **UNREAD)
    equal(done.err, '', 'stderr')


@test('settings/log/{how}', how=['stderr', 'default'])
def log_stderr(how):
    done = victim('state', settings={'LOG': 'stderr' if how == 'stderr' else None, 'FORMAT': None, 'LEVEL': None,
                                     'RATE': None}, **UNREAD)
    equal(len(done.err.splitlines()), 1, f'lines on stderr: {done.err!r}')
    check(done.err.startswith('preclose: warning: unread-reset: fd '), f'stderr: {done.err!r}')


@test('settings/log/cannot-be-opened')
def log_bad_path():
    """A finding is not lost because its file cannot be opened: that is said, and stderr has it."""
    done = victim('state', settings={'LOG': '/nonexistent/dir/x.log', 'LEVEL': 'warning'}, **UNREAD)
    check('unread-reset' in done.err, f'stderr: {done.err!r}')
    check('/nonexistent/dir/x.log' in done.err, f'stderr does not name the file: {done.err!r}')


@test('settings/log/appends')
def log_appends():
    for _ in range(2):
        victim('state', settings={'LOG': path('same.log'), 'LEVEL': 'warning'}, **UNREAD)
    equal(len(read('same.log').splitlines()), 2, 'lines')


@test('settings/log/no-warning-no-output')
def quiet():
    done = victim('state', settings={'LOG': None, 'FORMAT': None, 'LEVEL': None, 'REPORT': None, 'RATE': None})
    equal(done.err, '', 'stderr')


@test('settings/level/{level}', level=['warning', 'notice', 'info', 'default'])
def level(level):
    settings = {'LEVEL': None if level == 'default' else level}
    events = {f['event'] for f in victim('state', settings=settings, **UNREAD).findings()}
    equal('unread-reset' in events, True, 'unread-reset told')
    equal('close' in events, level == 'info', 'close told')
    events = {f['event'] for f in victim('state', settings=settings, linger=0).findings()}
    equal('linger-reset' in events, level in ('notice', 'info'), 'linger-reset told')


@test('settings/format/default-is-text')
def format_default():
    done = victim('state', settings={'FORMAT': None, 'LEVEL': 'warning'}, **UNREAD)
    check(done.log.startswith('preclose: warning: '), f'log: {done.log!r}')


@test('settings/shutdown/blocked')
def only_blocked():
    """Acts where a thread is blocked, and only there."""
    done = victim('wake', settings={'SHUTDOWN': 'blocked'})
    equal(done['woken'], 'yes', 'woken')
    actions = {(f['action'], f.get('reason')) for f in done.findings('close') if f['cookie'] != cookie(done)}
    equal(actions, {('none', 'setting')}, 'actions on the other sockets')


@test('settings/shutdown/never')
def never():
    done = victim('wake', settings={'SHUTDOWN': 'never'}, hang=200)
    equal(done['woken'], 'no', 'woken')


@test('settings/only/{globs}', globs=['nothing', 'v?ct', 'x,y*', 'VICTIM'])
def only_others(globs):
    done = victim('wake', settings={'ONLY': globs}, hang=200)
    equal((done['woken'], done.log, done.err), ('no', '', ''), 'woken, log and stderr')


@test('settings/only/{globs}/acts', globs=['victim', 'vic*', 'x,v?ctim', '*', '[uvw]*'])
def only_this(globs):
    equal(victim('wake', settings={'ONLY': globs})['woken'], 'yes', 'woken')


def repeat(settings, **parameters):
    return victim('repeat', settings={'LEVEL': 'warning'} | settings, **parameters)


@test('settings/rate/holds-back')
def rate():
    done = repeat({'RATE': '3', 'REPORT': 'always'}, first=20, second=2)
    equal(len(done.findings('unread-reset')), 5, 'lines: 3 from the first place, 2 from the second')
    summary = done.one('summary')
    equal(summary['counts']['unread-reset'], 22, 'counted')
    check(re.search(r'\b17\b', json.dumps(summary)), f'the summary does not say how many were held back: {summary}')


@test('settings/rate/default-is-10')
def rate_default():
    equal(len(repeat({'RATE': None}, first=30).findings('unread-reset')), 10, 'lines')


@test('settings/rate/no-limit')
def rate_zero():
    equal(len(repeat({'RATE': '0'}, first=30).findings('unread-reset')), 30, 'lines')


@test('settings/rate/never-for-close')
def rate_close():
    done = repeat({'RATE': '1', 'LEVEL': 'info'}, first=30)
    check(len(done.findings('close')) >= 60, f'{len(done.findings("close"))} close lines')
    equal(len(done.findings('unread-reset')), 1, 'lines')


@test('settings/report/{mode}', mode=['auto', 'always', 'never', 'default'])
def report(mode):
    setting = {'REPORT': None if mode == 'default' else mode}
    for first, wanted in ((1, mode != 'never'), (0, mode == 'always')):
        found = repeat(setting, first=first).findings('summary')
        equal(len(found), int(wanted), f'summaries after {first} warnings')
        if found and first:
            equal((found[0]['level'], found[0]['counts'].get('unread-reset')), ('notice', 1), 'level and counts')


@test('settings/report/auto/held-back')
def report_held():
    """A warning that was held back asks for the summary as one that was written."""
    check(repeat({'REPORT': 'auto', 'RATE': '1'}, first=2).findings('summary'), 'no summary')


@test('settings/report/through/{end}', end=['exit', '_exit', '_Exit', 'quick_exit', 'return', 'fork'])
def report_through(end):
    done = repeat({'REPORT': 'auto'}, first=1, end=end, status=0 if end in ('return', 'fork') else 7)
    summary = done.one('summary')
    equal(summary['counts'].get('unread-reset'), 1, 'counts')
    equal(done.findings()[-1]['event'], 'summary', 'last line')


@test('settings/report/always-without-sockets')
def report_always():
    done = victim('none', settings={'REPORT': 'always'})
    equal(done['ran'], 'yes', 'ran')
    done.one('summary')


BAD = [('SHUTDOWN', 'sometimes', 'always'), ('UNREAD', 'dunno', 'reset'), ('UNREAD', 'drain:x', 'drain'),
       ('FORMAT', 'xml', 'json'), ('LEVEL', 'loud', 'notice'), ('RATE', 'many', ''), ('RATE', '-1', ''),
       ('RATE', '99999999999999999999', ''), ('REPORT', 'maybe', 'never'), ('FORMAT', '', 'text'),
       ('SHUTDWON', 'never', ''), ('STACK', '33', '0 to 32'), ('STACK', 'all', '0 to 32'), ('LEVEL', 'Warning', 'warning')]


@test('settings/bad/{which}', which=range(len(BAD)))
def bad(which):
    name, value, takes = BAD[which]
    done = victim('wake', settings={name: value})
    equal(done['woken'], 'yes', 'woken')
    lines = done.err.splitlines()
    about = [line for line in lines if line.startswith('preclose: ') and f'PRECLOSE_{name}' in line]
    equal(len(about), 1, f'lines about {name}={value}: {done.err!r}')
    check(value in about[0] and takes in about[0], f'the value, or what it takes, is not named: {about[0]!r}')
    if name != 'FORMAT':
        equal(len(lines), 1, f'lines on stderr: {done.err!r}')


@test('settings/bad/several')
def several():
    done = victim('none', settings={'LEVEL': 'x', 'RATE': 'y', 'NONSENSE': 'z'})
    equal(len(done.err.splitlines()), 3, f'lines: {done.err!r}')


@test('settings/good/{setting}',
      setting=['SHUTDOWN=blocked', 'UNREAD=reset', 'FORMAT=json', 'LEVEL=notice', 'RATE=0', 'RATE=100',
               'REPORT=auto', 'STACK=0', 'STACK=32', 'ONLY=*', 'ONLY=a,b'])
def good(setting):
    key, value = setting.split('=')
    equal(victim('none', settings={key: value}).err, '', 'stderr')


@test('settings/log/many-threads-and-processes-tear-no-line')
def torn():
    """Every line of a log that many processes share is whole: findings() fails otherwise."""
    done = victim('prove', holder='closed', rounds=20)
    check(len(done.findings('close')) >= 40, 'lines')
