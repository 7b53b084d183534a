#include "address.h"

#include <arpa/inet.h>
#include <string.h>

#include "line.h"

static void dotted(struct line *l, const uint8_t *byte)
{
    for (unsigned i = 0; i < 4; i++) {
        if (i) line_text(l, ".");
        line_unsigned(l, byte[i]);
    }
}

static unsigned group(const struct in6_addr *a, size_t i)
{
    return (unsigned)a->s6_addr[2 * i] << 8 | a->s6_addr[2 * i + 1];
}

static size_t zeroes_from(const struct in6_addr *a, size_t i)
{
    size_t n = 0;
    while (i + n < 8 && group(a, i + n) == 0) n++;
    return n;
}

static void hexadecimal(struct line *l, unsigned value)
{
    for (int shift = 12; shift >= 0; shift -= 4)
        if (value >> shift || shift == 0) line_bytes(l, &"0123456789abcdef"[value >> shift & 0xf], 1);
}

// RFC 5952 section 4: the longest run of two or more zero groups, the first of equals, becomes "::".
static void colons(struct line *l, const struct in6_addr *a)
{
    size_t skip = 8, skipped = 1;
    for (size_t i = 0; i < 8; i++) {
        if (zeroes_from(a, i) <= skipped) continue;
        skip = i;
        skipped = zeroes_from(a, i);
    }
    for (size_t i = 0; i < 8;) {
        if (i == skip) {
            line_text(l, "::");
            i += skipped;
            continue;
        }
        if (i && i != skip + skipped) line_text(l, ":");
        hexadecimal(l, group(a, i++));
    }
}

static void inet6(struct line *l, const struct sockaddr_in6 *in6)
{
    line_text(l, "[");
    if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr)) {
        line_text(l, "::ffff:");
        dotted(l, in6->sin6_addr.s6_addr + 12);
    } else {
        colons(l, &in6->sin6_addr);
    }
    if (in6->sin6_scope_id) {
        line_text(l, "%");
        line_unsigned(l, in6->sin6_scope_id);
    }
    line_text(l, "]:");
    line_unsigned(l, ntohs(in6->sin6_port));
}

static void local_name(struct line *l, const struct address *a)
{
    const char *name = a->u.un.sun_path;
    size_t length = a->len - offsetof(struct sockaddr_un, sun_path);
    if (length > sizeof a->u.un.sun_path) length = sizeof a->u.un.sun_path;
    if (name[0]) { // a path ends at its NUL, an abstract name with its length (unix(7))
        line_bytes(l, name, strnlen(name, length));
        return;
    }
    for (size_t i = 0; i < length; i++) line_bytes(l, name[i] ? name + i : "@", 1);
}

size_t address_text(const struct address *a, char text[ADDRESS_TEXT_MAX])
{
    struct line l = line_start(text, ADDRESS_TEXT_MAX);
    if (a->len >= sizeof a->u.in && a->u.any.sa_family == AF_INET) {
        dotted(&l, (const uint8_t *)&a->u.in.sin_addr);
        line_text(&l, ":");
        line_unsigned(&l, ntohs(a->u.in.sin_port));
    } else if (a->len >= sizeof a->u.in6 && a->u.any.sa_family == AF_INET6) {
        inet6(&l, &a->u.in6);
    } else if (a->len > offsetof(struct sockaddr_un, sun_path) && a->u.any.sa_family == AF_UNIX) {
        local_name(&l, a);
    }
    return l.n;
}
