"""The program's calls answer as they do without the library, errno included; calls that fail cut nothing."""

from lib import check, equal, test, victim


def same_as_without(scenario, **parameters):
    without = victim(scenario, lib=False, **parameters)
    done = victim(scenario, **parameters)
    for (key, wanted), (_, got) in zip(without.lines, done.lines):
        equal(got, wanted, key)
    equal(len(done.lines), len(without.lines), 'lines')
    return done


@test('results/{of}', of=['close', 'dup2', 'limit', 'close_range', 'stream-other'])
def results(of):
    done = same_as_without('results', of=of)
    if of != 'stream-other':
        equal(done['alive'], 'yes', 'the connection after calls that fail')


@test('results/stream/{by}', by=['fclose', 'freopen'])
def stream(by):
    done = same_as_without('results', of='stream', by=by)
    equal(done['peer'], 'eof after 8', 'what was buffered')


@test('results/stream-full/{by}', by=['fclose', 'freopen'])
def stream_full(by):
    without = victim('results', lib=False, of='stream-full', by=by)
    done = victim('results', of='stream-full', by=by)
    equal(done['broken pipes'], '0', 'SIGPIPE')
    # freopen succeeds: what it leaves in errno then says nothing.
    wanted, got = (run['end'] if by == 'fclose' else run['end'].partition(',')[0] for run in (without, done))
    equal(got, wanted, by)


@test('results/cuts-nothing/{of}', of=['close', 'dup2', 'limit', 'close_range'])
def cuts_nothing(of):
    """No close of a socket is told before the check that it lives, beside those that did close one."""
    done = victim('results', of=of)
    for finding in done.findings('close'):
        check(finding['action'] in ('shutdown', 'none'), f'{finding}')
    done.none('blocked-threads', 'left-blocked', 'unread-reset', 'linger-reset')
