"""Connections that the peer has closed and the program has not: told once, in time, with the place that opened them,
and never where there is none; what is open at exit; who leaks, in the summary."""

import calendar
import os
import re
import subprocess
import tempfile
import time

import lib
import test_random
from lib import check, cookie, environment, equal, function_at, in_time, need_own_network, program, test, victim

LIMIT_MS = 400
LATE_MS = 2000  # after the time is over it is told within this
SETTINGS = {'CLOSE_WAIT': f'{LIMIT_MS}ms', 'LEVEL': 'warning'}
THREADS = {'thread-before': dict(thread='before'), 'thread-after': dict(thread='after')}


def wall_ms(finding):
    date, micros = re.fullmatch(r'(.*)\.(\d{6})Z', finding['time']).groups()
    return calendar.timegm(time.strptime(date, '%Y-%m-%dT%H:%M:%S')) * 1000 + int(micros) / 1000


CLOCKS_MS = 20  # what the kernel's times are rounded to


def is_true(finding, done, prefix=''):
    """What is said of the time is so. Returns how long after the FIN it was said, in milliseconds."""
    told = wall_ms(finding)
    longest = told - int(done[prefix + 'begun'])
    check(finding['close_wait_ms'] >= LIMIT_MS, f'told at {finding["close_wait_ms"]} ms')
    check(finding['close_wait_ms'] <= longest + CLOCKS_MS, f'{finding["close_wait_ms"]} ms, but {longest:.0f} ms ago')
    return told - int(done[prefix + 'fin'])


def is_in_time(finding, done):
    in_time(is_true(finding, done), LIMIT_MS + LATE_MS, 'told after')


def left(settings=None, prefix='', **parameters):
    done = victim('leak', settings=SETTINGS | (settings or {}), **parameters)
    return done, done.one('close-wait', cookie(done, prefix + 'cookie'))


@test('watch/told/{how}', how=THREADS)
def told_by_thread(how):
    """In a process with threads nothing need happen in the program."""
    done, finding = left(unread=3, then=300, **THREADS[how])
    is_in_time(finding, done)
    equal(finding['fd'], int(done['fd']), 'fd')
    equal((finding['level'], finding['type'], finding['state']), ('warning', 'tcp', 'close-wait'), 'level, type, state')
    equal((finding['local'], finding['peer']), (done['local'], done['peer']), 'addresses')
    equal(finding['unread'], 3, 'unread')
    check(finding['age_ms'] >= finding['close_wait_ms'], f'age_ms {finding["age_ms"]}')
    check('action' not in finding and 'closed' not in finding, f'{finding}')
    opened = finding['opened']
    equal((opened['call'], opened['tid'], opened['thread']), ('accept', int(done['tid']), 'victim'), 'opened')
    equal(function_at(opened['at'][0]), 'accept_here', 'opened.at')
    check('3 bytes unread' in finding['text'] and 'accept at victim+' in finding['text'], finding['text'])
    equal(done['close_wait told'], '1', 'told')


@test('watch/told/{opened}/{family}', opened=['accept', 'connect'], family=[4, 6])
def told_of_every_kind(opened, family):
    done, finding = left(opened=opened, family=family, thread='before', closes=1)
    is_true(finding, done)
    equal(finding['type'], 'tcp' if family == 4 else 'tcp6', 'type')
    equal(finding['opened']['call'], 'accept' if opened == 'accept' else 'socket', 'opened.call')
    equal(function_at(finding['opened']['at'][0]), 'accept_here' if opened == 'accept' else 'socket_here', 'opened.at')


@test('watch/told/by-calls/{watch}', watch=['auto', 'calls'])
def told_in_calls(watch):
    """A single-threaded program looks around in its own socket calls."""
    done, finding = left({'WATCH': watch}, calls=1, then=300)
    is_in_time(finding, done)
    done.one('close-wait')


@test('watch/told/by-calls/with-threads')
def told_in_calls_of_threads():
    done, finding = left({'WATCH': 'calls'}, calls=1, thread='before')
    is_true(finding, done)


@test('watch/told/by-thread-alone')
def told_by_the_only_thread():
    done, finding = left({'WATCH': 'thread'})
    is_in_time(finding, done)


@test('watch/told/at-exit')
def told_at_exit():
    """A program that makes no call at all is told at its end: from what the kernel knows of the time."""
    done, finding = left(wait=LIMIT_MS + 200)
    is_true(finding, done)
    equal(done['close_wait told'], '0', 'told before the end')
    equal(done.one('open-at-exit')['cookie'], cookie(done), 'open at exit too')


@test('watch/off/{setting}', setting=['WATCH=off', 'CLOSE_WAIT=0'])
def off(setting):
    name, value = setting.split('=')
    for parameters in (dict(thread='before'), dict(calls=1), {}):
        done = victim('leak', settings=SETTINGS | {name: value}, wait=LIMIT_MS + 300, **parameters)
        done.none('close-wait', 'summary')
        done.one('open-at-exit')


