"""The settings that cure: drain, the socket options, SIGPIPE, the exit status; and slow-close and address-in-use."""

import re
import subprocess

import lib
from lib import ROUTES, check, cookie, equal, in_time, need_own_network, test, victim

DRAIN = {'UNREAD': 'drain'}


def number(done, key):
    return int(done[key])


def drained(done):
    """What the text says was drained: bytes and milliseconds."""
    text = done.one('unread-reset', cookie(done))['text']
    match = re.search(r'drained (\d+) bytes? in (\d+) ms', text)
    check(match, f'the text does not say what was drained: {text}')
    return int(match[1]), int(match[2])


@test('cures/drain/big-answer/{setting}', setting=['without', 'shutdown', 'reset', 'drain'])
def big_answer(setting):
    """Megabytes of answer that a close with 3 bytes unread loses arrive whole."""
    done = victim('drain', lib=setting != 'without', settings={'UNREAD': setting}, unread=3, big=1, peer='after')
    sent, got = number(done, 'sent'), number(done, 'bytes')
    check(sent > 1000000, f'only {sent} bytes went out')
    if setting == 'drain':
        equal((got, done['end']), (sent, 'eof'), 'the peer got')
    else:
        equal(done['end'], 'reset', f'the peer saw ({got} of {sent} bytes)')
        check(got < sent, 'all of it arrived')


@test('cures/drain/{family}/{route}', family=['tcp-accepted', 'tcp-connected', 'unix-stream'], route=ROUTES)
def drain_route(family, route):
    if family == 'tcp-accepted' and route == 'closefrom':
        family = 'tcp-connected'  # the listener is closed with it
    done = victim('drain', settings=DRAIN, family=family, route=route, unread=3)
    equal((done['end'], number(done, 'bytes')), ('eof', 6), 'the peer got')
    equal(done['errno'], 'kept', 'errno')
    in_time(number(done, 'took'), 900)  # the peer was quick
    finding = done.one('unread-reset', cookie(done))
    equal((finding['action'], finding['unread'], finding['level']), ('drain', 3, 'warning'), 'action, unread, level')
    equal(drained(done)[0], 3, 'bytes drained')
    check('the peer had finished' in finding['text'], f'text: {finding["text"]}')
    equal(done.one('close', cookie(done))['action'], 'drain', 'action of close')
    equal(number(done, 'sockets'), int(family == 'tcp-accepted'), 'sockets left')


@test('cures/drain/silent-peer/{ms}', ms=[0, 250])
def drain_deadline(ms):
    """A peer that does nothing is waited for as long as the setting says, and no longer."""
    done = victim('drain', settings={'UNREAD': f'drain:{ms}'}, unread=3, peer='silent')
    took = number(done, 'took')
    check(took >= ms, f'took {took} ms')
    in_time(took, ms + 200)
    equal(done['end'], 'eof', 'the peer saw')
    finding = done.one('unread-reset', cookie(done))
    check('had not finished' in finding['text'], f'text: {finding["text"]}')
    equal(finding['action'], 'drain', 'action')
    if ms:
        check(ms <= finding['blocked_ms'] <= took, f'blocked_ms {finding["blocked_ms"]}')


@test('cures/drain/default-deadline')
def drain_default():
    took = number(victim('drain', settings=DRAIN, unread=3, peer='silent'), 'took')
    check(took >= 1000, f'took {took} ms')
    in_time(took, 1300)


@test('cures/drain/nonblocking')
def drain_nonblocking():
    """An event loop is not held longer than the deadline, and not at all where nothing is unread."""
    done = victim('drain', settings={'UNREAD': 'drain:200'}, unread=3, peer='silent', nonblock=1)
    check(number(done, 'took') >= 200, f'took {done["took"]} ms')
    in_time(number(done, 'took'), 400)
    done = victim('drain', settings=DRAIN, request=1, peer='silent', nonblock=1)
    in_time(number(done, 'took'), 90, 'with nothing unread')
    equal(done.one('close', cookie(done))['action'], 'shutdown', 'action')


