// The rooms that all threads of a program share, used by all of them at once: the table and its memory, the
// report, its limits and the log. Each thread has descriptors of its own, whose records must be exactly what it
// did to them, and some that everybody changes. ThreadSanitizer holds the locks against it.
#include "unit.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "json.h"
#include "modules.h"
#include "report.h"
#include "sink.h"
#include "threads.h"
#include "track.h"

enum { WORKERS = 4, OWN = 48, SHARED = 16, FIRST = 1000, STEPS = UNDER_TSAN ? 4000 : 40000, PLACES = 3, LIMIT = 5 };

#define SHARED_COOKIE (UINT64_C(1) << 60)

static char path[] = "/tmp/preclose-stress-XXXXXX";
static _Atomic uint64_t last_cookie;
static _Atomic unsigned closes, resets; // findings that were reported
static _Atomic bool ended;

// The first thing that is wrong, wherever; cmocka's asserts are for the main thread only.
static _Atomic(const char *) wrong;

static bool holds(bool condition, const char *what)
{
    const char *none = NULL;
    if (!condition) atomic_compare_exchange_strong(&wrong, &none, what);
    return condition;
}

struct socket_of {
    uint64_t cookie; // 0: the descriptor is closed
    bool passed;
};

struct worker {
    pthread_t thread;
    unsigned number;
    uint64_t seed;
    struct socket_of own[OWN];
};

static unsigned pick(struct worker *w, unsigned n)
{
    w->seed = w->seed * UINT64_C(6364136223846793005) + 1442695040888963407;
    return (unsigned)(w->seed >> 33) % n;
}

static int number_of(const struct worker *w, unsigned i)
{
    return FIRST + (int)(w->number * OWN + i);
}

static struct place place_of(const struct worker *w, enum call call)
{
    return (struct place){.pc = (uintptr_t)&last_cookie + w->number % PLACES, .tid = getpid(), .call = call};
}

static void open_socket(struct worker *w, unsigned i)
{
    struct opening o = {.place = place_of(w, CALL_SOCKET), .cookie = atomic_fetch_add(&last_cookie, 1) + 1,
                        .kind = KIND_TCP, .share = SHARE_NONE, .cloexec = pick(w, 2)};
    track_open(number_of(w, i), &o);
    w->own[i] = (struct socket_of){.cookie = o.cookie};
}

static void duplicate_socket(struct worker *w, unsigned from, unsigned to)
{
    track_unpin(track_pin(number_of(w, from)), number_of(w, to), pick(w, 2));
    w->own[to] = w->own[from];
}

static void pass_socket(struct worker *w, unsigned i)
{
    track_passed(number_of(w, i));
    for (unsigned k = 0; k < OWN; k++)
        if (w->own[k].cookie == w->own[i].cookie) w->own[k].passed = true;
}

static void tell(struct worker *w, const struct retired *r, enum event event, int fd)
{
    struct facts facts = {.cookie = r->cookie, .kind = r->kind, .unread = 3, .unsent = UNKNOWN, .backlog = UNKNOWN};
    struct finding f = {.event = event, .fd = fd, .facts = &facts, .age_ms = 5, .opened = r->opened,
                        .closed = place_of(w, CALL_CLOSE)};
    report(&f);
    atomic_fetch_add(event == EVENT_CLOSE ? &closes : &resets, 1);
}

static void close_socket(struct worker *w, unsigned i)
{
    const struct place here = place_of(w, CALL_CLOSE);
    const int fd = number_of(w, i);
    struct place opened, closed;
    struct retired r;
    unsigned others = 0;
    for (unsigned k = 0; k < OWN; k++) others += k != i && w->own[k].cookie == w->own[i].cookie;
    holds(track_find(w->own[i].cookie) >= FIRST, "a socket that is open is not found");
    if (!holds(track_retire(fd, &here, &r), "a socket that is open is not tracked")) return;
    holds(r.cookie == w->own[i].cookie, "another socket's cookie");
    holds(r.others == others, "a wrong number of duplicates");
    holds((r.share == SHARE_PASSED) == w->own[i].passed, "passed on, or not");
    holds(track_closing(fd, here.tid) == 0, "another thread closes it");
    holds(track_closed_at(fd, &opened, &closed) && closed.pc == here.pc, "closed elsewhere");
    track_closed_range((unsigned)fd, (unsigned)fd, here.tid);
    w->own[i].cookie = 0;
    if (pick(w, 4) == 0) tell(w, &r, pick(w, 4) ? EVENT_CLOSE : EVENT_UNREAD_RESET, fd);
}

static void use_own(struct worker *w)
{
    const unsigned i = pick(w, OWN), other = pick(w, OWN);
    if (!w->own[i].cookie) {
        open_socket(w, i);
        return;
    }
    switch (pick(w, 8)) {
    case 0:
        if (i != other) duplicate_socket(w, i, other);
        break;
    case 1:
        track_flags(number_of(w, i), SOCK_SHUT_WR);
        break;
    case 2:
        track_cloexec(number_of(w, i), pick(w, 2));
        break;
    case 3:
        pass_socket(w, i);
        break;
    default:
        close_socket(w, i);
    }
}