NO_LEAKS = ['idle', 'unix', 'shut-read', 'shut-write', 'both', 'reset', 'listener', 'connecting', 'in-time']


@test('watch/none/{how}/{threads}', how=NO_LEAKS, threads=['threads', 'alone'])
def none_invented(how, threads):
    done = victim('no-leak', settings=SETTINGS, how=how, ms=LIMIT_MS + 400, threads=int(threads == 'threads'))
    equal(done['told'], '0', 'told')
    done.none('close-wait')


@test('watch/reuse/{how}', how=['close', 'raw', 'dup2'])
def number_reused(how):
    """A number's next connection has not waited as long as its last."""
    done = victim('reuse', settings=SETTINGS, how=how, ms=LIMIT_MS * 3 // 4)
    finding = done.one('close-wait')
    equal(finding['cookie'], cookie(done, 'second cookie'), 'cookie')
    equal(done['second fd'], done['first fd'], 'number')
    is_true(finding, done, 'second ')


@test('watch/strange')
def stranger():
    """A socket that nobody saw opened is nobody's leak, whatever its number was before."""
    done = victim('strange', settings=SETTINGS, then=LIMIT_MS + 300)
    equal(done['told'], '0', 'told')
    done.none('close-wait', 'open-at-exit')


@test('watch/reconnect')
def reconnected():
    done = victim('reconnect', settings=SETTINGS, ms=LIMIT_MS * 3 // 4)
    finding = done.one('close-wait')
    equal(finding['cookie'], cookie(done), 'cookie')
    is_true(finding, done)


@test('watch/half-closed')
def half_closed():
    """What the peer acknowledges later does not make it younger."""
    done = victim('half-closed', settings=SETTINGS)
    finding = done.one('close-wait', cookie(done))
    is_in_time(finding, done)


@test('watch/duplicates')
def duplicates():
    done = victim('duplicates-left', settings=SETTINGS)
    is_true(done.one('close-wait'), done)
    equal(done.one('open-at-exit')['cookie'], cookie(done), 'cookie')


@test('watch/fork/{who}', who=['parent', 'child'])
def told_by_its_opener(who):
    """Two processes hold it: the one that opened it tells."""
    done = victim('left-by-fork', settings=SETTINGS, who=who)
    finding = done.one('close-wait')
    equal(finding['pid'], int(done[who]), 'pid')
    check(('any other process' in finding['text']) == (who == 'parent'), finding['text'])
    equal([f['pid'] for f in done.findings('open-at-exit')], [int(done[who])], 'open at exit')


# state → (level, what the text says)
AT_EXIT = {'established': ('notice', r'is still open at exit; opened by accept at victim\+\S+ \(thread \d+ victim\); close it'),
           'half': ('notice', 'is still open at exit;'),
           'unread': ('warning', 'with 3 bytes unread, so that the peer gets a reset;'),
           'close-wait': ('warning', 'the peer had closed its side')}


@test('at-exit/{state}/{by}', state=AT_EXIT, by=['return', 'exit', '_exit', '_Exit', 'quick_exit', 'exit_group', 'pthread_exit'])
def open_at_exit(state, by):
    done = victim('at-exit', settings={'LEVEL': 'notice', 'REPORT': 'auto'}, state=state, by=by)
    finding = done.one('open-at-exit', cookie(done))
    level, text = AT_EXIT[state]
    equal(finding['level'], level, 'level')
    check(re.search(text, finding['text']), finding['text'])
    equal(function_at(finding['opened']['at'][0]), 'accept_here', 'opened.at')
    equal(len(done.findings('summary')), int(level == 'warning'), 'summaries')
    done.none('close-wait')


@test('at-exit/level/{state}', state=AT_EXIT)
def only_what_matters(state):
    """By default only what is lost or left is told."""
    done = victim('at-exit', settings={'LEVEL': 'warning'}, state=state)
    equal(len(done.findings()), int(AT_EXIT[state][0] == 'warning'), 'findings')


@test('at-exit/none/{state}', state=['shut', 'closed', 'reset'])
def nothing_open(state):
    done = victim('at-exit', settings={'LEVEL': 'notice'}, state=state)
    done.none('open-at-exit')


@test('at-exit/shared/{state}', state=AT_EXIT)
def shared_at_exit(state):
    """Another process has it: the exit closes nothing."""
    done = victim('at-exit', settings={'LEVEL': 'notice'}, state=state, shared=1)
    finding = done.one('open-at-exit', cookie(done))
    equal(finding['level'], 'warning' if state == 'close-wait' else 'notice', 'level')
    check('another process may hold it' in finding['text'] and 'reset' not in finding['text'], finding['text'])


@test('at-exit/child')
def not_its_own():
    """What a forked child inherits is no finding of its own."""
    done = victim('child-at-exit', settings={'LEVEL': 'notice'})
    done.none('open-at-exit', 'close-wait')


@test('at-exit/late/{how}', how=['atexit', 'destructor'])
def closed_at_the_end(how):
    victim('late', settings={'LEVEL': 'notice'}, how=how).none('open-at-exit')


@test('at-exit/many/{state}', state=['unread', 'established'])
def many_at_exit(state):
    done = victim('at-exit', settings={'LEVEL': 'notice', 'REPORT': 'always'}, state=state, n=200)
    found = done.findings('open-at-exit')
    equal(len(found), 17, 'lines')
    equal(len({f['cookie'] for f in found[:16]}), 16, 'connections')
    check('cookie' not in found[16] and found[16]['text'].startswith('184 more connections'), found[16]['text'])
    equal(found[16]['level'], AT_EXIT[state][0], 'level')
    equal(done.one('summary')['counts']['open-at-exit'], 200, 'counted')


@test('watch/table')
def leak_table():
    done = victim('table', settings=SETTINGS | {'CLOSE_WAIT': '100ms', 'REPORT': 'auto'})
    table = {function_at(leak['opened']['at'][0]): leak for leak in done.one('summary')['leaks']}
    numbers = {name: (leak['now'], leak['most'], leak['trend']) for name, leak in table.items()}
    equal(numbers, {'leave_first': (40, 40, 'growing'), 'leave_second': (6, 6, 'steady'),
                    'leave_third': (0, 4, 'steady')}, 'table')
    check(1900 <= table['leave_second']['oldest_ms'] <= 20000, f'{table["leave_second"]}')
    text = done.one('summary')['text']
    check(re.search(r'; in CLOSE_WAIT: 40 opened by accept at victim\+0x[0-9a-f]+ \(40 at most, the oldest for \d+ ms, '
                    r'growing\), 6 opened by', text), text)


@test('watch/table/at-exit')
def table_of_a_short_life():
    """The look at exit counts what was too short for any other."""
    done = victim('at-exit', settings={'REPORT': 'always', 'LEVEL': 'warning'}, state='close-wait', n=5)
    leaks = done.one('summary')['leaks']
    equal([(leak['now'], leak['most'], leak.get('trend')) for leak in leaks], [(5, 5, None)], 'table')


def in_close_wait():
    """The cookies of what is in CLOSE_WAIT in this network, as ss knows them."""
    out = subprocess.run([program('ss'), '-tnaeH', 'state', 'close-wait'], capture_output=True, text=True, check=True).stdout
    return [int(c, 16) for c in re.findall(r'\bsk:([0-9a-f]+)', out)]


@test('watch/random/{threads}', threads=[0, 1, 4], deadline=120)
def against_ss(threads):
    """Connections opened and left by several functions and threads: all told, once, none invented, each by its place."""
    need_own_network()
    seed, log = test_random.seed + threads, tempfile.mktemp(prefix='log-', dir=lib.SCRATCH)
    env = environment(lib.LIB, SETTINGS | {'LOG': log, 'FORMAT': 'json', 'RATE': '0', 'REPORT': 'always'})
    with subprocess.Popen([os.path.join(lib.BIN, 'victim'), 'leaks', f'seed={seed}', f'threads={threads}', 'n=400'], env=env,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stdout:
            lines.append(line.rstrip('\n'))
            if line.startswith(('ready=', 'broken=')):
                break
        check(lines and lines[-1].startswith('ready='), f'{lines[-1:]}')
        truth = in_close_wait()
        end = time.monotonic() + 20
        while time.monotonic() < end:
            told = lib.Run(0, '', '', open(log).read() if os.path.exists(log) else '').findings('close-wait')
            if len(told) >= len(truth):
                break
            time.sleep(0.05)
        time.sleep(0.3)  # for one too many
        equal(sorted(in_close_wait()), sorted(truth), 'what ss says has changed')
        process.stdin.write('end\n')
        process.stdin.close()
        process.wait(20)
    done = lib.Run(process.returncode, '\n'.join(lines), '', open(log).read())
    told = done.findings('close-wait')
    check(len(truth) > 30, f'only {len(truth)} left')
    equal(sorted(f['cookie'] for f in told), sorted(truth), f'seed {seed}: cookies told and those of ss')
    known = {int(c): f for c, f in (line.split()[1:] for line in lines if line.startswith('left '))}
    equal(sorted(known), sorted(truth), 'the victim and ss')
    places = {}
    for finding in told:
        place = finding['opened']['at'][0]
        if place not in places:
            places[place] = function_at(place)
        equal(places[place], known[finding['cookie']], f'seed {seed}: place of {finding["cookie"]}')
    summary = done.one('summary')
    equal(summary['counts']['close-wait'], len(truth), 'counted')
    table = {places[leak['opened']['at'][0]]: leak['now'] for leak in summary['leaks'] if leak['now']}
    equal(table, {f: list(known.values()).count(f) for f in set(known.values())}, 'leak table')