@test('cures/drain/peer-goes-on')
def drain_more():
    """What comes after the deadline is answered by a reset, as the text says."""
    done = victim('drain', settings={'UNREAD': 'drain:50'}, unread=3, peer='more')
    check('reset' in done.one('unread-reset')['text'], 'text')
    if lib.OWN_NETWORK:
        check(number(done, 'resets') > 0, 'no reset')


@test('cures/drain/flood')
def drain_flood():
    """A peer that sends without end does not hold the close: neither time nor bytes."""
    done = victim('drain', settings={'UNREAD': 'drain:2000'}, peer='flood')
    in_time(number(done, 'took'), 2300)
    equal(done['end'], 'reset', 'the peer saw')
    check(3 < drained(done)[0] <= 64 << 20, f'drained {drained(done)}')
    check('still sending' in done.one('unread-reset')['text'], 'text')


@test('cures/drain/late/{setting}', setting=['drain', 'shutdown'])
def drain_late(setting):
    """A peer in the middle of its request: the answer is there, what it sends comes behind our close."""
    done = victim('drain', settings={'UNREAD': setting}, request=1, peer='late')
    equal(done['end'], 'eof' if setting == 'drain' else 'reset', 'the peer saw')
    if setting == 'drain':
        finding = done.one('unread-reset', cookie(done))
        equal((finding['action'], finding['unread'], drained(done)[0]), ('drain', 0, 1000), 'action, unread and drained')
        check('while the peer was still sending' in finding['text'], f'text: {finding["text"]}')
    else:
        done.none('unread-reset')


@test('cures/drain/nothing-unread/{request}', request=[0, 1])
def drain_nothing(request):
    """Nothing unread and nothing under way: a close as ever, but for a short wait where it has just answered."""
    done = victim('drain', settings=DRAIN, request=request, peer='silent')
    took = number(done, 'took')
    check(took >= 100 or not request, f'took {took} ms')
    in_time(took, 400 if request else 90)
    equal(done.one('close', cookie(done))['action'], 'shutdown', 'action')
    done.none('unread-reset')


@test('cures/drain/never/{what}', what=['duplicated', 'forked', 'udp', 'listener', 'shut', 'rd', 'linger-0'])
def drain_never(what):
    """Nothing is read from a socket that another holds, or whose end the program has chosen."""
    done = victim('state', settings=DRAIN, **{
        'duplicated': {'holder': 'duplicated'}, 'forked': {'holder': 'forked'}, 'udp': {'family': 'udp'},
        'listener': {'family': 'listener', 'backlog': 2}, 'shut': {'ours': 'shut'}, 'rd': {'ours': 'rd'},
        'linger-0': {'linger': 0}}[what] | ({} if what == 'listener' else {'unread': 3}))
    first = int(re.search(r'cookie=(\d+)', done.out)[1])
    for finding in done.findings('close', first)[:1]:
        check(finding['action'] != 'drain', f'drained: {finding}')
    if what in ('duplicated', 'forked'):
        equal(re.search(r'unread=(\d+)', done.out.splitlines()[-2 if what == 'forked' else 1])[1], '3', 'unread still')


@test('cures/drain/blocked-sender/{row}', row=['tcp-send', 'unix-stream-send'])
def drain_sender(row):
    """A thread that sends is woken by the SHUT_WR with which a drain begins."""
    done = victim('wake', row=row, unread=6, settings={'UNREAD': 'drain:100'})
    equal(done['woken'], 'yes', f'woken ({done.told()})')
    equal(done.one('unread-reset')['action'], 'drain', 'action')
    equal(done.one('blocked-threads')['action'], 'drain', 'action')


