"""Every finding, field by field, against what the victim knows of its socket."""

import datetime
import os
import re

from lib import ROUTE_CALL, ROUTES, check, cookie, equal, function_at, need_root, test, victim

KINDS = {'tcp': 'tcp', 'tcp6': 'tcp6', 'listener': 'tcp', 'unix-listener': 'unix-stream',
         'unix-stream': 'unix-stream', 'unix-seqpacket': 'unix-seqpacket', 'unix-dgram': 'unix-dgram', 'udp': 'udp', 'udp-unbound': 'udp',
         'udp6-unbound': 'udp6', 'netlink': 'netlink', 'packet': 'packet', 'tcp-unconnected': 'tcp'}


def record(done):
    """The victim's record of its first close in a known state."""
    line = next(line for line in done.out.splitlines() if line.startswith('record '))
    return dict(item.split('=', 1) for item in line.split()[1:])


def state(settings=None, **parameters):
    done = victim('state', settings=settings, **parameters)
    return done, record(done)


def same_socket(finding, known):
    equal(finding['fd'], int(known['fd']), 'fd')
    equal(finding['cookie'], int(known['cookie']), 'cookie')


@test('findings/close/{kind}', kind=KINDS)
def close(kind):
    if kind == 'packet':
        need_root()
    done = victim('facts', kind=kind)
    finding = done.one('close', cookie(done))
    equal(finding['fd'], int(done['fd']), 'fd')
    equal(finding['pid'], int(done['pid']), 'pid')
    equal(finding['comm'], 'victim', 'comm')
    equal(finding['level'], 'info', 'level')
    equal(finding['type'], KINDS[kind], 'type')
    equal(finding['action'], 'none' if kind in ('netlink', 'packet') else 'shutdown', 'action')
    for key in ('state', 'local', 'peer'):
        if done[key] and not done[key].endswith(':0'):  # no address yet
            equal(finding.get(key), done[key], key)
    check(0 <= finding['age_ms'] < 10000, f'age_ms {finding["age_ms"]}')
    check(finding['text'], 'text')
    check('unread' not in finding or finding['unread'] == 0, 'unread')


