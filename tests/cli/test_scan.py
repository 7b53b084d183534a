"""preclose scan: connections in CLOSE_WAIT now, held against ss; ghosts, what is not accepted, monitoring."""

import json
import os
import re
import socket
import subprocess
import threading
import time

import lib
from command import for_others, preclose, refused
from lib import check, equal, need_own_network, program, test


def until(condition, what, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f'{what} did not come about')
        time.sleep(0.005)


def listener():
    made = socket.socket()
    made.bind(('127.0.0.1', 0))
    made.listen(64)
    return made


def states(port):
    """The states of the connections whose local port this is."""
    found = []
    with open('/proc/net/tcp') as table:
        for line in list(table)[1:]:
            fields = line.split()
            if int(fields[1].split(':')[1], 16) == port:
                found.append(int(fields[3], 16))
    return found


def left(at, sent=b''):
    """The server's side of a connection whose client has sent that and gone."""
    client = socket.create_connection(at.getsockname()[:2])
    server, _ = at.accept()
    client.sendall(sent)
    client.close()
    until(lambda: closed(server), 'CLOSE_WAIT')
    return server


def closed(server):
    return server.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1) == b'\x08'


def scan(*arguments, **options):
    return json.loads(preclose('scan', '--json', *arguments, **options).out)


def need_other_user():
    """A user that is nobody here, and may be become."""
    lib.need_root()
    with open('/proc/self/uid_map') as users:
        if not any(int(first) <= 65534 < int(first) + int(count) for first, _, count in map(str.split, users)):
            lib.skip('there are no other users here')


def name(address):
    return f'{address[0]}:{address[1]}'


@test('scan/nothing')
def nothing():
    done = preclose('scan', str(os.getpid()))
    check(done.out.startswith('no TCP connections in CLOSE_WAIT\n'), done.out)


@test('scan/held')
def held():
    need_own_network()
    at = listener()
    made = left(at)
    found = scan(str(os.getpid()))
    equal((found['count'], len(found['sockets'])), (1, 1), 'sockets')
    one = found['sockets'][0]
    equal((one['local'], one['peer'], one['state'], one['held']),
          (name(made.getsockname()), name(made.getpeername()), 'close-wait', 'held'), 'socket')
    equal(one['holders'], [{'pid': os.getpid(), 'comm': open('/proc/self/comm').read().strip(), 'fd': made.fileno()}],
          'holders')
    equal((one['unread'], one['all_read']), (0, False), 'unread')
    text = preclose('scan', str(os.getpid())).out
    for words in ('1 TCP connection in CLOSE_WAIT', f'pid {os.getpid()}', one['local'], one['peer'], 'its end was not read'):
        check(words in text, f'{words!r} is not in {text!r}')


@test('scan/unread')
def unread():
    need_own_network()
    at = listener()
    made = left(at, b'four')
    equal([(s['unread'], s['all_read']) for s in scan(str(os.getpid()))['sockets']], [(4, False)], 'before it is read')
    check('4 bytes unread' in preclose('scan', str(os.getpid())).out, 'text')
    equal(made.recv(2), b'fo', 'data')
    equal([(s['unread'], s['all_read']) for s in scan(str(os.getpid()))['sockets']], [(2, False)], 'half of it read')
    equal(made.recv(9) + made.recv(9), b'ur', 'the rest, and the end')
    equal([(s['unread'], s['all_read']) for s in scan(str(os.getpid()))['sockets']], [(0, True)], 'all was read')


@test('scan/age')
def age():
    """It is never older than it can be, and --older leaves out what is younger."""
    need_own_network()
    at = listener()
    before = time.monotonic()
    made = left(at)
    until(lambda: scan(str(os.getpid()), '--older=300ms')['count'] == 1, 'an age of 300 ms')
    found = scan(str(os.getpid()))['sockets'][0]['close_wait_ms']
    check(300 <= found <= (time.monotonic() - before) * 1000 + 20, f'{found} ms')
    equal(scan(str(os.getpid()), '--older=1h')['count'], 0, 'older than an hour')
    made.close()