@test('cures/drain/a-thread-that-runs')
def drain_quietly():
    """A thread that runs may be sending, and SIGPIPE would end the process: nothing is shut down, and all arrives."""
    done = victim('drain', settings=DRAIN, unread=3, big=1, spin=1, peer='after')
    equal((number(done, 'bytes'), done['end']), (number(done, 'sent'), 'eof'), 'the peer got')
    finding = done.one('unread-reset', cookie(done))
    equal(finding['action'], 'drain', 'action')
    check('until all that was sent had arrived' in finding['text'] or 'the peer had finished' in finding['text'],
          f'text: {finding["text"]}')


@test('cures/drain/blocked-receiver')
def drain_receiver():
    """A thread that waits for more than has come is woken at once: that comes first."""
    done = victim('drain', settings=DRAIN, unread=3, lowat=100, peer='silent')
    equal(done['woken'], 'yes', 'woken')
    in_time(number(done, 'took'), 500)
    equal(done.one('blocked-threads', cookie(done))['action'], 'shutdown', 'action')


@test('cures/drain/no-descriptor-left')
def drain_limit():
    done = victim('drain', settings=DRAIN, unread=3, limit=1, peer='silent')
    equal(done.one('unread-reset', cookie(done))['action'], 'shutdown', 'action')


@test('cures/drain/linger')
def drain_linger():
    """A close that lingers waits until all has arrived, also behind a drain."""
    done = victim('drain', settings=DRAIN, unread=3, big=1, linger=5, peer='after')
    equal((number(done, 'bytes'), done['end']), (number(done, 'sent'), 'eof'), 'the peer got')
    equal(done.one('unread-reset', cookie(done))['action'], 'drain', 'action')


@test('cures/drain/range/{route}', route=['close_range', 'closefrom'])
def drain_range(route):
    """Several in one call have one deadline between them."""
    done = victim('drain-many', settings={'UNREAD': 'drain:300'}, route=route, n=4)
    check(number(done, 'took') >= 300, f'took {done["took"]} ms')
    in_time(number(done, 'took'), 600)
    equal([f['action'] for f in done.findings('unread-reset')], ['drain'] * 4, 'actions')


@test('cures/drain/handler/{how}', how=['run', 'jump', 'fork'])
def drain_handler(how):
    """Handlers run while a connection is drained; they may jump out of it or fork."""
    done = victim('drain-handler', settings={'UNREAD': 'drain:400'}, how=how)
    took = number(done, 'took')
    equal(done['open'], 'no', 'the descriptor is open')
    if how == 'jump':
        equal(done['jumped'], 'yes', 'jumped out')
        in_time(took, 300)
    else:
        check(took >= 400, f'took {took} ms')
        in_time(took, 700)
        check(number(done, 'handled') >= 5, f'only {done["handled"]} handlers ran')
        equal(done.one('unread-reset', cookie(done))['action'], 'drain', 'action')
        equal((done['ret'], done['errno']), ('0', 'kept'), 'result of the close')
    done.one('close', cookie(done, 'next cookie'))  # all goes on


@test('cures/drain/signal-that-ends')
def drain_die():
    done = victim('drain-handler', settings={'UNREAD': 'drain:20000'}, how='die', status=-14, timeout=10)
    equal(done.findings('unread-reset'), [], 'findings')


@test('cures/drain/fork-in-another-thread')
def drain_fork():
    """A child that is forked meanwhile holds nothing of the connection."""
    need_own_network()
    done = victim('drain-fork', settings={'UNREAD': 'drain:500'})
    equal(number(done, 'child has'), 0, 'sockets in the child')
    equal(done.one('unread-reset', cookie(done))['action'], 'drain', 'action')


