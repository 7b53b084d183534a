// A process is killed while it has a connection. The kernel closes its sockets, as close does.
//
// With bytes unread the other side is reset, as by any close. With bytes unsent nothing is lost:
// the kernel goes on to deliver what the dead process has written, and says EOF after it. SIGKILL
// lets no code of the process run, so there is nothing that a library could do before.
#include "demo.h"

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static const struct table results = {.width = {19, 9, 10, 21, 13}};

// What a victim tells us of itself.
struct victim {
    pid_t pid;
    int port;
    long sent;
};

// What it does: connects, sends all it can if it is a sender, tells us, and waits.
static void live_until_killed(int peer_port, bool sender, int tell_us)
{
    struct victim self = {.pid = getpid()};
    int fd = must("connect", loopback_connect(peer_port, &self.port));
    if (sender) self.sent = fill(fd);
    must("write", write(tell_us, &self, sizeof self));
    sleep(60); // the end comes sooner
    _exit(1);
}

static struct victim start_victim(int peer_port, bool sender)
{
    int told[2];
    must("pipe", pipe(told));
    if (must("fork", fork()) == 0) live_until_killed(peer_port, sender, told[1]);
    close(told[1]);

    struct victim victim;
    if (read(told[0], &victim, sizeof victim) != sizeof victim) {
        fprintf(stderr, "the victim ended too early\n");
        exit(1);
    }
    close(told[0]);
    return victim;
}

static void show(const char *title, bool victim_sends, bool we_send)
{
    int port;
    int listener = loopback_listen(&port);
    struct victim victim = start_victim(port, victim_sends);
    int fd = must("accept", accept(listener, NULL, NULL));
    close(listener);
    if (we_send) {
        must("send", send(fd, "one, two, three", 15, 0));
        await_unread(victim.port, port, 15);
    }
    struct end before = look("tcp", victim.port, port);

    kill(victim.pid, SIGKILL);
    waitpid(victim.pid, NULL, 0);

    struct received received = read_to_end(fd);
    close(fd);
    table_row(&results, title, text("%ld", before.unread), text("%ld", before.unsent),
              text("%ld of %ld", received.bytes, victim.sent), received.end);
}

int main(void)
{
    table_row(&results, "the victim", "has", "has", "of what it sent", "");
    table_head(&results, "is killed with", "unread", "unsent", "we receive", "and then");
    show("all read and sent", false, false);
    show("bytes unread", false, true);
    show("bytes unsent", true, false);
    return 0;
}
