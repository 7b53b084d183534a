// The peer closes, the program does not: CLOSE_WAIT, until the program closes too or ends.
//
// Whoever closes first goes FIN_WAIT1, FIN_WAIT2, TIME_WAIT; the other one CLOSE_WAIT, LAST_ACK.
// Two of these usually last microseconds. To see them, the second part fills the buffers: a FIN
// goes out behind the data, so it cannot be acknowledged before the data is read (RFC 9293, 3.6).
#include "demo.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct table steps = {.width = {48, 14, 14}};

// Prints the states as they are after a step. EXPECTED is only what to wait for, at most 5 s.
static void show(const struct pair *pair, const char *step, const char *expected_peer,
                 const char *expected_program)
{
    const char *peer = await_state(pair->client_port, pair->server_port, expected_peer);
    const char *program = await_state(pair->server_port, pair->client_port, expected_program);
    table_row(&steps, step, peer, program);
}

static void as_usual(void)
{
    struct pair pair = loopback_pair();
    int peer = pair.client;
    int program = pair.server;

    table_head(&steps, "as usual", "peer", "program");
    show(&pair, "connected", "ESTABLISHED", "ESTABLISHED");

    close(peer);
    show(&pair, "peer: close", "FIN_WAIT2", "CLOSE_WAIT");

    char byte;
    long result = recv(program, &byte, 1, 0);
    show(&pair, text("program: recv returns %s", outcome(result)), "FIN_WAIT2", "CLOSE_WAIT");

    sleep_seconds(0.5);
    show(&pair, "program: does nothing for 0.5 s", "FIN_WAIT2", "CLOSE_WAIT");

    close(program);
    show(&pair, "program: close", "TIME_WAIT", "gone");
}

static void in_slow_motion(void)
{
    struct pair pair = loopback_pair();
    int peer = pair.client;
    int program = pair.server;

    table_head(&steps, "in slow motion, with full buffers", "peer", "program");
    fill(peer);
    show(&pair, "peer: sends all it can", "ESTABLISHED", "ESTABLISHED");

    shutdown(peer, SHUT_WR); // as close does, but it can still read, for the steps below
    show(&pair, "peer: shutdown(SHUT_WR)", "FIN_WAIT1", "ESTABLISHED");

    read_to_end(program);
    show(&pair, "program: reads to the end", "FIN_WAIT2", "CLOSE_WAIT");

    fill(program);
    show(&pair, "program: sends all it can", "FIN_WAIT2", "CLOSE_WAIT");

    close(program);
    show(&pair, "program: close", "FIN_WAIT2", "LAST_ACK");

    read_to_end(peer);
    show(&pair, "peer: reads to the end", "TIME_WAIT", "gone");
    close(peer);
}

static void both_at_once(void)
{
    struct pair pair = loopback_pair();

    table_head(&steps, "both at once, with full buffers", "peer", "program");
    fill(pair.client);
    fill(pair.server);
    shutdown(pair.client, SHUT_WR);
    shutdown(pair.server, SHUT_WR);
    show(&pair, "both: shutdown(SHUT_WR)", "FIN_WAIT1", "FIN_WAIT1");

    read_to_end(pair.client);
    show(&pair, "peer: reads to the end", "CLOSING", "FIN_WAIT2");

    read_to_end(pair.server);
    show(&pair, "program: reads to the end", "TIME_WAIT", "TIME_WAIT");
    close(pair.client);
    close(pair.server);
}

int main(void)
{
    as_usual();

    // tcp(7): how long the kernel keeps a closed socket in FIN_WAIT2. CLOSE_WAIT has no such limit.
    char limit[16] = "?";
    FILE *setting = fopen("/proc/sys/net/ipv4/tcp_fin_timeout", "r");
    if (setting && fgets(limit, sizeof limit, setting)) fclose(setting);
    printf("\nThe kernel ends FIN_WAIT2 after tcp_fin_timeout = %d s, CLOSE_WAIT never.\n\n", atoi(limit));

    in_slow_motion();
    printf("\n");
    both_at_once();
    return 0;
}