@test('cures/drain/meanwhile/{how}', how=['close_range', 'closefrom', 'loop', 'cancel'])
def drain_meanwhile(how):
    """Another thread sweeps over all descriptors: the one that is drained on is not the program's."""
    done = victim('drain-meanwhile', settings={'UNREAD': 'drain:300'}, how=how)
    equal((done['draining'], done['closed']), ('yes', '0'), 'draining, and closed beside what is the program\'s')
    finding = done.one('unread-reset', cookie(done))
    equal(finding['action'], 'drain', 'action')
    says = 'had not finished' if how == 'cancel' else 'the peer had finished'  # it ends with the pipe to it
    check(says in finding['text'], f'text: {finding["text"]}')
    done.one('close', cookie(done, 'next cookie'))


@test('cures/drain/meanwhile/cancel-async')
def drain_cancelled():
    done = victim('drain-meanwhile', settings={'UNREAD': 'drain:20000'}, how='cancel-async', timeout=10)
    done.one('close', cookie(done, 'next cookie'))


@test('cures/drain/meanwhile/sandbox')
def drain_sandbox():
    """A process that enters a sandbox meanwhile is left alone from then on."""
    done = victim('drain-meanwhile', settings={'UNREAD': 'drain:20000'}, how='sandbox', timeout=10)
    equal(done['survived'], 'yes', 'survived')
    done.none('unread-reset')


@test('cures/slow-close/{route}', route=ROUTES)
def slow(route):
    family = 'tcp-connected' if route == 'closefrom' else 'tcp-accepted'
    done = victim('slow', family=family, route=route, linger=1)
    took = number(done, 'took')
    check(took >= 900, f'the close took only {took} ms')
    finding = done.one('slow-close', cookie(done))
    equal((finding['level'], finding['unsent'], finding['fd']),
          ('warning', number(done, 'unsent'), number(done, 'fd')), 'level, unsent and fd')
    check(900 <= finding['blocked_ms'] <= took, f'blocked_ms {finding["blocked_ms"]} of {took}')
    check(finding['local'] and finding['peer'] and finding['closed']['at'], 'where')
    check(str(finding['unsent']) in finding['text'] and 'SO_LINGER with 1 s' in finding['text'], finding['text'])


@test('cures/slow-close/not/{why}', why=['threshold', 'off', 'quick', 'no-linger'])
def not_slow(why):
    settings = {'threshold': {'SLOW_CLOSE': '5s'}, 'off': {'SLOW_CLOSE': '0'}}.get(why)
    done = victim('slow', settings=settings, linger=-1 if why == 'no-linger' else 1, unsent=int(why != 'quick'))
    done.none('slow-close')


@test('cures/address-in-use/{what}/{by}', what=['time-wait', 'listener', 'connection', 'bound', 'any6'],
      by=['libc', 'syscall'])
def in_use(what, by):
    need_own_network()
    done = victim('bind', what=what, by=by)
    equal(done['bind'], '-1,EADDRINUSE', 'bind')
    finding = done.one('address-in-use', cookie(done))
    equal((finding['level'], finding['fd'], finding['type']), ('notice', number(done, 'fd'), 'tcp'), 'level, fd, type')
    check(re.fullmatch(r'127\.0\.0\.1:\d+', finding['local']), f'local {finding["local"]}')
    says = {'time-wait': r'only 1 connection in TIME_WAIT stands in the way',
            'listener': rf'a listener on 127.*\(fd {done["holder"]} of this process\)',
            'connection': r'a connection 127.* -> 127.*\(fd \d+ of this process\)',
            'bound': rf'bound and does not listen, 127.*\(fd {done["holder"]} of this process\)',
            'any6': rf'a listener on \[::\]:\d+ \(fd {done["holder"]} of this process\)'}
    if what == 'bound' and 'cannot be seen' in finding['text']:
        lib.skip('this kernel does not show sockets that are bound and do not listen (Linux 6.8)')
    check(re.search(says[what], finding['text']), f'text: {finding["text"]}')


