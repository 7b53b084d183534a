"""preclose report --html, in a browser: it loads without an error, sorts, filters, and says what the text says."""

import json
import re

import logs
from browser import Browser
from command import path, preclose
from lib import check, equal, test

ROWS = 'return [...document.querySelectorAll("#places tbody tr.row")].map(row => [...row.cells].map(cell => cell.textContent))'
TITLES = 'return [...document.querySelectorAll("#places th")].map(th => th.textContent)'


def made(findings, name='page.html'):
    with open(path('log'), 'wb') as log:
        log.write(logs.as_json(findings))
    preclose('report', '--no-symbols', '--html', path(name), path('log'))
    return path(name)


def rows(page):
    titles = page.run(TITLES)
    return [dict(zip(titles, row)) for row in page.run(ROWS)]


def number(text):
    return int(text.replace(',', ''))


@test('html/says-what-the-text-says', deadline=120)
def same_numbers():
    findings = logs.make(4000, seed=11)
    findings.append(logs.summary(findings, leaks=[{'opened': {'call': 'accept4', 'at': ['/srv/server+0x11']}, 'now': 12, 'most': 40,
                                                   'oldest_ms': 7380000, 'trend': 'growing'}]))
    where = made(findings)
    text = preclose('report', '--no-symbols', '--all', path('log')).out
    with Browser() as page:
        page.open(where)
        equal(page.console(), [], 'console')
        equal(page.requests(), ['file://' + where], 'requests')
        equal(page.run('return document.getElementById("span").textContent').split(';')[0], text.split(';')[0], 'first line')
        for name, count in re.findall(r'(hangs|leaks|resets|misuse|other) ([\d,]*\d)', text.splitlines()[1]):
            equal(page.run(f'return document.querySelector("#tile-{name} b").textContent'), count, f'tile {name}')
        in_text = [(number(n), event, place) for n, event, place in
                   re.findall(r'^ *([\d,]+) ([\w-]+)(?: (?:opened |closed |)by (.*))?$', text, re.MULTILINE) if '-' in event]
        in_page = [(number(r['count']), r['event'], r['where'].partition('by ')[2]) for r in rows(page)]
        equal(len(in_page), len(in_text), 'places')
        for ours, theirs in zip(in_page, in_text):
            equal(ours, theirs, 'a place')
        notes = page.run('return document.getElementById("notes").textContent')
        check('12 opened by accept4' in notes and '2 h 3 min' in notes and 'growing' in notes, notes)
        bars = page.run('return [...document.querySelectorAll("#timeline title")].map(title => title.textContent)')
        total = sum(number(n) for bar in bars for n in re.findall(r'(?:hangs|leaks|resets|misuse|other) ([\d,]+)', bar))
        equal(total, sum(count for count, _, _ in in_text), 'the timeline adds up')


@test('html/sorts-and-filters', deadline=120)
def sorts():
    where = made(logs.make(2000, seed=12))
    with Browser() as page:
        page.open(where)
        for key, title, convert in (('count', 'count', number), ('event', 'event', str), ('first', 'first', str)):
            seen = []
            for _ in range(2):
                page.run(f'document.querySelector("#places th button[data-key={key}]").click()')
                seen.append([convert(row[title]) for row in rows(page)])
                check(seen[-1] in (sorted(seen[-1]), sorted(seen[-1], reverse=True)), f'not sorted by {key}')
            check(seen[0] != seen[1], f'a second click on {key} does not turn it round')
        equal(page.run('return document.querySelector("#places th:nth-child(6)").getAttribute("aria-sort")'), 'descending', 'aria-sort')
        every = len(rows(page))
        page.run('const s = document.getElementById("search"); s.value = "close-wait 0x1010"; s.dispatchEvent(new Event("input"))')
        few = rows(page)
        check(0 < len(few) < every and all(row['event'] == 'close-wait' for row in few), few)
        page.run('const s = document.getElementById("search"); s.value = ""; s.dispatchEvent(new Event("input"))')
        page.run('document.getElementById("tile-misuse").click()')
        equal({row['event'] for row in rows(page)}, {'double-close', 'use-after-close'}, 'events of a tile')
        page.run('document.getElementById("tile-misuse").click()')
        page.run('const s = document.getElementById("level"); s.value = "notice"; s.dispatchEvent(new Event("change"))')
        equal({row['severity'] for row in rows(page)}, {'notice'}, 'severities')
        page.run('const s = document.getElementById("level"); s.value = ""; s.dispatchEvent(new Event("change"))')
        page.run('document.querySelector("#places tbody tr.row").click()')
        check(page.run('return document.querySelector("#places tr.more").textContent').count('mend it') == 1, 'no details')
        equal(page.run('return document.querySelectorAll("#recent tbody tr").length'), 100, 'findings one by one')
        page.run('document.getElementById("more").click()')
        equal(page.run('return document.querySelectorAll("#recent tbody tr").length'), 600, 'more of them')
        themes = []
        for _ in range(2):
            themes.append(page.run('return getComputedStyle(document.body).backgroundColor'))
            page.run('document.getElementById("theme").click()')
        check(themes[0] != themes[1], 'light and dark are the same')
        equal(page.console(), [], 'console')


HOSTILE = ['</script><script>document.title="taken"</script>', '<img src=x onerror="document.title=\'taken\'">', '<!--', '@DATA@',
           '\u2028\u2029', '"\\', '__proto__', 'constructor']


@test('html/hostile-names', deadline=120)
def hostile():
    findings = logs.make(len(HOSTILE), kinds=[k for k in logs.KINDS if k[0] == 'blocked-threads'])
    for finding, name in zip(findings, HOSTILE):
        finding.update(comm=name, text='text ' + name, peer=name)
        finding['closed']['at'] = [f'/srv/{name}+0x1']
        finding['closed']['call'] = name
        finding['threads'] = [{'tid': 1, 'name': name, 'call': name}]
    extra = logs.make(1)[0] | {'event': HOSTILE[0], 'level': 'warning'}
    where = made(findings + [extra])
    with Browser() as page:
        page.open(where)
        equal(page.console(), [], 'console')
        equal(page.run('return document.title'), 'preclose report', 'title')
        equal(len(rows(page)), len(HOSTILE) + 1, 'rows')
        page.run('document.querySelectorAll("#places tbody tr.row").forEach((_, i, all) => '
                 'document.querySelectorAll("#places tbody tr.row")[i].click())')
        equal(page.run('return document.querySelectorAll("img, script").length'), 2, 'elements made of names')
        equal(page.run('return document.querySelectorAll("tr.more").length'), len(HOSTILE) + 1, 'details')
        equal(page.run('return document.title'), 'preclose report', 'title')
        equal(page.console(), [], 'console after a click on each')


@test('html/nothing', deadline=60)
def nothing():
    where = made([])
    with Browser() as page:
        page.open(where)
        equal(page.console(), [], 'console')
        equal(page.run('return document.getElementById("span").textContent'), 'nothing found in 0 lines', 'first line')
        equal(page.run('return [...document.querySelectorAll("section")].filter(s => !s.hidden).length'), 1, 'sections shown')


@test('html/with-json')
def with_json():
    """--html and --json at once; the page has the same data inside."""
    findings = logs.make(100)
    with open(path('log'), 'wb') as log:
        log.write(logs.as_json(findings))
    found = json.loads(preclose('report', '--no-symbols', '--json', '--html', path('page'), path('log')).out)
    with open(path('page')) as page:
        inside = json.loads(re.search(r'id="data">(.*?)</script>', page.read(), re.DOTALL)[1])
    del inside['recent']
    equal(inside, found, 'data')
