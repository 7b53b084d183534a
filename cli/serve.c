#include "serve.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "http.h"
#include "say.h"

enum {
    LISTENERS = 8,
    CLIENTS = 64,
    ACCEPTED_AT_ONCE = 16,
    READING_MS = 10000,  // for the request
    WRITING_MS = 30000,  // for the whole answer
    LINGERING_MS = 2000, // for the client's end of the connection
    PAUSE_MS = 200,      // when there are no descriptors to be had
};

enum state { READING, WRITING, LINGERING };

struct client {
    int fd;
    enum state state;
    int64_t deadline;
    struct page *page; // NULL: only the head
    size_t head_n, sent;
    size_t n; // of the request
    char head[512];
    char request[HTTP_HEAD_MAX];
};

struct serve {
    int listener[LISTENERS];
    int listeners;
    struct client *client[CLIENTS];
    int clients;
    int64_t pause_until;
};

struct page *page_new(char *text, size_t n, const char *type)
{
    struct page *p = need(calloc(1, sizeof *p));
    *p = (struct page){.text = text, .n = n, .type = type, .users = 1};
    return p;
}

void page_drop(struct page *p)
{
    if (!p || --p->users) return;
    free(p->text);
    free(p);
}

// "[::1]:9100" → host and port, in a copy. host is NULL for every address.
static bool split(char *address, char **host, char **port)
{
    char *colon = strrchr(address, ':');
    if (!colon) return false;
    *colon = '\0';
    *port = colon + 1;
    *host = *address ? address : NULL;
    const size_t n = strlen(address);
    if (n && address[0] == '[') {
        if (address[n - 1] != ']') return false;
        address[n - 1] = '\0';
        *host = address + 1;
    } else if (strchr(address, ':')) {
        return false;
    }
    const size_t digits = strspn(*port, "0123456789");
    return digits && !(*port)[digits] && digits <= 5 && atoi(*port) <= UINT16_MAX;
}

static void set_port(struct sockaddr *address, in_port_t port)
{
    if (address->sa_family == AF_INET6)
        ((struct sockaddr_in6 *)(void *)address)->sin6_port = port;
    else
        ((struct sockaddr_in *)(void *)address)->sin_port = port;
}

static in_port_t port_of(int fd)
{
    struct sockaddr_in6 name = {0}; // the port is at the same place in both
    socklen_t size = sizeof name;
    return getsockname(fd, (struct sockaddr *)&name, &size) == 0 ? name.sin6_port : 0;
}

static int listen_at(const struct addrinfo *a)
{
    const int on = 1;
    const int fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (fd < 0) return -1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (a->ai_family == AF_INET6) setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    if (bind(fd, a->ai_addr, a->ai_addrlen) == 0 && listen(fd, CLIENTS) == 0) return fd;
    const int error = errno;
    close(fd);
    errno = error;
    return -1;
}

// Listens at all addresses that a name has. A system may lack IPv6, or an address of it: one is enough.
static void listen_at_all(struct serve *s, const struct addrinfo *all)
{
    in_port_t port = 0; // where any will do: the same at each
    int error = 0;
    for (const struct addrinfo *a = all; a && s->listeners < LISTENERS; a = a->ai_next) {
        if (port) set_port(a->ai_addr, port);
        const int fd = listen_at(a);
        if (fd < 0) error = errno;
        if (fd < 0) continue;
        s->listener[s->listeners++] = fd;
        port = port_of(fd);
    }
    errno = error;
}

static void say_where(const struct serve *s)
{
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getsockname(s->listener[0], (struct sockaddr *)&name, &size) != 0 ||
        getnameinfo((struct sockaddr *)&name, size, host, sizeof host, port, sizeof port,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        return;
    complain(strchr(host, ':') ? "metrics are at http://[%s]:%s/metrics"
                               : "metrics are at http://%s:%s/metrics",
             host, port);
}

struct serve *serve_open(const char *address)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *all;
    char *copy = need(strdup(address)), *host, *port;
    struct serve *s = NULL;
    if (!split(copy, &host, &port)) {
        complain("--listen=%s: takes ADDRESS:PORT, [ADDRESS]:PORT or :PORT", address);
        free(copy);
        return NULL;
    }
    const int result = getaddrinfo(host, port, &hints, &all);
    if (result == 0) {
        s = need(calloc(1, sizeof *s));
        listen_at_all(s, all);
        const int error = errno;
        freeaddrinfo(all);
        errno = error;
    }
    if (s && s->listeners) {
        say_where(s);
    } else {
        complain("--listen=%s: %s", address, result ? gai_strerror(result) : strerror(errno));
        free(s);
        s = NULL;
    }
    free(copy);
    return s;
}

static void drop(struct serve *s, int i)
{
    struct client *c = s->client[i];
    close(c->fd);
    page_drop(c->page);
    free(c);
    s->client[i] = s->client[--s->clients];
}

void serve_close(struct serve *s)
{
    if (!s) return;
    while (s->clients) drop(s, 0);
    for (int i = 0; i < s->listeners; i++) close(s->listener[i]);
    free(s);
}

// Who has to go when all places are taken: whoever has taken longest to ask, or to go; else to be served.
static int who_goes(const struct serve *s)
{
    int worst = 0;
    for (int i = 1; i < s->clients; i++) {
        const struct client *c = s->client[i], *w = s->client[worst];
        const bool served = c->state == WRITING, worst_served = w->state == WRITING;
        if (served != worst_served ? worst_served : c->deadline < w->deadline) worst = i;
    }
    return worst;
}