@test('cures/address-in-use/time-wait-and-reuse')
def in_use_reuse():
    """SO_REUSEADDR on one side only does not help, and the text says so."""
    need_own_network()
    done = victim('bind', what='time-wait', reuse=1)
    equal(done['bind'], '-1,EADDRINUSE', 'bind')
    check('SO_REUSEADDR is on here' in done.one('address-in-use')['text'], 'text')


@test('cures/address-in-use/another-user')
def in_use_other():
    need_own_network()
    lib.need_root()
    script = ('import os,socket\nl=socket.socket();l.bind(("127.0.0.1",0));l.listen()\nn=l.getsockname()\n'
              'r,w=os.pipe()\nq,v=os.pipe()\nif os.fork()==0:\n os.close(v);os.setuid(4321)\n'
              ' m=socket.socket();m.bind(("127.0.0.1",0));m.listen()\n'
              ' os.write(w,str(m.getsockname()[1]).encode());os.read(q,1);os._exit(0)\n'
              's=socket.socket()\ntry: s.bind(("127.0.0.1",int(os.read(r,9))))\nexcept OSError as e: print(f"error={e.errno}")\n')
    done = lib.run(['/usr/bin/python3', '-c', script])
    equal(done['error'], '98', 'errno')
    check('(of another user, uid 4321)' in done.one('address-in-use')['text'], done.one('address-in-use')['text'])


@test('cures/address-in-use/not/{what}', what=['nothing', 'unix'])
def not_in_use(what):
    done = victim('bind', what=what)
    equal(done['bind'], '0,kept' if what == 'nothing' else '-1,EADDRINUSE', 'bind')
    done.none('address-in-use')


@test('cures/address-in-use/counted-if-not-written')
def in_use_counted():
    done = victim('bind', settings={'LEVEL': 'warning', 'REPORT': 'always'})
    done.none('address-in-use')
    equal(done.one('summary')['counts'].get('address-in-use'), 1, 'count')


@test('cures/reuseaddr/{what}', what=['time-wait', 'connection', 'listener'])
def reuse(what):
    need_own_network()
    equal(victim('bind', what=what, lib=False)['bind'], '-1,EADDRINUSE', 'bind without')
    equal(victim('bind', what=what)['bind'], '-1,EADDRINUSE', 'bind with, but off')
    done = victim('bind', what=what, settings={'REUSEADDR': '1'})
    # The first socket was bound to any port, where nothing is set: TIME_WAIT of it counts still.
    equal(done['bind'], '-1,EADDRINUSE', 'bind where the first was not set')


OFF = 'keepalive:0,7200,75,9 timeout:0 reuse:0'


@test('cures/options/{by}', by=['libc', 'syscall'])
def options(by):
    need_own_network()
    done = victim('options', by=by)
    for of in ('client', 'nonblocking', 'accepted', 'accepted4', 'listener', 'any port'):
        equal(done[of], OFF, f'{of}, nothing asked for')
    done = victim('options', by=by, port=12346, settings={'KEEPALIVE': '60,10,5', 'RECV_TIMEOUT': '1500ms', 'REUSEADDR': '1'})
    on = 'keepalive:1,60,10,5 timeout:1500 reuse:'
    equal(done['client'], on + '0', 'a client')
    equal(done['nonblocking'], on + '0', 'a non-blocking client')
    equal(done['accepted'], on + '1', 'an accepted connection, whose listener is bound to a port')
    equal(done['accepted4'], on + '1', 'an accepted connection')
    equal(done['own'], 'keepalive:1,77,10,5 timeout:9000 reuse:0', 'a client that has set some itself')
    equal(done['listener'], OFF.replace('reuse:0', 'reuse:1'), 'the listener')
    equal(done['any port'], OFF, 'a socket bound to any port')
    for of in ('unix', 'unix accepted', 'udp'):
        check('timeout:0' in done[of] and 'keepalive:0' in done[of], f'{of}: {done[of]}')
    equal(done.all('connect'), ['0,kept'] * 2 + ['-1,EINPROGRESS', '0,kept'], 'results of connect')
    equal(done.err, '', 'stderr')


