"""A thread in epoll_wait gets no event for a socket that is let go of: existing programs have freed what
stands behind it."""

from lib import check, equal, test, victim

ROUNDS = 100


@test('epoll/phantoms')
def phantoms():
    done = victim('phantoms', n=20000, settings={'LEVEL': 'warning'})
    equal(done['events'], '0', 'phantom events in 20,000 closes')


@test('epoll/phantoms/proof-of-harm')
def phantoms_of_a_careless_shim():
    check(int(victim('phantoms', lib=False, n=2000, mode='naive')['events']) > 0, 'no phantom was noticed')


def no_event(of, **parameters):
    done = victim('epoll', of=of, rounds=ROUNDS, **parameters)
    events = done.all('events')
    equal(len(events), ROUNDS, 'rounds')
    equal(sum(map(int, events)), 0, f'events in {ROUNDS} rounds ({done.findings("close")[-1:]})')
    done.none('blocked-threads', 'left-blocked')  # epoll_wait is no wait for this socket
    return done


def last_closes(done):
    """What was done at the last close of each round's socket."""
    last = {}
    for finding in done.findings('close'):
        last[str(finding['cookie'])] = finding['action'], finding.get('reason')
    return {last.get(cookie) for cookie in done.all('cookie')}


@test('epoll/{of}',
      of=['duplicated', 'nested', 'syscall', 'sys_create', 'deleted', 'modified', 'set-closed', 'child'])
def taken_out(of):
    equal(last_closes(no_event(of)), {('shutdown', None)}, 'actions')


@test('epoll/{of}', of=['key-gone', 'both-numbers'])
def left_alone(of):
    equal(last_closes(no_event(of)), {('none', 'epoll')}, 'actions')


@test('epoll/unseen-set')
def unseen_set():
    """Whatever is known of the set, no event."""
    no_event('unseen-set')


@test('epoll/{of}/proof-of-harm', of=['key-gone', 'duplicated', 'nested', 'child'])
def harm(of):
    done = victim('epoll', lib=False, of=of, rounds=ROUNDS, naive=1)
    check(sum(map(int, done.all('events'))) > 0, 'no phantom was noticed')


@test('epoll/{route}', route=['dup2', 'close_range', 'fclose', 'sys_close'])
def routes(route):
    equal(last_closes(no_event('modified', route=route)), {('shutdown', None)}, 'actions')
