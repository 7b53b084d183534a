"""blocked.py PID [CALL...]: the threads of PID that are blocked in a system call on a descriptor (in these calls only).

A line each: `TID NAME CALL FD open|closed`, closed if the process has no such descriptor any more; a line for each descriptor
of a poll.  Exits 1 if there are none.  From /proc/PID/task/TID/syscall and /proc/PID/mem, proc(5)."""
import os
import platform
import struct
import sys

CALLS = {
    "x86_64": {0: "read", 1: "write", 7: "poll", 43: "accept", 44: "sendto", 45: "recvfrom", 46: "sendmsg", 47: "recvmsg",
               271: "ppoll", 288: "accept4"},
    "aarch64": {63: "read", 64: "write", 73: "ppoll", 202: "accept", 206: "sendto", 207: "recvfrom", 211: "sendmsg",
                212: "recvmsg", 242: "accept4"},
}[platform.machine()]
POLLFD = struct.Struct("ihh")


def read(path):
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def polled(pid, address, count):
    with open(f"/proc/{pid}/mem", "rb") as memory:
        memory.seek(address)
        return [fd for fd, _, _ in POLLFD.iter_unpack(memory.read(count * POLLFD.size))]


def blocked(pid, tid):
    """The call that the thread is in, and the descriptors it waits for."""
    words = read(f"/proc/{pid}/task/{tid}/syscall").split()
    call = CALLS.get(int(words[0])) if len(words) > 1 and words[0].isdigit() else None
    if call in ("poll", "ppoll"):
        return call, polled(pid, int(words[1], 16), int(words[2], 16))
    return call, [int(words[1], 16)] if call else []


def main():
    pid, wanted, found = sys.argv[1], sys.argv[2:], False
    for tid in os.listdir(f"/proc/{pid}/task"):
        call, descriptors = blocked(pid, tid)
        if not wanted or call in wanted:
            for descriptor in descriptors:
                state = "open" if os.path.lexists(f"/proc/{pid}/fd/{descriptor}") else "closed"
                print(tid, read(f"/proc/{pid}/task/{tid}/comm").replace(" ", "_"), call, descriptor, state)
                found = True
    sys.exit(not found)


main()