@test('scan/against-ss', deadline=120)
def against_ss():
    need_own_network()
    at, kept = listener(), []
    for i in range(150):
        kept.append(left(at, b'x' * (i % 3)))
    kept += [socket.create_connection(at.getsockname()) for _ in range(5)]
    out = subprocess.run([program('ss'), '-tneH', 'state', 'close-wait'], capture_output=True, text=True, check=True).stdout
    cookies = {int(c, 16) for c in re.findall(r'sk:([0-9a-f]+)', out)}
    found = scan(str(os.getpid()))
    equal({s['cookie'] for s in found['sockets']}, cookies, 'cookies')
    equal(found['count'], 150, 'count')
    text = preclose('scan', str(os.getpid())).out
    check('... and 140 more (--all)' in text, text)
    text = preclose('scan', '--all', str(os.getpid())).out
    check(text.count('close-wait') == 150, text)


@test('scan/ipv6')
def ipv6():
    need_own_network()
    try:
        at = socket.create_server(('::1', 0), family=socket.AF_INET6)
    except OSError as error:
        lib.skip(f'no IPv6 here: {error}')
    made = left(at)
    one = scan(str(os.getpid()))['sockets'][0]
    equal((one['type'], one['local']), ('tcp6', f'[::1]:{made.getsockname()[1]}'), 'socket')


@test('scan/shared-with-a-child')
def shared():
    need_own_network()
    at = listener()
    made = left(at)
    ours, theirs = os.pipe()
    child = os.fork()
    if not child:
        os.close(theirs)
        os.read(ours, 1)
        os._exit(0)
    one = scan(str(os.getpid()))['sockets'][0]
    equal({h['pid'] for h in one['holders']}, {os.getpid(), child}, 'holders')
    text = preclose('scan', str(os.getpid())).out
    check('held by 1 other process too' in text, text)
    check(f'all of them held by pid {os.getpid()} too' in text, text)
    os.close(theirs)
    os.waitpid(child, 0)
    made.close()


@test('scan/not-accepted')
def not_accepted():
    """Clients that have given up at a server that does not accept."""
    need_own_network()
    at = listener()
    for _ in range(3):
        socket.create_connection(at.getsockname()).close()
    until(lambda: states(at.getsockname()[1]).count(8) == 3, 'CLOSE_WAIT')
    found = scan(str(os.getpid()))
    equal([(s['held'], s['listener'][0]['pid'], s['listener'][0]['fd']) for s in found['sockets']],
          [('not-accepted', os.getpid(), at.fileno())] * 3, 'sockets')
    check('3 that have not been accepted' in preclose('scan', str(os.getpid())).out, 'text')


@test('scan/ghost/{call}', call=['accept', 'recv'])
def ghost(call):
    need_own_network()
    lib.need_root()
    at = listener()
    client = socket.create_connection(at.getsockname())
    server = at.accept()[0]
    on = at if call == 'accept' else server
    port, number = at.getsockname()[1], on.fileno()
    thread = threading.Thread(target=on.accept if call == 'accept' else lambda: on.recv(1), daemon=True)
    thread.start()
    nr = {'x86_64': {'accept': 288, 'recv': 45}, 'aarch64': {'accept': 242, 'recv': 207}}[os.uname().machine][call]
    until(lambda: open(f'/proc/self/task/{thread.native_id}/syscall').read().startswith(f'{nr} 0x{number:x} '), 'blocked')
    os.close(number)
    found = [g for g in scan()['ghosts'] if g['local'].endswith(f':{port}')]
    equal(len(found), 1, 'ghosts')
    check(found[0]['held'] in ('ghost', 'likely-ghost'), found[0]['held'])
    equal(found[0]['state'], 'listen' if call == 'accept' else 'established', 'state')
    mine = [(c['pid'], c['tid'], c['fd'], c['closed']) for c in found[0]['candidates']]
    check((os.getpid(), thread.native_id, number, True) in mine, f'candidates {mine}')
    text = preclose('scan').out
    check(re.search(rf'127\.0\.0\.1:{port}.*\n +could be of\n(.*\n)*? +.*pid {os.getpid()}: thread {thread.native_id} is in '
                    rf'\w+ on descriptor {number}, which is closed', text), text)
    client.close()


