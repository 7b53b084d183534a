"""Where the program asked for a reset its peer gets a reset, never a clean end; and blocked threads wake."""

from lib import ROUTES, check, cookie, equal, test, victim

RESET = {'UNREAD': 'reset'}


@test('abort/linger/{row}', row=['tcp-recv', 'tcp-poll', 'tcp-send'])
def linger_blocked(row):
    done = victim('wake', row=row, linger=0)
    equal(done['woken'], 'yes', f'woken ({done.told()})')
    equal(done['peer'], 'ECONNRESET', 'the peer sees')
    equal(done.one('blocked-threads', cookie(done))['action'], 'abort', 'action')
    equal(done.one('linger-reset', cookie(done))['level'], 'notice', 'level')


@test('abort/linger/{route}', route=ROUTES)
def linger(route):
    done = victim('state', linger=0, route=route) if route != 'closefrom' else victim('state', linger=0)
    record = dict(item.split('=') for item in done.out.split('\n')[0].split()[1:])
    equal(record['resets'], '1', 'resets')
    check('end=reset' in done.out, f'the peer saw {done.out!r}')
    finding = done.one('linger-reset')
    equal((finding['action'], finding['level']), ('abort', 'notice'), 'action and level')
    done.none('unread-reset')


@test('abort/linger/hidden-by-default')
def linger_is_a_notice():
    done = victim('state', linger=0, settings={'LEVEL': 'warning'})
    equal(done.findings(), [], 'findings')


@test('abort/unread/idle')
def unread():
    done = victim('state', unread=3, settings=RESET)
    check('end=reset' in done.out, f'the peer saw {done.out!r}')
    finding = done.one('unread-reset')
    equal((finding['action'], finding['unread']), ('abort', 3), 'action and unread')


@test('abort/unread/blocked-sender/{row}', row=['tcp-send', 'unix-stream-send'])
def unread_blocked(row):
    done = victim('wake', row=row, unread=6, settings=RESET)
    equal(done['woken'], 'yes', f'woken ({done.told()})')
    equal(done['peer'], 'ECONNRESET', 'the peer sees')
    equal(done.one('unread-reset')['action'], 'abort', 'action')
    equal(done.one('blocked-threads')['action'], 'abort', 'action')


@test('abort/unread/blocked-receiver')
def nothing_unread():
    """Where nothing is unread the setting changes nothing."""
    done = victim('wake', row='tcp-recv', settings=RESET)
    equal((done['woken'], done['peer']), ('yes', 'eof'), 'woken and what the peer sees')
    equal(done.one('blocked-threads')['action'], 'shutdown', 'action')


@test('abort/unread/default')
def unread_by_default():
    """By default all of ours that has arrived is followed by a clean end."""
    done = victim('state', unread=3)
    check('end=eof' in done.out, f'the peer saw {done.out!r}')
    equal(done.one('unread-reset')['action'], 'shutdown', 'action')