@test('findings/time')
def time():
    before = datetime.datetime.now(datetime.timezone.utc)
    done = victim('facts')
    after = datetime.datetime.now(datetime.timezone.utc)
    text = done.one('close', cookie(done))['time']
    check(re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z', text), f'time {text}')
    when = datetime.datetime.fromisoformat(text.replace('Z', '+00:00'))
    check(before <= when <= after, f'time {text}, not between {before} and {after}')


@test('findings/place/{route}', route=ROUTES)
def place(route):
    """Where it was opened and where it was closed, by which call, by which thread."""
    done = victim('place', route=route)
    finding = done.one('close', cookie(done))
    opened, closed = finding['opened'], finding['closed']
    equal(opened['call'], 'socket', 'opened.call')
    equal(opened['tid'], int(done['opening tid']), 'opened.tid')
    equal(opened['thread'], 'victim', 'opened.thread')
    equal(function_at(opened['at'][0]), 'open_here', 'opened.at')
    equal(closed['call'], ROUTE_CALL[route], 'closed.call')
    equal(closed['tid'], int(done['closing tid']), 'closed.tid')
    equal(closed['thread'], 'closer', 'closed.thread')
    equal(function_at(closed['at'][0]), 'route_' + route, 'closed.at')


@test('findings/opened/{kind}', kind=['tcp', 'unix-stream', 'listener'])
def opened(kind):
    done = victim('facts', kind=kind)
    call = done.one('close', cookie(done))['opened']['call']
    equal(call, {'tcp': 'accept', 'unix-stream': 'socketpair', 'listener': 'socket'}[kind], 'opened.call')


@test('findings/unread-reset/{family}', family=['tcp-accepted', 'tcp-connected', 'unix-stream'])
def unread_reset(family):
    done, known = state(family=family, unread=3)
    finding = done.one('unread-reset')
    same_socket(finding, known)
    equal((finding['level'], finding['action']), ('warning', 'shutdown'), 'level and action')
    equal(finding['unread'], 3, 'unread')
    check(re.search(r'\b3\b', finding['text']), f'text: {finding["text"]}')
    says_what_the_peer_sees(done, finding)
    if family != 'unix-stream':
        equal(finding['state'], 'established', 'state')
        equal(known['abort_close'], '1', 'TCPAbortOnClose')


def says_what_the_peer_sees(done, finding):
    end = re.search(r'^saw .*end=(\w+)', done.out, re.M)[1]
    text = finding['text']
    says_end = re.search(r'\bEOF\b|end of file|end of stream|clean end', text, re.I) is not None
    says_reset = re.search(r'\bRST\b|reset|ECONNRESET', text, re.I) is not None
    check({'eof': says_end, 'reset': says_reset}[end], f'the peer saw {end}; the text: {text}')


@test('findings/unread-reset/unsent')
def unread_unsent():
    """What of ours was not sent is lost with it."""
    done, known = state(unread=3, unsent=1)
    finding = done.one('unread-reset')
    equal((finding['unread'], finding['unsent']), (3, int(known['unsent'])), 'unread and unsent')
    check(str(known['unsent']) in finding['text'], f'text: {finding["text"]}')
    says_what_the_peer_sees(done, finding)


@test('findings/unread-reset/after-{ours}', ours=['half', 'rd', 'shut'])
def unread_shut(ours):
    done, known = state(unread=3, ours=ours)
    equal(known['abort_close'], '1', 'TCPAbortOnClose')
    finding = done.one('unread-reset')
    equal(finding['state'], 'established' if ours == 'rd' else 'fin-wait-2', 'state')
    equal((finding['action'], finding.get('reason')),
          ('none', 'already-shut') if ours == 'shut' else ('shutdown', None), 'action and reason')


@test('findings/unread-reset/peer-{peer}/{unread}', peer=['closed', 'half'], unread=['shutdown', 'reset'])
def unread_close_wait(peer, unread):
    """The peer has ended its side. A shutdown of ours can end the connection before the close, which then resets
    nothing."""
    done, known = state({'UNREAD': unread}, unread=3, peer=peer)
    equal(known['state'], 'close-wait', 'state')
    equal(len(done.findings('unread-reset')), int(known['abort_close']), 'findings, as the kernel counted resets')


@test('findings/no-unread-reset/{what}',
      what=['peer-reset', 'both-closed', 'udp', 'duplicated', 'held-by-a-child'])
def no_unread_reset(what):
    """Bytes are unread, but nothing is reset by the close."""
    done, known = state(unread=3, **{
        'peer-reset': {'peer': 'reset'},
        'both-closed': {'peer': 'closed', 'ours': 'half'},
        'udp': {'family': 'udp'},
        'duplicated': {'holder': 'duplicated'},
        'held-by-a-child': {'holder': 'forked'},
    }[what])
    equal(known['resets'], '0', 'resets')
    if what == 'duplicated':
        equal(len(done.findings('unread-reset')), 1, 'unread-reset, of the last close')
        check(done.findings('unread-reset')[0]['fd'] != int(known['fd']), 'unread-reset of the first close')
    else:
        done.none('unread-reset')


@test('findings/linger-reset/no-connection/{what}', what=['peer-reset', 'tcp-unconnected'])
def no_linger_reset(what):
    done, known = state(linger=0, **({'peer': 'reset'} if what == 'peer-reset' else {'family': what}))
    equal(known['resets'], '0', 'resets')
    done.none('linger-reset')


@test('findings/backlog-reset')
def backlog_reset():
    done, known = state(family='listener', backlog=4)
    equal(known['resets'], '4', 'resets')
    finding = done.one('backlog-reset')
    same_socket(finding, known)
    equal((finding['level'], finding['backlog'], finding['state']), ('warning', 4, 'listen'),
          'level, backlog and state')
    check(re.search(r'\b4\b', finding['text']), f'text: {finding["text"]}')


@test('findings/backlog-reset/empty')
def no_backlog_reset():
    state(family='listener', backlog=0)[0].none('backlog-reset')


@test('findings/backlog-reset/unix')
def backlog_unix():
    done, _ = state(family='unix-listener', backlog=2)
    equal(done.out.count('end=reset'), 2, 'connections reset')
    done.one('backlog-reset')


@test('findings/reason/{why}', why=['already-shut', 'duplicated', 'shared', 'setting-never', 'setting-blocked'])
def reason(why):
    parameters, settings = {
        'already-shut': ({'ours': 'shut'}, None),
        'duplicated': ({'holder': 'duplicated'}, None),
        'shared': ({'holder': 'forked'}, None),
        'setting-never': ({}, {'SHUTDOWN': 'never'}),
        'setting-blocked': ({}, {'SHUTDOWN': 'blocked'}),
    }[why]
    done, known = state(settings, **parameters)
    finding = done.findings('close', int(known['cookie']))[0]
    equal((finding['action'], finding['reason']), ('none', 'setting' if 'setting' in why else why),
          'action and reason')


@test('findings/close-line-with-every-other')
def both_lines():
    done, known = state(unread=3)
    done.one('unread-reset', int(known['cookie']))
    done.one('close', int(known['cookie']))


@test('findings/double-close/{route}', route=['close', '__close', 'sys_close', 'close-then-exit'])
def double_close(route):
    done = victim('double-close', route=route.partition('-')[0])
    equal(done['again'], '-1,EBADF', 'the second close')
    finding = done.one('double-close')
    equal((finding['fd'], finding['level']), (int(done['fd']), 'warning'), 'fd and level')
    check(str(done['fd']) in finding['text'], f'text: {finding["text"]}')
    equal(finding['used']['call'], 'close', 'used.call')
    equal(function_at(finding['used']['at'][0]), 'route_' + route.partition('-')[0], 'used.at')
    equal(function_at(finding['closed']['at'][0]), 'closed_socket', 'closed.at')


@test('findings/double-close/reopened-as-{what}', what=['file', 'socket'])
def reopened(what):
    done = victim('double-close', between=what)
    equal((done['same'], done['again']), ('yes', '0,kept'), 'number and second close')
    done.none('double-close')


@test('findings/double-close/never-for-a-sweep/{how}',
      how=['up', 'down', 'around', 'from-closed', 'syscall', 'range', 'closefrom'])
def sweep(how):
    done = victim('sweep', how=how)
    equal(done['swept'], how, 'swept')
    done.none('double-close', 'use-after-close')


USES = ['shutdown', 'accept', 'accept4', 'setsockopt', 'dup', 'dup2', 'dup3', 'fcntl']


@test('findings/use-after-close/{call}', call=USES)
def use_after_close(call):
    done = victim('use-after-close', call=call)
    equal(done['use'], '-1,EBADF', 'the call')
    finding = done.one('use-after-close')
    equal((finding['fd'], finding['level']), (int(done['fd']), 'warning'), 'fd and level')
    check(call in finding['text'], f'the text does not name the call: {finding["text"]}')
    equal(finding['used']['call'], call, 'used.call')
    equal(finding['used']['thread'], 'victim', 'used.thread')
    equal(function_at(finding['used']['at'][0]), 'use', 'used.at')
    equal(function_at(finding['closed']['at'][0]), 'closed_socket', 'closed.at')
    check(finding.get('opened', {}).get('at'), f'where it was opened is not told: {finding}')


@test('findings/use-after-close/reopened-as-file/{call}', call=['shutdown', 'setsockopt', 'accept', 'dup'])
def use_of_a_file(call):
    done = victim('use-after-close', call=call, between='file')
    equal(done['same'], 'yes', 'same number')
    done.none('use-after-close', 'double-close')


@test('findings/thread-left-blocked-by-setting')
def left_by_setting():
    """Audit only: the thread hangs as it would, and that is told."""
    done = victim('wake', settings={'SHUTDOWN': 'never'}, hang=200)
    equal(done['woken'], 'no', 'woken')
    finding = done.one('left-blocked')
    equal((finding['action'], finding['reason']), ('none', 'setting'), 'action and reason')


@test('findings/all-fields-known')
def fields():
    """Nothing is in a line that the contract does not name."""
    names = {'time', 'pid', 'comm', 'level', 'event', 'fd', 'cookie', 'type', 'state', 'local', 'peer',
             'unread', 'unsent', 'backlog', 'age_ms', 'close_wait_ms', 'blocked_ms', 'action', 'reason',
             'threads', 'opened', 'closed', 'used', 'counts', 'held_back', 'text'}
    for done in (state(unread=3)[0], state(family='listener', backlog=1)[0], victim('wake'),
                 victim('double-close'), victim('use-after-close')):
        for finding in done.findings():
            check(set(finding) <= names, f'unknown fields {set(finding) - names} in {finding}')
            for key in ('time', 'pid', 'comm', 'level', 'event', 'text'):
                check(key in finding, f'no {key} in {finding}')


@test('findings/text-format')
def text_format():
    """The text format has the same keys in the same order, behind a sentence."""
    json_keys = list(state(unread=3)[0].one('unread-reset'))
    done = victim('state', unread=3, settings={'FORMAT': 'text', 'LEVEL': 'warning'})
    lines = done.log.splitlines()
    equal(len(lines), 1, 'lines')
    check(re.match(r'preclose: warning: unread-reset: fd \d+ tcp 127\.0\.0\.1:\d+ -> 127\.0\.0\.1:\d+ '
                   r'closed with 3 bytes unread', lines[0]), f'line: {lines[0]}')
    keys = [key for key in re.findall(r'(?<=\s)([a-z_]+)=', lines[0]) if key in json_keys]
    wanted = [key for key in json_keys if key in keys]
    equal(keys, wanted, 'order of the keys')
    for key in ('pid', 'fd', 'cookie', 'unread', 'action'):
        check(key in keys, f'{key} is not in {lines[0]}')


LOGFMT = r'(?: [a-z_.]+=(?:"(?:[^"\\\\]|\\\\.)*"|[^ "=]*))+'


@test('findings/text-format/{scenario}',
      scenario=['state', 'wake', 'double-close', 'use-after-close', 'repeat', 'prove'])
def text_lines(scenario):
    """Every line: what, a sentence, then nothing but key=value to its end."""
    parameters = {'state': {'unread': 3, 'linger': 0}, 'prove': {'holder': 'child'}}.get(scenario, {})
    done = victim(scenario, settings={'FORMAT': 'text', 'REPORT': 'always'}, **parameters)
    lines = done.log.splitlines()
    check(lines, 'no lines')
    for line in lines:
        check(re.match(r'preclose: (info|notice|warning): [a-z-]+: .*?[^ ]' + LOGFMT + r'\Z', line),
              f'line: {line}')
        check(re.search(r' time=\S+Z pid=\d+ comm=victim\b', line), f'no time, pid and comm: {line}')


@test('findings/long-names-and-odd-characters')
def odd_comm():
    """A program name with quotes and control characters leaves a line of JSON."""
    import shutil
    import lib
    name = os.path.join(lib.SCRATCH, 'a"b\\c\td\x7f')
    shutil.copy(os.path.join(lib.BIN, 'victim'), name)
    done = lib.run([name, 'facts'])
    equal(done.status, 0, 'status')
    equal(done.one('close', cookie(done))['comm'], 'a"b\\c\td\x7f', 'comm')