@test('scan/no-ghost')
def no_ghost():
    """Sockets that have descriptors, that were closed in the right way, or never accepted, are no ghosts."""
    need_own_network()
    at = listener()
    kept = [left(at), socket.create_connection(at.getsockname())]
    at.accept()[0].close()
    ports = {at.getsockname()[1], kept[1].getsockname()[1]}
    ghosts = [g for g in scan()['ghosts'] if int(g['local'].rpartition(':')[2]) in ports]
    equal(ghosts, [], 'ghosts')


@test('scan/state')
def state():
    need_own_network()
    at = listener()
    client = socket.create_connection(at.getsockname())
    server = at.accept()[0]
    port = at.getsockname()[1]
    for asked, count in (('listen', 1), ('LISTEN,ESTABLISHED', 3), ('established', 2), ('all', 3), ('close_wait', 0)):
        equal(scan('--state', asked, str(os.getpid()))['count'], count, asked)
    refused('scan', '--state=half-open', status=2, says=['half-open', 'close-wait'])
    text = preclose('scan', '-s', 'listen', str(os.getpid())).out
    check(f'127.0.0.1:{port}' in text and '0 waiting' in text, text)
    client.close()
    server.close()


@test('scan/plugin')
def plugin():
    need_own_network()
    at, kept, me = listener(), [], str(os.getpid())
    for count, status, word in ((0, 0, 'OK'), (1, 0, 'OK'), (2, 1, 'WARNING'), (4, 2, 'CRITICAL')):
        while len(kept) < count:
            kept.append(left(at))
        done = preclose('scan', '--warn=1', '--crit=3', me, status=status)
        check(re.fullmatch(rf'CLOSE_WAIT {word} - {count} connections? in CLOSE_WAIT(: .* {count})? '
                           rf'\| connections={count};1;3;0\n', done.out), done.out)
    equal(preclose('scan', '-w', '3', me, status=1).out.split(' ')[1], 'WARNING', 'only --warn')
    for bad in (['--warn=x'], ['--warn'], ['-c', '-1'], ['--crit=1', '--nonsense'], ['--crit=1', '999999999']):
        check(preclose('scan', *bad, status=3).err.startswith('preclose: '), bad)


@test('scan/refuse')
def refuse():
    refused('scan', 'x', status=2, says=['x', 'process id'])
    refused('scan', '0', status=2, says=['process id'])
    refused('scan', '4194304', status=2, says=['no process'])
    refused('scan', '--older=5', status=2, says=['duration'])


@test('scan/as-another-user')
def as_nobody():
    """Who may not look says so, and claims nothing."""
    need_other_user()
    need_own_network()
    binary = for_others()
    at = listener()
    made = left(at)
    done = preclose('scan', binary=binary, user=65534, group=65534, extra_groups=[])
    check('run it as root' in done.out and 'held by nobody that can be seen' in done.out, done.out)
    check(name(made.getpeername()) in done.out, done.out)
    equal([g for g in scan(binary=binary, user=65534, group=65534, extra_groups=[])['ghosts'] if g['held'] == 'ghost'], [],
          'ghosts')


@test('scan/other-network-namespace')
def other_net():
    lib.need_root()
    need_own_network()
    at = listener()
    made = left(at)
    inside = scan(str(os.getpid()))
    outside = subprocess.run([program('nsenter'), '-t', '1', '-n', 'true'], check=False, capture_output=True)
    if outside.returncode:
        child = subprocess.Popen(['/usr/bin/unshare', '-n', os.path.join(os.path.dirname(lib.LIB), 'preclose'), 'scan', '--json',
                                  str(os.getpid())], stdout=subprocess.PIPE)
        seen = json.loads(child.communicate()[0])
        equal({s['cookie'] for s in seen['sockets']}, {s['cookie'] for s in inside['sockets']}, 'seen from another namespace')
    made.close()
