"""Every blocked call that a shutdown can end is ended, through every way to let go of the socket."""

import os
import resource

from lib import ROUTE_CALL, ROUTES, check, cookie, equal, need_root, skip, test, victim

# What the blocked call returns once it is woken: (result, error). poll and select look again at a descriptor
# that may be closed by then.
WOKEN = {
    'tcp-recv': [('0', '0')],
    'tcp-read': [('0', '0')],
    'tcp-poll': [('1', '0')],
    'tcp-select': [('1', '0'), ('-1', 'EBADF')],
    'tcp-send': [('-1', 'EPIPE')],
    'tcp6-recv': [('0', '0')],
    'listener-accept': [('-1', 'EINVAL')],
    'listener-poll': [('1', '0')],
    'unix-listener-accept': [('-1', 'EINVAL')],
    'unix-stream-recv': [('0', '0')],
    'unix-seqpacket-recv': [('0', '0')],
    'unix-dgram-recv': [('0', '0')],
    'udp-recv': [('0', '0')],
    'udp-unbound-recv': [('0', '0')],
    'udp6-unbound-recv': [('0', '0')],
}
# Other calls on the same sockets: through one route, as to the kernel they are the same wait.
OTHER_CALLS = {
    'tcp-sys_recvfrom': [('0', '0')],
    'tcp-recvmsg': [('0', '0')],
    'tcp-recvmmsg': [('1', '0'), ('0', '0')],
    'tcp-readv': [('0', '0')],
    'tcp-ppoll': [('1', '0')],
    'tcp-pselect': [('1', '0'), ('-1', 'EBADF')],
    'tcp-splice': [('0', '0')],
    'tcp-write': [('-1', 'EPIPE')],
    'tcp-writev': [('-1', 'EPIPE')],
    'tcp-sendmsg': [('-1', 'EPIPE')],
    'tcp-sendmmsg': [('-1', 'EPIPE')],
    'tcp-sendfile': [('-1', 'EPIPE')],
    'unix-stream-send': [('-1', 'EPIPE')],
    'tcp-connect': [('-1', 'ECONNRESET'), ('-1', 'ECONNABORTED')],
    'listener-accept4': [('-1', 'EINVAL')],
}
TYPE = {'tcp': 'tcp', 'tcp6': 'tcp6', 'listener': 'tcp', 'unix-listener': 'unix-stream',
        'unix-stream': 'unix-stream', 'unix-seqpacket': 'unix-seqpacket', 'unix-dgram': 'unix-dgram', 'udp': 'udp', 'udp-unbound': 'udp',
        'udp6-unbound': 'udp6'}


def named_thread(finding, done):
    """The finding names the thread that the victim knows to be blocked."""
    equal(finding.get('threads'), [{'tid': int(done['tid']), 'name': done['name'], 'call': done['call']}],
          'threads')


@test('wake/{row}/{route}', row=WOKEN, route=ROUTES)
def wake(row, route):
    done = victim('wake', row=row, route=route)
    equal(done['woken'], 'yes', f'woken ({done.told()})')
    result = done['result'], done['error']
    check(result in (WOKEN | OTHER_CALLS)[row], f'the call returned {result}')
    equal(done['errno'], 'kept', 'errno of the let-go')
    equal(done['released'], 'yes', 'released')
    if 'peer' in done.values:
        equal(done['peer'], 'eof', 'the peer sees')
    finding = done.one('blocked-threads')
    equal(finding['fd'], int(done['fd']), 'fd')
    equal(finding['cookie'], cookie(done), 'cookie')
    equal(finding['action'], 'shutdown', 'action')
    equal(finding['level'], 'warning', 'level')
    equal(finding['type'], TYPE[row.rpartition('-')[0]], 'type')
    equal(finding['closed']['call'], ROUTE_CALL[route], 'closed.call')
    named_thread(finding, done)
    done.none('left-blocked')


@test('wake/{row}/other-call', row=OTHER_CALLS)
def other_call(row):
    wake(row, 'close')


@test('wake/high-number/{number}', number=[1500, 15000])
def high(number):
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] <= number:
        skip('so many descriptors are not allowed here')
    done = victim('wake', row='tcp-recv', number=number)
    equal((done['fd'], done['woken']), (str(number), 'yes'), 'fd and woken')
    named_thread(done.one('blocked-threads'), done)


@test('wake/got-by/{by}', by=['accept4', 'sys_socket', 'sys_socketpair', 'sys_accept', 'sys_accept4'])
def got_by(by):
    if by == 'sys_accept' and os.uname().machine != 'x86_64':
        skip('no accept system call here')
    done = victim('got', by=by)
    equal(done['woken'], 'yes', f'woken ({done.told()})')
    equal(done.one('blocked-threads')['opened']['call'], by.removeprefix('sys_'), 'opened.call')


@test('wake/range/{by}', by=['close_range', 'closefrom', 'sys_close_range'])
def ranges(by):
    """One call lets go of all sorts: each is judged by itself."""
    done = victim('range', by=by)
    equal(done['shared'], 'yes', 'the connection that a child has')
    equal(done['doubled'], 'yes', 'the connection that has a duplicate outside the range')
    equal(done['woken'], 'yes', 'the thread blocked on one that is wholly inside')
    equal(done['left'], '0', 'descriptors left in the range')


@test('wake/{row}/hangs-without', row=WOKEN)
def hangs_without(row):
    equal(victim('wake', lib=False, row=row, hang=200)['woken'], 'no', 'woken without the library')


@test('wake/{row}/left-blocked', row=['netlink-recv', 'packet-recv'])
def left_blocked(row):
    if row == 'packet-recv':
        need_root()
    done = victim('wake', row=row, hang=200)
    equal(done['woken'], 'no', 'woken')
    finding = done.one('left-blocked')
    equal(finding['fd'], int(done['fd']), 'fd')
    equal(finding['action'], 'none', 'action')
    equal(finding['type'], row.partition('-')[0], 'type')
    check(row.partition('-')[0] in finding['text'], f'the text does not say the kind: {finding["text"]}')
    named_thread(finding, done)
    done.none('blocked-threads')


@test('wake/crowd')
def crowd():
    done = victim('wake', row='tcp-recv', threads=40)
    equal(done['all_woken'], 'yes', 'all woken')
    finding = done.one('blocked-threads')
    check(1 <= len(finding['threads']) <= 40, 'threads')
    check(all(t['call'] == 'recvfrom' and t['name'] == 'wait-recv' for t in finding['threads']), 'threads')
    check('40' in finding['text'], f'the text does not say how many: {finding["text"]}')
