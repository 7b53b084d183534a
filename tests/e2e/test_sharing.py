"""A socket that another process holds is cut by nobody, whoever closes first."""

from lib import all_can_be_looked_into, check, cookie, equal, test, victim

FORKS = ['fork', '_Fork', 'sys_clone', 'sys_clone3', 'clone', 'forkpty', 'inline-fork']
PROGRAMS = ['vfork-exec', 'posix_spawn', 'posix_spawn-dup2', 'popen', 'system', 'exec-stdio', 'exec-5']
IN_MEMORY = ['vfork', 'clone-vm']  # the child runs in the parent's memory
PASSES = ['sendmsg', 'sendmmsg', 'sys_sendmsg', 'sys_sendmmsg']
SHARED = ('shared', 'inherited', 'passed', 'duplicated')  # duplicated: the harness gives one socket as 0, 1 and 2


def lives(done):
    equal(done['alive'], 'yes', f'the connection of the other ({done.told()})')


def cut_by_nobody(done):
    """No close of the shared socket acted, and those that were told say why."""
    for finding in done.findings('close', cookie(done)):
        equal(finding['action'], 'none', f'action of {finding}')
        check(finding['reason'] in SHARED, f'reason of {finding}')


@test('sharing/{how}/parent-first/{route}', how=[h for h in FORKS if h != 'inline-fork'],
      route=['close', 'dup2', 'close_range', 'fclose', 'sys_close'])
def fork_parent_first(how, route):
    done = victim('share', how=how, first='parent', route=route)
    lives(done)
    cut_by_nobody(done)


@test('sharing/{how}/child-first/{route}', how=FORKS,
      route=['close', '__close', 'dup3', 'close_range', 'closefrom', 'freopen', 'sys_close', 'sys_close_range'])
def fork_child_first(how, route):
    done = victim('share', how=how, first='child', route=route)
    lives(done)
    cut_by_nobody(done)


@test('sharing/{how}/child-first/{route}', how=IN_MEMORY,
      route=['close', '__close', 'dup2', 'close_range', 'closefrom', 'sys_close', 'sys_close_range'])
def in_memory(how, route):
    lives(victim('share', how=how, first='child', route=route))


@test('sharing/{how}/{first}-first', how=PROGRAMS, first=['parent', 'child'])
def programs(how, first):
    done = victim('share', how=how, first=first)
    lives(done)
    cut_by_nobody(done)


@test('sharing/{how}/child-first/{route}', how=['exec-stdio', 'exec-5', 'posix_spawn'],
      route=['dup2', 'close_range', 'fclose', 'sys_close'])
def exec_routes(how, route):
    lives(victim('share', how=how, first='child', route=route))


@test('sharing/{how}/{first}-first/{by}', how=PASSES, first=['parent', 'child'],
      by=['recvmsg', 'recvmmsg', 'sys_recvmsg'])
def passed(how, first, by):
    done = victim('pass', how=how, first=first, by=by)
    lives(done)
    cut_by_nobody(done)


@test('sharing/in-flight/{how}', how=PASSES)
def in_flight(how):
    done = victim('in-flight', how=how)
    lives(done)
    closes = done.findings('close', cookie(done))
    check(closes and closes[0]['action'] == 'none' and closes[0]['reason'] == 'passed', f'closes: {closes}')


@test('sharing/proof-of-harm/{how}/{first}-first', how=['fork', 'posix_spawn'], first=['parent', 'child'])
def harm(how, first):
    """What a careless shim does to these: the tests above can fail."""
    done = victim('share', lib=False, how=how, first=first, naive=1)
    check(done['alive'] != 'yes', 'a careless shutdown was not noticed')


@test('sharing/in-flight/proof-of-harm')
def harm_in_flight():
    check(victim('in-flight', lib=False, naive=1)['alive'] != 'yes', 'a careless shutdown was not noticed')


@test('sharing/daemon')
def daemon():
    """Nobody but the daemon is left. Where every process can be looked into, that can be proven."""
    done = often_enough('daemon', hang=500)
    lives(done)
    if all_can_be_looked_into():
        equal(done['woken'], 'yes', f'thread of the daemon ({done.told()})')
    event, action = ('blocked-threads', 'shutdown') if done['woken'] == 'yes' else ('left-blocked', 'none')
    equal(done.one(event)['action'], action, 'action')


