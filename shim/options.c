#include "options.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "probe.h"
#include "sys.h"

// The three times of a keepalive, and what a new socket of this system has.
static struct {
    int name, wanted, usual; // -1: not known
} times[] = {
    {TCP_KEEPIDLE, 0, -1},
    {TCP_KEEPINTVL, 0, -1},
    {TCP_KEEPCNT, 0, -1},
};

enum { TIMES = sizeof times / sizeof *times };

static bool reuse, keepalive;
static struct timeval timeout; // 0: none

static int get(int fd, int level, int name)
{
    int value = -1;
    socklen_t n = sizeof value;
    long ret = sys_call6(SYS_getsockopt, fd, level, name, (long)&value, (long)&n, 0);
    return ret < 0 ? -1 : value;
}

static void set(int fd, int level, int name, int value)
{
    sys_call6(SYS_setsockopt, fd, level, name, (long)&value, sizeof value, 0);
}

static void learn_usual_times(void)
{
    long fd = sys_call(SYS_socket, AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) fd = sys_call(SYS_socket, AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return;
    for (unsigned i = 0; i < TIMES; i++) times[i].usual = get((int)fd, IPPROTO_TCP, times[i].name);
    sys_call(SYS_close, fd, 0, 0);
}

void options_start(const struct settings *s)
{
    reuse = s->reuseaddr;
    keepalive = s->keepalive.idle;
    timeout = (struct timeval){.tv_sec = s->recv_timeout_ms / 1000, .tv_usec = s->recv_timeout_ms % 1000 * 1000};
    times[0].wanted = (int)s->keepalive.idle;
    times[1].wanted = (int)s->keepalive.interval;
    times[2].wanted = (int)s->keepalive.count;
    if (keepalive) learn_usual_times();
}

bool options_for_bind(void)
{
    return reuse;
}

bool options_for_connections(void)
{
    return keepalive || timeout.tv_sec || timeout.tv_usec;
}

static bool is_tcp(enum kind kind)
{
    return kind == KIND_TCP || kind == KIND_TCP6;
}

void options_before_bind(int fd)
{
    if (reuse && is_tcp(probe_kind(fd))) set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
}

// A time that is not the system's is the program's.
static void set_keepalive(int fd)
{
    for (unsigned i = 0; i < TIMES; i++) {
        if (times[i].usual >= 0 && get(fd, IPPROTO_TCP, times[i].name) != times[i].usual) continue;
        set(fd, IPPROTO_TCP, times[i].name, times[i].wanted);
    }
    set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
}

static void set_timeout(int fd)
{
    struct timeval own = {0, 0};
    socklen_t n = sizeof own;
    if (sys_call6(SYS_getsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, (long)&own, (long)&n, 0) < 0) return;
    if (own.tv_sec || own.tv_usec) return;
    sys_call6(SYS_setsockopt, fd, SOL_SOCKET, SO_RCVTIMEO, (long)&timeout, sizeof timeout, 0);
}

// On a listener a receive timeout would end its accept; connect to AF_UNSPEC leaves no connection.
static bool is_connection(int fd)
{
    enum kind kind = probe_kind(fd);
    if (!is_tcp(kind)) return false;
    enum tcp_state state = probe_state(fd, kind);
    return state != TCP_STATE_LISTEN && state != TCP_STATE_CLOSED;
}

void options_on_connection(int fd)
{
    if (!options_for_connections() || !is_connection(fd)) return;
    if (keepalive) set_keepalive(fd);
    if (timeout.tv_sec || timeout.tv_usec) set_timeout(fd);
}
