// A program of named scenarios: sockets in known states, let go of in every way, and what came of it as
// key=value lines.
//
//     victim NAME [key=value…]      victim --list
//
// The rooms of it are in victim/; they are one translation unit, so that the program is built from one file.
// A scenario that could not be set up says broken=… and ends with status 99.
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "victim/support.c"

#include "victim/routes.c"

#include "victim/wake.c"

#include "victim/results.c"

#include "victim/duplicates.c"

#include "victim/share.c"

#include "victim/epoll.c"

#include "victim/peer.c"

#include "victim/states.c"

#include "victim/misuse.c"

#include "victim/cures.c"

#include "victim/watch.c"

static const struct scenario {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"wake", scenario_wake},
    {"got", scenario_got},
    {"stale", scenario_stale},
    {"range", scenario_range},
    {"results", scenario_results},
    {"duplicates", scenario_duplicates},
    {"marker", scenario_marker},
    {"dup2-onto-socket", scenario_dup2_onto_socket},
    {"storm", scenario_storm},
    {"hold", scenario_hold},
    {"share", scenario_share},
    {"pass", scenario_pass},
    {"in-flight", scenario_in_flight},
    {"daemon", scenario_daemon},
    {"prove", scenario_prove},
    {"prove-passed", scenario_prove_passed},
    {"inherited", scenario_inherited},
    {"prove-inherited", scenario_prove_inherited},
    {"parted", scenario_parted},
    {"child-own", scenario_child_own},
    {"prove-in-child", scenario_prove_in_child},
    {"phantoms", scenario_phantoms},
    {"epoll", scenario_epoll},
    {"peer", scenario_peer},
    {"state", scenario_state},
    {"random", scenario_random},
    {"double-close", scenario_double_close},
    {"use-after-close", scenario_use_after_close},
    {"sweep", scenario_sweep},
    {"repeat", scenario_repeat},
    {"place", scenario_place},
    {"facts", scenario_facts},
    {"files", scenario_files},
    {"drain", scenario_drain},
    {"drain-many", scenario_drain_many},
    {"drain-handler", scenario_drain_handler},
    {"drain-fork", scenario_drain_fork},
    {"drain-meanwhile", scenario_drain_meanwhile},
    {"slow", scenario_slow},
    {"bind", scenario_bind},
    {"options", scenario_options},
    {"sigpipe", scenario_sigpipe},
    {"leave", scenario_leave},
    {"none", scenario_none},
    {"leak", scenario_leak},
    {"no-leak", scenario_no_leak},
    {"reuse", scenario_reuse},
    {"strange", scenario_strange},
    {"reconnect", scenario_reconnect},
    {"half-closed", scenario_half_closed},
    {"duplicates-left", scenario_duplicates_left},
    {"left-by-fork", scenario_left_by_fork},
    {"at-exit", scenario_at_exit},
    {"child-at-exit", scenario_child_at_exit},
    {"late", scenario_late},
    {"table", scenario_table},
    {"leaks", scenario_leaks},
    {"preload", scenario_preload},
};

static int list(void)
{
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) puts(scenarios[i].name);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 2 && is(argv[1], "--list")) return list();
    if (argc < 2) {
        fputs("usage: victim NAME [key=value...] | victim --list\n", stderr);
        return 2;
    }
    ssize_t n = readlink("/proc/self/exe", self_path, sizeof self_path - 1);
    self_path[n > 0 ? n : 0] = '\0';
    parameters = argv + 2;
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (is(scenarios[i].name, argv[1])) {
            scenarios[i].run();
            return 0;
        }
    fprintf(stderr, "victim: no scenario %s; see victim --list\n", argv[1]);
    return 2;
}
