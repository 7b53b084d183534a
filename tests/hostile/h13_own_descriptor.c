// timeout: 60
// Hazard 13: the log's descriptor lives among the program's. Swept, replaced and limited, it never receives what is the
// program's nor gives to the program what is its own; and what else preclose opens for a moment does not show.
#include "hostile.h"

static const char *log_path;

// What the program's own files hold must be what it wrote.
static int own_file(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s.%d", scratch(), name, (int)getpid());
    return must(open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
}

static void expect_untouched(int fd, const char *what)
{
    struct stat st;
    must(fstat(fd, &st));
    if (st.st_size) fail("%s: %ld bytes of the log went into the program's file", what, (long)st.st_size);
}

static int kept_now(void)
{
    int kept = log_descriptor(log_path);
    if (kept < 0) fail("the log is not open");
    return kept;
}

// It is the process's own, and no program that it starts gets it; and it is not where programs look for theirs.
static void expect_private(void)
{
    int kept = kept_now();
    struct rlimit limit;
    must(getrlimit(RLIMIT_NOFILE, &limit));
    expect(raw(SYS_fcntl, kept, F_GETFD, 0) & FD_CLOEXEC);
    expect((rlim_t)kept >= (limit.rlim_cur < 1024 ? limit.rlim_cur / 2 : 512));
}

static void expect_told(const char *after)
{
    expect_private();
    unsigned before = lines_in(log_path);
    told_close();
    if (lines_in(log_path) != before + 1) fail("after %s nothing is written any more", after);
}

static void swept(void)
{
    int kept = kept_now(), sv[2];
    pair(sv);
    errno = 0;
    expect(close(kept) == -1 && errno == EBADF && is_open(kept));
    expect(syscall(SYS_close, kept) == -1 && errno == EBADF && is_open(kept));
    expect_told("close");
    for (int fd = 3; fd < 4096; fd++)
        if (fd != sv[0] && fd != sv[1]) close(fd);
    expect(is_open(kept));
    expect_told("a sweep");
    expect(close_range((unsigned)sv[1] + 1, ~0u, 0) == 0 && is_open(kept));
    expect_told("close_range");
    expect(close_range((unsigned)kept, (unsigned)kept, 0) == 0 && is_open(kept));
    expect(syscall(SYS_close_range, sv[1] + 1, ~0u, 0) == 0 && is_open(kept));
    closefrom(sv[1] + 1);
    expect(is_open(kept));
    expect_told("closefrom");
    // The program's own numbers around it are closed all the same.
    for (int fd = kept - 2; fd <= kept + 2; fd++)
        if (fd != kept) must(dup2(sv[0], fd));
    closefrom(kept - 3);
    for (int fd = kept - 2; fd <= kept + 2; fd++) expect(is_open(fd) == (fd == kept));
    expect(both_ways(sv[0], sv[1]));
}

static void replaced(void)
{
    for (int how = 0; how < 6; how++) {
        int kept = kept_now(), mine = own_file("replaced"), sv[2];
        pair(sv);
        int ret = how == 0   ? dup2(mine, kept)
                  : how == 1 ? dup3(mine, kept, O_CLOEXEC)
                  : how == 2 ? (int)syscall(SYS_dup3, mine, kept, 0)
                  : how == 3 ? dup2(sv[0], kept)
                  : how == 4 ? fcntl(mine, F_DUPFD, kept) // the number is taken: the next one
                             : dup2(4000, kept);          // fails
        if (how < 4) expect(ret == kept);
        if (how == 4) expect(ret > kept);
        if (how == 5) expect(ret == -1 && errno == EBADF);
        for (int i = 0; i < 20; i++) told_close();
        expect_told("dup2");
        expect_untouched(mine, "dup2");
        if (how == 3) {
            expect(peer_sees(sv[1], 0) == '-'); // nothing was written to it
            expect(both_ways(kept, sv[1]));
        }
        if (ret >= 0) {
            must(close(ret)); // the number is the program's now: its close works
            expect(!is_open(ret));
        }
        raw_close(mine);
        raw_close(sv[0]);
        raw_close(sv[1]);
    }
}

// Closed where nobody sees it, and the number is the program's.
static void closed_unseen(void)
{
    int kept = kept_now(), mine = own_file("unseen");
    raw_close(kept);
    expect(raw(SYS_dup2, mine, kept, 0) == kept);
    for (int i = 0; i < 20; i++) told_close();
    expect_untouched(mine, "a raw close");
    must(close(kept)); // the program's
    expect(!is_open(kept) && is_open(mine));
    expect_untouched(mine, "a raw close");
}

// The log is a file that has lost its name: dup2 onto its number moves it, as it can't be opened again.
static void nameless(void)
{
    char gone[PATH_MAX + 20];
    int mine = own_file("nameless");
    struct stat before, after;
    must(rename(log_path, strcat(strcpy(gone, log_path), ".gone")));
    must(unlink(gone));
    must(mkdir(log_path, 0700));
    for (int how = 0; how < 3; how++) {
        snprintf(gone, sizeof gone, "%s.gone (deleted)", log_path);
        int kept = log_descriptor(gone);
        if (kept < 0) fail("the log is not open any more after %d times", how);
        must(fstat(kept, &before));
        must(how == 0 ? dup2(mine, kept) : how == 1 ? dup3(mine, kept, 0) : (int)syscall(SYS_dup3, mine, kept, O_CLOEXEC));
        told_close();
        if (log_descriptor(gone) < 0) fail("dup2 onto its number has closed the log");
        must(fstat(log_descriptor(gone), &after));
        if (after.st_size == before.st_size) fail("after dup2 onto its number nothing is written any more");
        expect_untouched(mine, "dup2");
        must(close(kept));
    }
    must(rmdir(log_path));
}

static void limited(void)
{
    struct rlimit limit = {64, 64};
    int kept = kept_now(), sv[2];
    must(setrlimit(RLIMIT_NOFILE, &limit));
    expect_told("RLIMIT_NOFILE is below its number");
    pair(sv);
    expect(dup2(sv[0], kept) == -1 && errno == EBADF); // out of range: fails, and moves nothing
    expect_told("a dup2 that fails");
    expect(both_ways(sv[0], sv[1]));
    expect(dup2(STDOUT_FILENO, 64) == -1 && errno == EBADF);
    closefrom(40);
    expect_told("closefrom under a limit");
    // Every descriptor that there may be is in use.
    int n = 0;
    while (dup(STDOUT_FILENO) >= 0) n++;
    expect(errno == EMFILE && n > 20);
    must(close(sv[0]));
    expect(peer_sees(sv[1], DEADLINE_MS) == 'e');
    expect(lines_in(log_path) > 0);
    limit.rlim_cur = 0;
    must(setrlimit(RLIMIT_NOFILE, &limit));
    must(close(sv[1]));
}

// --- What is open only for a moment ---

enum { SOCKETS = 1500 };
static int sockets[SOCKETS];
static _Atomic bool go, over;
static bool keep_numbers; // let go of by dup2: no number becomes free

static void *close_all(void *arg)
{
    while (!atomic_load(&go)) sched_yield();
    for (int i = 0; i < SOCKETS; i++) must(keep_numbers ? dup2(STDIN_FILENO, sockets[i]) : close(sockets[i]));
    atomic_store(&over, true);
    return arg;
}

static pthread_t start_closing(void)
{
    for (int i = 0; i < SOCKETS; i += 2) pair(sockets + i);
    pthread_t t = start_thread(close_all, NULL);
    return t;
}

// Under a filter of system calls it has no other table to open things in.
static bool filtered(void)
{
    char *text = text_of("/proc/self/status");
    bool no = strstr(text, "Seccomp:\t0\n") != NULL;
    free(text);
    return !no;
}

// What it looks at while it tells of closes, it does not have open among the program's descriptors.
static void watched_meanwhile(void)
{
    if (filtered()) return;
    pthread_t t = start_closing();
    int mine = own_file("watched"), first = must(fcntl(mine, F_DUPFD, 0));
    raw_close(first);
    keep_numbers = true;
    atomic_store(&go, true);
    while (!atomic_load(&over))
        if (is_open(first)) fail("descriptor %d is open, and not the program's", first);
    pthread_join(t, NULL);
}

// Swept meanwhile, the number is the program's, and is not closed under it.
static void swept_meanwhile(void)
{
    pthread_t t = start_closing();
    int mine = own_file("swept"), first = must(fcntl(mine, F_DUPFD, 0));
    keep_numbers = true;
    atomic_store(&go, true);
    for (unsigned round = 0; !atomic_load(&over); round++) {
        int fds[6], n = round & 1 ? 6 : 0; // in every other round the numbers are free for whoever comes
        closefrom(first);
        for (int i = 0; i < n; i++) fds[i] = must(fcntl(mine, F_DUPFD, first));
        for (unsigned spin = 0; spin < round % 7; spin++) sched_yield();
        for (int i = 0; i < n; i++)
            if (!is_open(fds[i])) fail("round %u: descriptor %d of the program was closed under it", round, fds[i]);
    }
    pthread_join(t, NULL);
}

static const struct {
    const char *name;
    void (*run)(void);
} scenarios[] = {
    {"swept", swept},
    {"replaced", replaced},
    {"closed unseen", closed_unseen},
    {"nameless", nameless},
    {"limited", limited},
    {"swept meanwhile", swept_meanwhile},
    {"watched meanwhile", watched_meanwhile},
};

int main(int argc, char **argv)
{
    need_library();
    if (argc > 1) {
        unsigned n = (unsigned)atoi(argv[2]);
        log_path = getenv("PRECLOSE_LOG");
        within = scenarios[n].name;
        scenarios[n].run();
        _exit(0);
    }
    for (unsigned n = 0; n < sizeof scenarios / sizeof *scenarios; n++) {
        char path[PATH_MAX], number[12];
        snprintf(path, sizeof path, "%s/own.%u", scratch(), n);
        snprintf(number, sizeof number, "%u", n);
        struct again a = {.mode = "scenario", .arg = number, .log = path, .stderr_fd = -1};
        again(scenarios[n].name, &a);
    }
    return 0;
}