@test('sharing/thread-with-a-table-of-its-own/{how}/{first}-first', first=['main', 'thread'],
      how=['unshare', 'sys_unshare', 'close_range', 'sys_close_range'])
def parted(how, first):
    """unshare(CLONE_FILES), or close_range with CLOSE_RANGE_UNSHARE: two tables in one process."""
    if how.endswith('close_range') and first == 'main':
        return  # the thread has let go of it: nothing is left to look at
    done = victim('parted', how=how, first=first)
    lives(done)


@test('sharing/child-own/{how}', how=['fork', '_Fork', 'sys_clone', 'sys_clone3', 'inline-fork'])
def child_own(how):
    """What a child opens itself is its own, however it was forked."""
    done = victim('child-own', how=how)
    if how == 'inline-fork' and done['woken'] == 'no':
        return  # a child that no library saw being made may well leave everything alone
    equal(done['woken'], 'yes', f'woken ({done.told()})')


def often_enough(scenario, **parameters):
    """A proof may be given up while other processes come and go: within some tries it is made."""
    for _ in range(6):
        done = victim(scenario, **parameters)
        if done['woken'] == 'yes':
            break
    return done


@test('prove/alone/{holder}', holder=['exited', 'zombie', 'ran', 'closed', 'cloexec'])
def alone(holder):
    done = often_enough('prove', holder=holder, hang=500)
    equal(done['woken'], 'yes', f'woken ({done.told()})')
    finding = done.one('blocked-threads')
    equal(finding['action'], 'shutdown', 'action')
    equal([t['tid'] for t in finding['threads']], [int(done['tid'])], 'threads')
    done.none('left-blocked')


@test('prove/held/{holder}', holder=['child', 'grandchild', 'execed'])
def held(holder):
    done = victim('prove', holder=holder)
    equal(done['woken'], 'no', 'woken')
    lives(done)
    finding = done.one('left-blocked')
    equal((finding['action'], finding['reason']), ('none', 'shared'), 'action and reason')
    if holder == 'child':
        check(done['child'] in finding['text'], f'the text does not name process {done["child"]}: {finding["text"]}')
    done.none('blocked-threads')


@test('prove/held/mover')
def mover():
    """A child that moves its descriptor while it is looked for is a holder each time."""
    done = victim('prove', holder='mover', rounds=40)
    equal(set(done.all('woken')), {'no'}, 'woken')
    equal(set(done.all('alive')), {'yes'}, 'alive')
    equal(len(done.findings('left-blocked')), 40, f'left-blocked ({done.told()})')


@test('prove/passed/{state}', state=['in-flight', 'returned'])
def prove_passed(state):
    done = victim('prove-passed', state=state)
    equal(done['woken'], 'no', 'woken')
    if state == 'in-flight':
        lives(done)
    finding = done.one('left-blocked')
    equal((finding['action'], finding['reason']), ('none', 'passed'), 'action and reason')


@test('prove/in-child')
def in_child():
    """It is the child that closes, and the parent that holds: the parent is older than the child, and opened it.
    How the times of the two fall into the kernel's ticks differs from run to run."""
    for _ in range(25):
        done = victim('prove-in-child', hang=50)
        equal(done['woken'], 'no', f'woken ({done.told()})')
        lives(done)
        equal(done.one('left-blocked')['reason'], 'shared', 'reason')


@test('prove/inherited/held')
def inherited_held():
    done = victim('prove-inherited', held='yes', hang=200)
    equal(done['woken'], 'no', 'woken')
    lives(done)
    finding = done.one('left-blocked')
    check(finding['reason'] in ('shared', 'inherited'), f'reason: {finding["reason"]}')


@test('prove/inherited/alone')
def inherited_alone():
    """Whoever gave it to us may be anybody: only if all can be looked into is it proven that nobody has it."""
    done = often_enough('prove-inherited', held='no', hang=300)
    if all_can_be_looked_into():
        equal(done['woken'], 'yes', f'woken, as nobody else has it ({done.told()})')
        equal(done.one('blocked-threads')['action'], 'shutdown', 'action')
    else:
        equal(done['woken'], 'no', 'woken, though a process that cannot be looked into may have it')
        equal(done.one('left-blocked')['reason'], 'inherited', 'reason')
