// env: PRECLOSE_STACK=16
// Hazard 14: under the filter of a container, which kills for calls that debuggers make, findings are told with their
// places all the same.
#include "hostile.h"

static void tell(const char *log)
{
    int sv[2];
    pair(sv);
    must(close(sv[0]));
    must(close(sv[1]));
    char *text = text_of(log);
    if (count_of(text, "\"at\":[\"/") < 4 || !strstr(text, "h14_inherited+0x")) fail("no places in %.300s", text);
    free(text);
    exercise();
    still_works("a filter that kills");
}

static void filtered(long arg)
{
    (void)arg;
    const long killing[] = {SYS_process_vm_readv, SYS_process_vm_writev, SYS_ptrace, SYS_reboot, SYS_bpf,
                            SYS_perf_event_open,  SYS_userfaultfd,       SYS_mount};
    const char *log = getenv("PRECLOSE_LOG");
    const struct again a = {"again", NULL, log ? log : "none", NULL, NULL, -1};
    struct filter f = filter_new();
    for (unsigned i = 0; i < sizeof killing / sizeof *killing; i++)
        filter_call(&f, killing[i], SECCOMP_RET_KILL_PROCESS);
    struct sock_fprog p = filter_end(&f, SECCOMP_RET_ALLOW);
    filter_inherit(&p);
    become((long)&a);
}

int main(int argc, char **argv)
{
    (void)argv;
    need_library();
    scratch();
    if (argc > 1) {
        tell(getenv("PRECLOSE_LOG"));
        return 0;
    }
    in_child("a filter that kills", 20000, filtered, 0);
    return 0;
}
