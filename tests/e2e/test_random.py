"""1,000 closes in random known states, each finding held against what the kernel and the peer did; and some more
with other settings."""

import random
import re

from lib import check, equal, need_own_network, test, victim

PARTS = 4  # processes, each with a network of its own
seed, closes = None, 1000


def configure(wanted_seed, wanted_closes):
    global seed, closes
    seed = wanted_seed if wanted_seed is not None else random.randrange(1, 1 << 31)
    closes = wanted_closes or closes


def records(done, kind):
    for line in done.out.splitlines():
        if line.startswith(kind + ' '):
            known = dict(item.split('=', 1) for item in line.split()[1:])
            yield {k: int(v) if re.fullmatch(r'-?\d+', v) else v for k, v in known.items()}


def expected_action(known, mode):
    """Action and reason that the contract gives this close."""
    if not known['last']:
        return 'none', 'duplicated'
    if known['holder'] == 'forked':
        return 'none', 'shared'
    if known['holder'] == 'exited' and known['woken'] != 'yes':
        return 'none', 'shared'  # only blocked threads are worth a proof, which may be given up
    if known['ours'] == 'shut':
        return 'none', 'already-shut'
    if mode == 'never':
        return 'none', 'setting'
    if known['family'].startswith('tcp') and known['linger'] == 0:
        return 'abort', None
    stream = known['family'] in ('tcp-accepted', 'tcp-connected')
    connected = known['state'] != 'closed' if stream else \
        known['family'] == 'unix-stream' and known['peer'] != 'closed'
    if mode == 'reset' and connected and known['unread']:
        return 'abort', None
    return 'shutdown', None


def expected_findings(known, saw):
    """(findings that must be, findings that may be) beside `close`, from what the kernel and the peer did."""
    must, may = set(), set()
    stream = known['family'] in ('tcp-accepted', 'tcp-connected')
    # A connection that is held on, or is at its end, or had nothing unread and was not to be aborted, is reset by no close:
    # the kernel has answered a late segment of another. For bytes unread it counts the abort (TCPAbortOnClose).
    cause = known['abort_close'] or known['unread'] or known['linger'] == 0
    if stream and known['resets'] and known['last'] and known['state'] != 'closed' and cause:
        # Where a sender was blocked the reset came from a disconnect: the kernel counts no close then.
        told = {'unread-reset'} if known['abort_close'] or known['linger'] != 0 else {'linger-reset'}
        if known['unread'] and known['linger'] == 0:
            may |= {'unread-reset', 'linger-reset'}  # reset on purpose, with bytes unread: either is true
        elif known['holder'] == 'exited' and known['woken'] != 'yes':
            may |= told  # not known to be the last hold
        else:
            must |= told
    if known['family'] == 'unix-stream' and known['last'] and known['unread']:
        if known['holder'] in ('forked', 'exited') or known['peer'] == 'closed':
            may.add('unread-reset')
        if known['holder'] in ('sole', 'duplicated') and saw and saw['end'] == 'reset':
            must.add('unread-reset')
    if known['family'] == 'listener' and known['resets']:
        (must if known['holder'] in ('sole', 'duplicated') else may).add('backlog-reset')
    if known['woken'] == 'yes':
        must.add('blocked-threads')
    if known['woken'] == 'no' and known['last']:
        must.add('left-blocked')
    return must, may


