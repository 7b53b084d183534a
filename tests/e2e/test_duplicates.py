"""Several descriptors of one socket: the last one lets go, in whatever order they are closed."""

import os

from lib import check, equal, test, victim

HOWS = ['dup', 'dup2', 'dup3', 'F_DUPFD', 'F_DUPFD_CLOEXEC', 'sys_dup', 'sys_dup3', 'sys_fcntl']
if os.uname().machine == 'x86_64':
    HOWS.append('sys_dup2')
ORDERS = ['012', '021', '102', '120', '201', '210']
ROUTES = ['close', 'dup2', 'close_range', 'fclose', 'sys_close']


@test('duplicates/{how}/{route}', how=HOWS, route=ROUTES)
def duplicates(how, route):
    done = victim('duplicates', how=how, route=route)
    for order in ORDERS:
        equal(done[f'order {order}'], 'yes+blocked yes+blocked +woken', f'order {order} ({done.told()})')
    done.none('left-blocked', 'double-close')


@test('duplicates/reasons')
def reasons():
    """The closes that are not the last say so."""
    done = victim('duplicates', how='dup')
    by_socket = {}
    for finding in done.findings('close'):
        by_socket.setdefault(finding['cookie'], []).append((finding['action'], finding.get('reason')))
    wanted = [('none', 'duplicated'), ('none', 'duplicated'), ('shutdown', None)]
    equal(sum(closes == wanted for closes in by_socket.values()), len(ORDERS), f'sockets closed so: {by_socket}')


@test('duplicates/one-marker-behind-many')
def marker():
    done = victim('marker')
    for i in range(3):
        equal(done[f'woken{i}'], 'yes', f'woken {i}')
    equal(done['marker open'], 'yes', 'marker')


@test('duplicates/dup2-onto-another-socket')
def dup2_onto_socket():
    done = victim('dup2-onto-socket')
    equal(done['lost woken'], 'yes', 'thread on what dup2 let go of')
    equal(done['kept passes'], 'yes', 'the duplicated connection')
    equal(done['kept woken early'], 'no', 'thread on the duplicated one, before its last close')
    equal(done['kept woken'], 'yes', 'thread on the duplicated one, after its last close')


@test('duplicates/stale/{route}', route=['close', 'dup2', 'close_range', 'fclose', 'sys_close'])
def stale(route):
    """A number that came to stand for another connection, unseen: its record is not that connection's."""
    done = victim('stale', route=route)
    equal((done['same'], done['alive']), ('yes', 'yes'), f'number and connection ({done.told()})')


@test('duplicates/storm')
def storm():
    """Numbers that go from thread to thread: no close cuts what another thread has just opened."""
    done = victim('storm', threads=4, n=3000, settings={'LEVEL': 'warning'})
    equal((done['rounds'], done['cut']), ('12000', '0'), 'rounds and connections cut')
    done.none('left-blocked', 'unread-reset', 'blocked-threads')


@test('duplicates/hangs-without')
def hangs_without():
    done = victim('duplicates', lib=False, how='dup', hang=100)
    check(all(done[f'order {o}'].endswith('+blocked') for o in ORDERS), 'woken without the library')
