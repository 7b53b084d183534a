"""How the checks of this directory tell what they found: a line each, and what is wrong below it."""

failed = 0


def check(name, wrong):
    global failed
    print(f'FAIL {name}:' if wrong else f'ok   {name}')
    for line in wrong:
        print(f'  {line}')
    failed += bool(wrong)


def skip(name, why):
    print(f'skip {name} ({why})')


def status():
    return int(failed > 0)
