// Hazard 4, 12: a message is read before it is sent. What of it cannot be read, or lies about its length, is the
// kernel's to complain about: the same answers as without the library, and no fault of ours.
#include "hostile.h"

static void result(const char *what, long ret)
{
    printf("%s: %ld %d\n", what, ret, ret < 0 ? errno : 0);
}

static struct cmsghdr *header(void *at, size_t length, int fd)
{
    struct cmsghdr *h = at;
    *h = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = length};
    if (fd >= 0) memcpy(CMSG_DATA(h), &fd, sizeof fd);
    return h;
}

static long give(int over, void *control, size_t length, int way)
{
    static char byte = 'm';
    struct iovec part = {&byte, 1};
    struct mmsghdr m = {.msg_hdr = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control, .msg_controllen = length}};
    if (way == 0) return sendmsg(over, &m.msg_hdr, MSG_DONTWAIT);
    if (way == 1) return sendmmsg(over, &m, 1, MSG_DONTWAIT);
    return syscall(SYS_sendmsg, over, &m.msg_hdr, MSG_DONTWAIT);
}

static int attempts(void)
{
    const size_t page = 4096;
    int over[2];
    char drop[64];
    char *map = mmap(NULL, 8 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    expect(map != MAP_FAILED);
    must(munmap(map + page, page));     // page 0, a hole, pages 2 to 3, a hole
    must(munmap(map + 4 * page, page));
    pair(over);
    for (int way = 0; way < 3; way++) {
        // The last header says more than there is; behind it is nothing.
        for (size_t more = 0; more <= 48; more += 4) {
            char *end = map + 4 * page, *at = end - CMSG_SPACE(4) - CMSG_LEN(4);
            header(at, CMSG_LEN(4), 0);
            header(at + CMSG_SPACE(4), CMSG_LEN(4) + more, 0);
            result("a second header that says more", give(over[0], at, (size_t)(end - at), way));
            header(end - CMSG_LEN(4), CMSG_LEN(4) + more, 0);
            result("a header that says more", give(over[0], end - CMSG_LEN(4), CMSG_LEN(4), way));
        }
        // Beginning and end can be read, the middle cannot.
        for (size_t length = 2 * page; length <= 4 * page; length += page / 2) {
            header(map, length, 0);
            result("a hole in the descriptors", give(over[0], map, length, way));
            header(map, page - 4, 0);
            result("a hole at the next header", give(over[0], map, length, way));
            header(map, page, 0);
            result("a header in a hole", give(over[0], map, length, way));
        }
        while (recv(over[1], drop, sizeof drop, MSG_DONTWAIT) > 0) {}
    }
    fflush(stdout);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc > 1 && !strcmp(argv[1], "attempts")) return attempts();
    need_library();
    int a, b;
    char *without = output_of_self("attempts", NULL, false, &a), *with = output_of_self("attempts", NULL, true, &b);
    if (WIFSIGNALED(b)) fail("a message that cannot be read: killed by signal %d in the library", WTERMSIG(b));
    expect_same("messages that cannot be read", without, with);
    expect(a == 0 && b == 0);
    return 0;
}