static void take_clients(struct serve *s, int listener)
{
    for (int i = 0; i < ACCEPTED_AT_ONCE; i++) {
        struct sockaddr_storage from;
        socklen_t size = sizeof from;
        const int fd = accept4(listener, (struct sockaddr *)&from, &size, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM))
            s->pause_until = now_ms() + PAUSE_MS;
        if (fd < 0) return; // another error is that of one connection, and tried again
        if (s->clients == CLIENTS) drop(s, who_goes(s));
        struct client *c = need(calloc(1, sizeof *c));
        c->fd = fd;
        c->deadline = now_ms() + READING_MS;
        s->client[s->clients++] = c;
    }
}

static void answer(struct client *c, enum http_status status, struct page *page, bool head_only)
{
    char text[64];
    snprintf(text, sizeof text, "%d %s\n", (int)status, http_reason(status));
    if (!page) page = page_new(need(strdup(text)), strlen(text), "text/plain; charset=utf-8");
    c->head_n = (size_t)snprintf(
        c->head, sizeof c->head,
        "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n%s\r\n",
        (int)status, http_reason(status), page->type, page->n,
        status == HTTP_METHOD_NOT_ALLOWED ? "Allow: GET, HEAD\r\n"
        : status == HTTP_UNAVAILABLE      ? "Retry-After: 1\r\n"
                                          : "");
    if (head_only) {
        page_drop(page);
        page = NULL;
    }
    c->page = page;
    c->sent = 0;
    c->state = WRITING;
    c->deadline = now_ms() + WRITING_MS;
}

static void answer_request(struct client *c, struct slice head, serve_page *page, void *context)
{
    static const char home[] = "<!DOCTYPE html><title>preclose</title><a href=\"/metrics\">metrics</a>\n";
    struct http_request r;
    const enum http_status status = http_read(head, &r);
    struct page *found = NULL;
    if (status != HTTP_OK) {
        answer(c, status, NULL, false);
        return;
    }
    if (slice_is(r.path, "/")) found = page_new(need(strdup(home)), strlen(home), "text/html; charset=utf-8");
    const bool metrics = slice_is(r.path, "/metrics");
    if (metrics) found = page(context, r.openmetrics);
    answer(c, found ? HTTP_OK : metrics ? HTTP_UNAVAILABLE : HTTP_NOT_FOUND, found, r.head);
}

// Each of these returns false when the connection is done with.

static bool receive(struct client *c, serve_page *page, void *context)
{
    const ssize_t n = recv(c->fd, c->request + c->n, sizeof c->request - c->n, MSG_DONTWAIT);
    if (n < 0) return errno == EAGAIN || errno == EINTR;
    if (n == 0) return false;
    c->n += (size_t)n;
    const struct slice all = {c->request, c->n};
    const size_t head = http_head(all);
    if (head)
        answer_request(c, (struct slice){c->request, head}, page, context);
    else if (c->n == sizeof c->request)
        answer(c, HTTP_TOO_LARGE, NULL, false);
    return true;
}

static bool transmit(struct client *c)
{
    const size_t body = c->page ? c->page->n : 0;
    while (c->sent < c->head_n + body) {
        const bool in_head = c->sent < c->head_n;
        const char *from = in_head ? c->head + c->sent : c->page->text + (c->sent - c->head_n);
        const size_t left = in_head ? c->head_n - c->sent : c->head_n + body - c->sent;
        const ssize_t n =
            send(c->fd, from, left, MSG_DONTWAIT | MSG_NOSIGNAL | (in_head && body ? MSG_MORE : 0));
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        c->sent += (size_t)n;
    }
    page_drop(c->page);
    c->page = NULL;
    // Closed with bytes unread, the connection would be reset, and the client might lose the answer.
    if (shutdown(c->fd, SHUT_WR) != 0) return false;
    c->state = LINGERING;
    c->deadline = now_ms() + LINGERING_MS;
    return true;
}

static bool drain(struct client *c)
{
    char nowhere[16384];
    const ssize_t n = recv(c->fd, nowhere, sizeof nowhere, MSG_DONTWAIT);
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static bool go_on(struct client *c, serve_page *page, void *context)
{
    bool goes_on = true;
    if (c->state == READING) goes_on = receive(c, page, context);
    if (goes_on && c->state == WRITING) goes_on = transmit(c);
    if (goes_on && c->state == LINGERING) goes_on = drain(c);
    return goes_on;
}

static int wait_for(struct pollfd *fds, int n, int ms, const sigset_t *mask)
{
    const struct timespec time = {ms / 1000, ms % 1000 * 1000000L};
    return ppoll(fds, (nfds_t)n, &time, mask);
}

void serve_wait(struct serve *s, int ms, const sigset_t *mask, serve_page *page, void *context)
{
    struct pollfd fds[LISTENERS + CLIENTS];
    const int clients = s ? s->clients : 0, listeners = s && now_ms() >= s->pause_until ? s->listeners : 0;
    for (int i = 0; i < clients; i++) {
        const struct client *c = s->client[i];
        fds[i] = (struct pollfd){c->fd, c->state == WRITING ? POLLOUT : POLLIN, 0};
    }
    for (int i = 0; i < listeners; i++) fds[clients + i] = (struct pollfd){s->listener[i], POLLIN, 0};
    if (wait_for(fds, clients + listeners, ms, mask) < 0) return;
    const int64_t now = now_ms();
    // From the last on: the one that takes a dropped one's place has been seen to.
    for (int i = clients - 1; i >= 0; i--)
        if ((fds[i].revents && !go_on(s->client[i], page, context)) || s->client[i]->deadline <= now)
            drop(s, i);
    for (int i = 0; i < listeners; i++)
        if (fds[clients + i].revents) take_clients(s, fds[clients + i].fd);
}
