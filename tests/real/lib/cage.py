"""cage.py SECONDS COMMAND...: COMMAND with a deadline, in a network of its own (loopback only) where the kernel allows it.

Whatever it started, daemons included, is gone when this ends: orphans become children of this process, PR_SET_CHILD_SUBREAPER
in prctl(2).  Exits with COMMAND's status, 124 if the deadline passed."""
import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import time

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
CLONE_NEWNET = 0x40000000
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
libc = ctypes.CDLL(None)


def own_network():
    if libc.unshare(CLONE_NEWNET) == 0:
        with socket.socket() as any_socket:
            fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sH22x", b"lo", IFF_UP))


def children(pid):
    found = []
    for task in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{task}/children") as file:
            found += map(int, file.read().split())
    return found


def kill_all():
    """Each round kills the direct children; theirs become ours, and are met in the next."""
    while True:
        for pid in children(os.getpid()):
            os.kill(pid, signal.SIGKILL)              # ours until waited for, so the number is no one else's
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def stop(*_):
    kill_all()
    os._exit(130)


def main():
    seconds, command = float(sys.argv[1]), sys.argv[2:]
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    own_network()
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
    status, end = None, time.monotonic() + seconds
    while status is None and time.monotonic() < end:
        pid, code = os.waitpid(-1, os.WNOHANG)        # orphans too: no dead daemon stays a zombie
        if pid == child.pid:
            status = os.waitstatus_to_exitcode(code)
        elif pid == 0:
            time.sleep(0.01)
    if status is None:
        print(f"no end after {seconds:g} s", flush=True)
        status = 124
    kill_all()
    os._exit(status if status >= 0 else 128 - status)


main()