@test('cures/recv-timeout')
def recv_timeout():
    need_own_network()
    done = victim('options', wait=1, settings={'RECV_TIMEOUT': '300ms'})
    equal(done['recv'], '-1,EAGAIN', 'recv')
    check(number(done, 'waited') >= 250, f'waited {done["waited"]} ms')
    in_time(number(done, 'waited'), 2000, 'waited')


@test('cures/sigpipe/{setting}', setting=['default', 'ignore'])
def sigpipe(setting):
    ignored = setting == 'ignore'
    done = victim('sigpipe', settings={'SIGPIPE': setting}, status=0 if ignored else -13)
    equal(done['handler'], setting, 'disposition')
    if ignored:
        equal(done['write'], '-1,EPIPE', 'write')


@test('cures/sigpipe/the-program-decides')
def sigpipe_own():
    victim('sigpipe', settings={'SIGPIPE': 'ignore'}, own=1, status=-13)


@test('cures/exit-code/{how}', how=['return', 'exit', '_exit', '_Exit', 'quick_exit', 'syscall', 'pthread_exit'])
def exit_code(how):
    settings = {'EXIT_CODE': '99'}
    victim('leave', settings=settings, how=how, status=99)
    victim('leave', settings=settings, how=how, warn=0, status=0)
    victim('leave', how=how, status=0)
    victim('leave', settings=settings | {'LEVEL': 'warning', 'LOG': 'none'}, how=how, status=99)


def leave(wanted, settings=None, **parameters):
    """Runs the scenario, whose parameter `status` is not the status that is wanted."""
    argv = [f'{lib.BIN}/victim', 'leave'] + [f'{k}={v}' for k, v in parameters.items()]
    done = lib.run(argv, settings={'EXIT_CODE': '99'} | (settings or {}))
    equal(done.status, wanted, f'status of {parameters}')
    return done


@test('cures/exit-code/own-status-counts/{how}', how=['exit', '_exit', '_Exit', 'quick_exit', 'syscall'])
def exit_own(how):
    leave(3, how=how, status=3)
    leave(99, how=how, status=256)  # what a parent sees of it is 0


@test('cures/exit-code/killed')
def exit_killed():
    leave(-15, how='kill')


@test('cures/exit-code/child/{how}', how=['fork', 'vfork'])
def exit_child(how):
    """A child's status is about its own findings; one in its parent's memory has none."""
    equal(leave(99, how=how)['child'], '0', 'status of a child without a warning')
    if how == 'fork':
        equal(leave(99, how=how, child=1)['child'], '99', 'status of a child with one')
        equal(leave(0, how=how, child=1, warn=0)['child'], '99', 'status of a child with one')


@test('cures/exit-code/held-back')
def exit_held():
    done = lib.victim('repeat', settings={'EXIT_CODE': '9', 'LEVEL': 'warning', 'RATE': '1'}, first=2, status=9)
    equal(len(done.findings('unread-reset')), 1, 'lines')


@test('cures/exit-code/output-is-whole')
def exit_output():
    """What handlers and destructors print comes out, in its order, and input not read is left for the next."""
    script = f'({lib.BIN}/victim leave stdio=1 destructor=1; echo "status=$?"; cat) < {lib.SCRATCH}/input'
    with open(f'{lib.SCRATCH}/input', 'w') as file:
        file.write('word\nthe rest\n')
    outputs = []
    for settings in ({}, {'EXIT_CODE': '9'}):
        env = lib.environment(True, {'LOG': 'none'} | settings)
        outputs.append(subprocess.run(['/bin/sh', '-c', script], env=env, capture_output=True, text=True, check=False).stdout)
    equal(outputs[1], outputs[0].replace('status=0', 'status=9'), 'output')
    check('read=word atexit destructor ' in outputs[1] and 'status=9' in outputs[1], f'output: {outputs[1]!r}')