// Descriptors that everybody opens, duplicates and closes: nothing is known but that every record is one of those.
static void use_shared(struct worker *w)
{
    const struct place here = place_of(w, CALL_CLOSE);
    const int fd = (int)pick(w, SHARED), other = (int)pick(w, SHARED);
    struct opening o = {.place = here, .cookie = SHARED_COOKIE + 1 + pick(w, 100), .kind = KIND_UDP};
    struct retired r;
    switch (pick(w, 7)) {
    case 0:
        track_open_epoll(fd, true);
        break;
    case 1:
        track_open(fd, &o);
        break;
    case 2:
        if (fd != other) track_unpin(track_pin(fd), other, true);
        break;
    case 3:
        track_epoll_add(fd, other);
        break;
    case 4:
        track_epoll_del(fd, other);
        break;
    case 5:
        track_cloexec_range(0, SHARED);
        track_next(0, FIRST);
        break;
    default:
        if (track_retire(fd, &here, &r) && !r.epoll)
            holds(r.cookie > SHARED_COOKIE && r.cookie <= SHARED_COOKIE + 100, "a cookie from nowhere");
    }
}

static void *work(void *argument)
{
    struct worker *w = argument;
    for (unsigned step = 0; step < STEPS; step++) {
        use_own(w);
        use_shared(w);
    }
    for (unsigned i = 0; i < OWN; i++)
        if (w->own[i].cookie) close_socket(w, i);
    return NULL;
}

// What else goes on in a process: forks, a log that is rotated or in the program's way, and those who only look.
static void *disturb(void *argument)
{
    unsigned *files = argument;
    int ends[2];
    if (!holds(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0, "no socket pair")) return NULL;
    for (unsigned round = 0; !atomic_load(&ended); round++) {
        struct blocked blocked;
        struct facts facts;
        char old[sizeof path + 16];
        if (round % 2) track_forked();
        else track_spawned();
        track_threads();
        holds(track_has_threads() && track_forks() > 0 && track_memory() > 0, "what was noted is gone");
        holds(sink_move() && sink_holds(sink_fd()), "the log is let go");
        holds(report_wants(EVENT_CLOSE) && report_summary_due(), "nothing is to be told");
        probe_facts(ends[0], KIND_UNIX_STREAM, 0, &facts);
        threads_blocked_on(ends[0], 1000, &blocked);
        if (round % 64) continue;
        snprintf(old, sizeof old, "%s.%u", path, *files);
        *files += rename(path, old) == 0;
    }
    close(ends[0]);
    close(ends[1]);
    return NULL;
}

// The whole lines of a file, by event: a summary ends it.
static void read_lines(const char *name, unsigned lines[EVENT_COUNT], char *summary, size_t size)
{
    static char line[LINE_MAX_BYTES + 1];
    FILE *f = fopen(name, "re");
    if (!f) fail_msg("%s: %s", name, strerror(errno));
    while (fgets(line, sizeof line, f)) {
        const size_t n = strlen(line);
        if (!json_is_line(line, n)) fail_msg("a torn line: %s", line);
        const char *event = json_get(line, line + n, "event");
        for (unsigned e = 0; e < EVENT_COUNT; e++)
            if (strncmp(event + 1, event_name((enum event)e), strlen(event) - 2) == 0) lines[e]++;
        if (strcmp(event, "\"summary\"") == 0) snprintf(summary, size, "%s", line);
    }
    fclose(f);
    unlink(name);
}

static void check_log(unsigned files)
{
    unsigned lines[EVENT_COUNT] = {0};
    char name[sizeof path + 16], summary[LINE_MAX_BYTES + 1] = "", expected[200];
    for (unsigned i = 0; i < files; i++) {
        snprintf(name, sizeof name, "%s.%u", path, i);
        read_lines(name, lines, summary, sizeof summary);
    }
    if (access(path, F_OK) == 0) read_lines(path, lines, summary, sizeof summary);
    assert_int_equal(lines[EVENT_SUMMARY], 1);
    assert_int_equal(lines[EVENT_CLOSE], atomic_load(&closes)); // which are never held back
    assert_in_range(lines[EVENT_UNREAD_RESET], 1, PLACES * LIMIT);
    const char *end = summary + strlen(summary);
    snprintf(expected, sizeof expected, "{\"unread-reset\":%u,\"close\":%u}", resets, closes);
    assert_string_equal(json_get(summary, end, "counts"), expected);
    snprintf(expected, sizeof expected, "%u lines held back", resets - lines[EVENT_UNREAD_RESET]);
    assert_non_null(strstr(json_get(summary, end, "text"), expected));
    assert_null(strstr(json_get(summary, end, "text"), "could not be written"));
}

static void test_all_at_once(void **state)
{
    (void)state;
    struct settings s = {.log = LOG_FILE, .format = FORMAT_JSON, .level = LEVEL_INFO, .rate = LIMIT,
                         .report = REPORT_ALWAYS};
    struct worker *workers = calloc(WORKERS, sizeof *workers);
    pthread_t disturber;
    unsigned files = 0;
    int fd = mkstemp(path);
    assert_non_null(workers);
    close(fd);
    strcpy(s.log_path, path);
    assert_int_equal(sink_open(&s), 0);
    report_start(&s, "stress");
    for (unsigned i = 0; i < WORKERS; i++) {
        workers[i].number = i;
        workers[i].seed = 20261121 + i;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
    assert_int_equal(pthread_create(&disturber, NULL, disturb, &files), 0);
    for (unsigned i = 0; i < WORKERS; i++) pthread_join(workers[i].thread, NULL);
    atomic_store(&ended, true);
    pthread_join(disturber, NULL);
    report_summary(NULL, 0);
    free(workers);
    if (atomic_load(&wrong)) fail_msg("%s", atomic_load(&wrong));
    assert_int_equal(track_next(FIRST, TRACK_FD_MAX), -1);
    check_log(files);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_all_at_once)};
    modules_finder *find;
    sigset_t blocked;
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGPIPE); // as the guard does
    sigprocmask(SIG_BLOCK, &blocked, NULL);
    *(void **)&find = dlsym(RTLD_DEFAULT, "_dl_find_object");
    modules_use(find);
    return cmocka_run_group_tests_name("stress", tests, NULL, NULL);
}
