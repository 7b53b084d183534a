"""preclose free: what hangs comes back within a second, and nothing else is touched."""

import ctypes
import os
import re
import subprocess
import time

import lib
from command import path, preclose, refused, script
from lib import check, equal, need_own_network, need_root, skip, test

# A program that hangs: threads in a call on a socket, which is then closed under them. It says which, and then, by a line for each,
# how its calls ended.
HANGS = r'''
import os, signal, socket, sys, threading, time
if sys.argv[3:] == ['deadly']:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
how, times = sys.argv[1], int(sys.argv[2])
def tell(how):  # by one write: print of several threads would mix their words
    os.write(1, f'ended {how}\n'.encode())
def call(s, name):
    try:
        got = s.accept() if name == 'accept' else s.recv(10) if name != 'send' else s.sendall(b'x' * 10**8)
        tell('data' if got else 'end')
    except OSError as error:
        tell(error.errno)
def blocked(tid, nr):
    while not open(f'/proc/self/task/{tid}/syscall').read().startswith(f'{nr} '):
        time.sleep(0.002)
numbers = {'x86_64': {'accept': 288, 'recv': 45, 'send': 44, 'udp': 45}, 'aarch64': {'accept': 242, 'recv': 207, 'send': 206, 'udp': 207}}
kept = []
for _ in range(times):
    if how == 'udp':
        on = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        on.bind(('127.0.0.1', 0))
    else:
        on = at = socket.create_server(('127.0.0.1', 0))
        if how != 'accept':
            client = socket.create_connection(at.getsockname())
            on = at.accept()[0]
            kept += [client, at]
    thread = threading.Thread(target=call, args=(on, how), daemon=True)
    thread.start()
    blocked(thread.native_id, numbers[os.uname().machine][how])
    number = on.fileno()
    if len(sys.argv) > 3 and sys.argv[3] == 'dup':
        kept.append(os.dup(number))
    if len(sys.argv) > 3 and sys.argv[3] == 'child':
        if not os.fork():
            time.sleep(1000)
    os.close(number)
    if len(sys.argv) > 3 and sys.argv[3] == 'reused':
        kept.append(os.open('/dev/null', os.O_RDONLY))
    kept.append(on)
    print('closed', number, thread.native_id, flush=True)
print('ready', flush=True)
time.sleep(1000)
'''


def let_all_be_seen():
    """Processes that this machine does not let even root look into (its first one, for one) can hold nothing of this test's own
    network namespace: here they are hidden, in a mount namespace of the test's own."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(0x00020000) or libc.mount(b'none', b'/', None, 0x44000, None):  # CLONE_NEWNS; MS_REC | MS_PRIVATE
        skip('no mount namespace of its own may be made here')
    os.makedirs(path('nothing'), exist_ok=True)
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            for number in os.listdir(f'/proc/{entry}/fd'):
                os.readlink(f'/proc/{entry}/fd/{number}')
        except PermissionError:
            if libc.mount(path('nothing').encode(), f'/proc/{entry}'.encode(), None, 0x1000, None):  # MS_BIND
                skip(f'process {entry} can be neither read nor hidden')
        except OSError:
            continue
    if os.readlink('/proc/self/ns/pid') != 'pid:[4026531836]':
        skip('this is not the first process namespace')


class Hanging:
    def __init__(self, how, times=1, more='', user=65534):
        os.chmod(lib.SCRATCH, 0o755)
        self.process = subprocess.Popen(['/usr/bin/python3', script('hangs.py', HANGS), how, str(times), more],
                                        stdout=subprocess.PIPE, text=True, user=user, group=user, extra_groups=[])
        self.closed = []
        for line in self.process.stdout:
            if line == 'ready\n':
                break
            self.closed.append(line.split()[1:])
        equal(len(self.closed), times, 'calls that hang')
        self.pid = str(self.process.pid)

    def ends(self, n):
        return [self.process.stdout.readline().split()[1] for _ in range(n)]


def freed(hanging, *options):
    """Frees, and tries again while a message of some other program on this machine holds a descriptor."""
    end = time.monotonic() + 20
    while True:
        before = time.monotonic()
        done = preclose('free', *options, hanging.pid, status=None)
        took = time.monotonic() - before
        if 'that no one has read' not in done.out and 'changed while' not in done.out or time.monotonic() > end:
            return done, took


@test('free/{how}', how=['accept', 'recv', 'send', 'udp'])
def free(how):
    need_root()
    need_own_network()
    let_all_be_seen()
    hanging = Hanging(how)
    number, tid = hanging.closed[0]
    dry, _ = freed(hanging, '-n')
    check(f'thread {tid} ' in dry.out and f'on descriptor {number}, which is closed' in dry.out and 'would be aborted' in dry.out, dry.out)
    equal(dry.returncode, 0, 'status of -n')
    done, took = freed(hanging)
    check(': aborted\n' in done.out and f'thread {tid} has come back' in done.out, done.out)
    equal((done.returncode, took < 2), (0, True), f'status, and time ({took:.1f} s)')
    check(hanging.ends(1)[0] in ('22', '103', 'end', '104', '9'), 'how the call ended')
    again, _ = freed(hanging)
    check('no threads are in a call' in again.out and again.returncode == 0, again.out)


@test('free/several')
def several():
    need_root()
    need_own_network()
    let_all_be_seen()
    hanging = Hanging('recv', 4)
    done, _ = freed(hanging)
    equal((done.out.count(': aborted\n'), done.out.count('has come back'), done.returncode), (4, 4, 0), done.out)
    hanging.ends(4)


@test('free/not/deadly')
def deadly():
    """Several that send: all but one would get SIGPIPE, which this program does not ignore."""
    need_root()
    need_own_network()
    let_all_be_seen()
    hanging = Hanging('send', 2, 'deadly')
    done, _ = freed(hanging)
    equal((done.out.count('SIGPIPE'), done.returncode, hanging.process.poll()), (2, 1, None), done.out)
    ignoring = Hanging('send', 2)
    hanging.process.kill()
    hanging.process.wait()
    done, _ = freed(ignoring)
    equal((done.out.count('has come back'), done.returncode, ignoring.process.poll()), (2, 0, None), done.out)


@test('free/reused')
def reused():
    """The number is another file by now."""
    need_root()
    need_own_network()
    let_all_be_seen()
    hanging = Hanging('accept', 1, 'reused')
    done, _ = freed(hanging)
    check('which is something else now' in done.out and 'has come back' in done.out, done.out)
    hanging.ends(1)


@test('free/not/{why}', why=['dup', 'child', 'root', 'rival'])
def not_touched(why):
    """What somebody may still hold, or the kernel may have made, or is another's, is shown at most."""
    need_root()
    need_own_network()
    let_all_be_seen()
    hanging = Hanging('recv', 1, why if why in ('dup', 'child') else '', user=0 if why == 'root' else 65534)
    rival = Hanging('recv') if why == 'rival' else None
    done, _ = freed(hanging)
    check(': aborted\n' not in done.out and ': interrupted' not in done.out, done.out)
    equal(done.returncode, 1, 'status')
    says = {'root': 'neither its user nor its cgroup', 'rival': 'a thread of another process'}
    if why in says and not (why == 'root' and os.path.exists('/proc/self/cgroup') and not open('/proc/self/cgroup').read().rstrip().endswith('::/')):
        check(says[why] in done.out, done.out)
    tid = hanging.closed[0][1]
    check(re.search(r'^45 |^207 ', open(f'/proc/{hanging.pid}/task/{tid}/syscall').read()), 'it is in its call no more')
    if rival:
        rival.process.kill()


