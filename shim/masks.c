#include "masks.h"

#include <signal.h>

static uint64_t bit(int sig)
{
    return 1ull << (sig - 1);
}

bool masks_outside(const struct masks *m, uint64_t mask)
{
    const uint64_t apart = bit(SIGKILL) | bit(SIGSTOP) | MASKS_LIBC; // in no mask, or in any
    bool usual = false;
    mask &= ~apart;
    for (unsigned i = 0; i <= m->n; i++) {
        uint64_t base = (i < m->n ? m->usual[i] : 0) & ~apart;
        usual |= base == mask;
        for (int sig = 1; sig <= 64; sig++) {
            uint64_t added = m->added[sig - 1] & ~apart;
            if (added && !(base & bit(sig)) && (base | added) == mask) return false;
        }
    }
    return usual && !m->lax;
}
