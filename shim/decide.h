// What to do about a socket that the program is letting go of. Pure: facts and settings in, an action
// and findings out; no system call, no global, no clock.
#ifndef PRECLOSE_DECIDE_H
#define PRECLOSE_DECIDE_H

#include <stdbool.h>

#include "owners.h"
#include "probe.h"
#include "settings.h"
#include "track.h"

enum action {
#define ACTION(id, name) ACTION_##id,
#define REASON(id, name, text)
#include "actions.def"
#undef ACTION
#undef REASON
};

enum reason {
#define ACTION(id, name)
#define REASON(id, name, text) REASON_##id,
#include "actions.def"
#undef ACTION
#undef REASON
};

enum event {
#define EVENT(id, name, severity, when) EVENT_##id,
#include "findings.def"
#undef EVENT
    EVENT_COUNT
};

enum late { LATE_UNKNOWN, LATE_NOTHING, LATE_BYTES };

// All that a decision may rest on.
struct situation {
    const struct facts *facts;
    unsigned others;          // descriptors of this process that still hold the socket
    enum share share;         // who else may hold it
    enum owners proof;        // of SHARE_FORK and SHARE_INHERITED; OWNERS_UNKNOWN if it was not looked for
    bool stale;               // the descriptor is not the socket that was recorded
    unsigned flags;           // SOCK_*
    bool stuck;               // in an epoll set that it can't be taken out of
    bool io_uring;            // the process has an io_uring
    bool blocked_known;       // were the threads looked at to the end?
    unsigned blocked;         // threads of this process blocked on it, as far as is known
    bool blocked_sending;     // one of them at least is sending
    bool blocked_waiting;     // one of them at least is receiving or polling
    bool running;             // other threads ran at that moment: they too may be sending on it, unseen
    bool deadly;              // a shutdown would raise SIGPIPE in a sender, or may, and the process dies of it
    bool refused;             // the kernel has refused to disconnect a blocked sender
    bool undrained;           // there is no descriptor to be had to drain it on
    enum late late;           // what came of a drain that began with nothing unread
    enum tcp_state left_in;   // the state that the action has left it in; TCP_STATE_UNKNOWN: as facts->state
};

struct verdict {
    enum action action;
    enum reason reason;   // why ACTION_NONE; REASON_NONE for a kind that shutdown can't wake
    bool disconnect;      // ACTION_ABORT, TCP: a thread is sending, or may be, which only a disconnect wakes
    bool shut_both;       // ACTION_ABORT, unix: a sender is blocked, or may be, which only a shutdown both ways wakes
    bool fin_later;       // ACTION_DRAIN: SHUT_WR only when no thread can be sending, who would get SIGPIPE
    bool read_only;       // ACTION_SHUTDOWN: of the reading side only, as a sender could get SIGPIPE
    unsigned findings;    // 1 << EVENT_...
};

// The action and the findings for a socket that the program is letting go of. Pure.
void decide(const struct situation *s, const struct settings *set, struct verdict *v);

// Can the program's own close of this socket block so long that it is to be told? Only one that lingers waits
// (net/ipv4/af_inet.c inet_release, net/ipv4/tcp.c __tcp_close). Pure.
bool decide_times_close(const struct situation *s, const struct settings *set);

// Would knowing which threads are blocked on the socket change the action or a finding? Pure.
enum want {
    WANT_NOTHING, // no
    WANT_FINDING, // a finding only: worth a bounded effort
    WANT_ACTION,  // the action
};
enum want decide_wants_threads(const struct situation *s, const struct settings *set);

// Could the action raise SIGPIPE in a thread that is not seen to be sending? Pure.
bool decide_fears_sigpipe(const struct situation *s);

// Would a proof that no other process holds the socket change the action? Pure.
bool decide_wants_proof(const struct situation *s, const struct settings *set);

// Is a socket that this process has connected, or accepted, still a connection, so that its being open at exit is
// worth telling, and how badly? shared: another process may hold it, so that the exit may not close it. Pure.
bool decide_open_at_exit(const struct facts *f, bool shared, enum level *level);

// The names that findings print. Pure.
const char *action_name(enum action action);
const char *reason_name(enum reason reason);
const char *reason_text(enum reason reason); // "another descriptor of this process holds it"
const char *event_name(enum event event);
enum level event_level(enum event event);

#endif