@test('free/not/unseen')
def unseen():
    """Where some process can't be looked into, nothing is proven of a socket; but the descriptor of the call is closed."""
    need_root()
    need_own_network()
    if lib.all_can_be_looked_into():
        skip('every process can be looked into here')
    hanging = Hanging('accept')
    dry = preclose('free', '-n', hanging.pid, status=0)
    check('not touched' in dry.out and 'would be interrupted' in dry.out, dry.out)
    done = preclose('free', hanging.pid, status=0)
    check('not touched' in done.out and ': interrupted' in done.out and 'has come back' in done.out, done.out)
    equal(hanging.ends(1), ['9'], 'how the call ended')


@test('free/interrupt/rival')
def interrupt_rival():
    """Whose of two sockets is whose is not known; which call is whose is."""
    need_root()
    need_own_network()
    let_all_be_seen()
    hanging, rival = Hanging('accept'), Hanging('accept')
    done, _ = freed(hanging)
    check('a thread of another process' in done.out and ': interrupted' in done.out, done.out)
    equal((done.returncode, hanging.ends(1)), (0, ['9']), 'status, and how the call ended')
    tid = rival.closed[0][1]
    check(re.search(r'^(288|202|242) ', open(f'/proc/{rival.pid}/task/{tid}/syscall').read()), 'the other has come back too')
    rival.process.kill()


@test('free/interrupt/force')
def interrupt_force():
    """A duplicate may be what the call is meant to go on by: only whoever asks for it ends it."""
    need_root()
    need_own_network()
    hanging = Hanging('recv', 1, 'dup')
    done, _ = freed(hanging)
    check('another descriptor could be the same socket' in done.out and done.returncode == 1, done.out)
    done, _ = freed(hanging, '--force')
    check(': interrupted' in done.out and 'has come back' in done.out, done.out)
    equal((done.returncode, hanging.ends(1)), (0, ['9']), 'status, and how the call ended')


@test('free/refuse')
def refuse():
    refused('free', status=2, says=['preclose free [-n] PID'])
    refused('free', '1', '2', status=2, says=['preclose free [-n] PID'])
    refused('free', 'x', status=2, says=['preclose free [-n] PID'])
    refused('free', '4194304', status=2, says=['no process 4194304'])
    done = preclose('free', str(os.getpid()), status=0)
    check('no threads are in a call' in done.out, done.out)