def judge(known, saw, found, mode):
    events = [f['event'] for f in found]
    equal(events.count('close'), 1, f'close lines; all: {events}')
    line = next(f for f in found if f['event'] == 'close')
    equal((line['action'], line.get('reason')), expected_action(known, mode), 'action and reason')
    told = set(events) - {'close'}
    must, may = expected_findings(known, saw)
    check(must <= told, f'missing: {must - told}')
    check(told <= must | may, f'false: {told - must - may}')
    equal(len(events), len(set(events)), f'findings told twice: {events}')
    for finding in found:
        for key in ('unread', 'unsent', 'state'):
            if known['family'].startswith('tcp') and known['state'] != 'listen' and key in finding:
                equal(finding[key], known[key], f'{key} of {finding["event"]}')
        if finding['event'] == 'backlog-reset':
            equal(finding['backlog'], known['resets'], 'backlog')
        if finding['event'] == 'unread-reset':
            equal(finding['unread'], known['unread'], 'unread')
        if finding['event'] in ('blocked-threads', 'left-blocked'):
            equal([t['tid'] for t in finding['threads']], [known['tid']], 'threads')
    judge_connection(known, saw, line)


def judge_connection(known, saw, line):
    """What the peer got: all that was sent and a clean end, or a reset where one was asked for."""
    if not saw or not known['last'] or known['holder'] == 'forked' or known['family'] == 'listener':
        return
    if line['action'] == 'abort':
        equal(saw['end'], 'reset' if known['peer'] == 'open' and known['ours'] in ('open', 'rd') else saw['end'],
              'the peer saw')
    elif line['action'] == 'shutdown' and not known['unread']:
        equal((saw['end'], saw['bytes']), ('eof', saw['sent']), 'the peer saw')
    if known['blocked'] != 'none' and known['holder'] != 'exited':
        equal(known['woken'], 'yes', 'woken')


MOST_GIVEN_UP = 0.5  # of the proofs for threads whose socket a child had, before that is a failure


def proofs_made(done):
    proofs = [known['woken'] for known in records(done, 'record')
              if known['holder'] == 'exited' and known['woken'] != '-']
    check(proofs.count('no') <= MOST_GIVEN_UP * len(proofs),
          f'{proofs.count("no")} of {len(proofs)} proofs given up')


def check_run(done, mode='default'):
    found = {}
    for finding in done.findings():
        check('cookie' in finding and 'fd' in finding, f'a finding of no socket: {finding}')
        found.setdefault((finding['cookie'], finding['fd']), []).append(finding)
    seen = {}
    for saw in records(done, 'saw'):
        seen.setdefault(saw['n'], saw)
    wrong, count = [], 0
    for known in records(done, 'record'):
        count += 1
        try:
            judge(known, seen.get(known['n']), found.pop((known['cookie'], known['fd']), []), mode)
        except Exception as failure:
            wrong.append(f'{failure}\n    {known}\n    {seen.get(known["n"])}')
    for findings in found.values():
        for finding in findings:
            if finding['event'] != 'close':  # its own listeners, at the end
                wrong.append(f'a finding of no close: {finding}')
    return count, wrong


@test('random/{part}', part=range(PARTS), deadline=120)
def randomized(part):
    all_told_right(seed + part, 'default', {})


def all_told_right(this, mode, settings, **parameters):
    need_own_network()
    done = victim('random', settings=settings, seed=this, n=closes // PARTS, timeout=110, **parameters)
    count, wrong = check_run(done, mode)
    check(count >= closes // PARTS, f'{count} closes only')
    proofs_made(done)
    check(not wrong, f'seed {this}: {len(wrong)} of {count} closes are told wrong:\n' + '\n'.join(wrong[:10]))


@test('random/unread-reset', deadline=120)
def randomized_reset():
    all_told_right(seed + PARTS, 'reset', {'UNREAD': 'reset'})


@test('random/audit-only', deadline=120)
def randomized_never():
    """Nothing is done: what is told is what the kernel does by itself."""
    all_told_right(seed + PARTS + 1, 'never', {'SHUTDOWN': 'never'}, waiters=0)


@test('random/proof-of-harm')
def can_fail():
    """The check sees what a library that reports nothing, or a careless shutdown, does not get right."""
    need_own_network()
    done = victim('random', lib=False, seed=1, n=20, hang=20)
    check(len(check_run(done)[1]) >= 20, 'a run without the library was not noticed')
