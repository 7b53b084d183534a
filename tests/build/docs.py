#!/usr/bin/python3
"""What README and the manual pages say against the tables of shim/ and cli/: docs.py BUILD. A line per check, wrong lines
below."""

import pathlib
import re
import shutil
import subprocess
import sys

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(TOP / 'bench'))
sys.dont_write_bytecode = True
import checks
import page as costs
from checks import check


def rows(table, where='shim'):
    """The rows of a .def table: (macro, [arguments]), strings without quotes and joined, as the compiler joins them."""
    text = re.sub(r'^//.*', '', (TOP / where / f'{table}.def').read_text(), flags=re.M)
    for macro, arguments in re.findall(r'^(\w+)\(((?:"(?:[^"\\]|\\.)*"|[^")])*)\)', text, re.M):
        words = re.findall(r'((?:"(?:[^"\\]|\\.)*"\s*)+|[^",]+)(?:,|$)', arguments)
        yield macro, [''.join(re.findall(r'"((?:[^"\\]|\\.)*)"', word)) if '"' in word else word.strip() for word in words]


SETTINGS = {row[0]: row for macro, row in rows('settings') if macro == 'SETTING'}  # name, how, field, values, default
EVENTS = {row[1]: row[2].lower() for _, row in rows('findings')}
FIELDS = [row[0] for macro, row in rows('fields') if macro == 'FIELD']
PARTS = {row[0] for macro, row in rows('fields') if macro != 'FIELD'}
ACTIONS = {row[1] for macro, row in rows('actions') if macro == 'ACTION'}
REASONS = {row[1] for macro, row in rows('actions') if macro == 'REASON'} - {''}
KINDS = {row[1] for _, row in rows('kinds')}
STATES = {row[1] for _, row in rows('states')}

COMMANDS = {row[0]: row[1] for _, row in rows('commands', 'cli')}
OPTIONS = [row for macro, row in rows('options', 'cli') if macro == 'OPTION']



def differences(said, true):
    return [f'not said: {x}' for x in sorted(true - said)] + [f'there is no: {x}' for x in sorted(said - true)]


def literals(values):
    """The alternatives of a setting that are typed as they are."""
    return {x for x in values.split('|') if re.fullmatch(r'[a-z][a-z0-9-]*', x)}


def readme_table(text, head):
    """The cells of a table of README whose first column is called so."""
    lines = text[text.index(f'| {head} |'):].split('\n\n')[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip('|').split(' | ')] for line in lines]


def code(cell):
    return re.findall(r'`([^`]+)`', cell)


def readme():
    text = (TOP / 'README.md').read_text()
    settings = {code(row[0])[0].removeprefix('PRECLOSE_'): row for row in readme_table(text, 'variable')}
    wrong = differences(set(settings), set(SETTINGS))
    for name in settings.keys() & SETTINGS.keys():
        _, values, default, _ = settings[name]
        true = SETTINGS[name]
        if code(default)[0] != true[4]:
            wrong.append(f'{name}: default {default}, not {true[4]}')
        said = {x for x in code(values) if re.fullmatch(r'[a-z][a-z0-9-]*', x)}
        wrong += [f'{name}: {x}' for x in differences(said, literals(true[3]))]
    wrong += [f'there is no: {x}' for x in set(re.findall(r'PRECLOSE_([A-Z_]+)', text)) - set(SETTINGS)]
    check("README's settings are those of settings.def", wrong)

    events = {code(row[0])[0]: row[1] for row in readme_table(text, 'event')}
    wrong = differences(set(events), set(EVENTS))
    wrong += [f'{e}: {events[e]}, not {EVENTS[e]}' for e in events.keys() & EVENTS.keys() if events[e] != EVENTS[e]]
    check("README's events are those of findings.def", wrong)

    fields = code(re.search(r'^Fields \(.*?\n\n', text, re.M | re.S)[0].partition('): ')[2])
    wrong = differences({x for x in fields if re.fullmatch('[a-z_]+', x)} - PARTS, set(FIELDS) - PARTS)
    check("README's fields are those of fields.def", wrong)

    table = readme_table(text, 'action')
    wrong = differences({code(row[0])[0] for row in table}, ACTIONS - {'drain'} if 'DRAIN' not in USED else ACTIONS)
    reasons = {x for row in table if code(row[0]) == ['none'] for x in re.findall(r'\((`[^)]*`)\)', row[1])}
    wrong += differences({x for cell in reasons for x in code(cell)}, REASONS - {'sandboxed'})
    check("README's actions and reasons are those of actions.def", wrong)


    wrong = set((costs.between(text) or '').splitlines()) ^ set(costs.table(TOP / 'docs' / 'bench.csv').splitlines())
    check("README's costs are those of bench.csv", [f'in one only: {x}' for x in sorted(wrong)])


# An action that nothing takes is not promised.
USED = {name for name in ('DRAIN',) if f'ACTION_{name}' in (TOP / 'shim' / 'decide.c').read_text()}


def plain(text):
    return re.sub(r'\\f[BIPR]|\\&', '', text).replace('\\-', '-').replace('\\(ti', '~').replace('\\e', '\\')


def entries(page, section, end):
    """What the .TP entries of a part of the page are called."""
    part = page[page.index(section):]
    part = part[:part.index(end, 1)]
    return [plain(x).removeprefix('.B ') for x in re.findall(r'^\.TP\n(.*)', part, re.M)]


def manual(path):
    page = pathlib.Path(path).read_text()
    settings = set(entries(page, '.SH ENVIRONMENT', '.SH FINDINGS'))
    check("the page's settings are those of settings.def", differences(settings, {f'PRECLOSE_{x}' for x in SETTINGS}) +
          [f'there is no: PRECLOSE_{x}' for x in set(re.findall(r'PRECLOSE_([A-Z_]+)', page)) - set(SETTINGS) - {'NAME'}])
    events = set(entries(page, '.SH FINDINGS', '.SS Fields'))
    check("the page's events are those of findings.def", differences(events, {f'{x} ({EVENTS[x]})' for x in EVENTS}))
    fields = [x.split(' (')[0] for x in entries(page, '.SS Fields', '.SS Fields of a thread')]
    check("the page's fields are those of fields.def", differences(set(fields), set(FIELDS)) +
          (['in another order'] if fields != FIELDS else []))
    actions = set(entries(page, '.SS What is done', '.SS Why nothing'))
    reasons = set(entries(page, '.SS Why nothing', '.SH ENVIRONMENT'))
    check("the page's actions and reasons are those of actions.def", differences(reasons, REASONS) +
          differences(actions, ACTIONS if 'DRAIN' in USED else ACTIONS - {'drain'}))
    said = {plain(x) for x in re.findall(r'^(?:\.BR? |.*\\fB)([a-z]+(?:\\-[a-z0-9]+)+)', page, re.M)}
    known = set(EVENTS) | REASONS | KINDS | STATES
    check('the page names no event, reason, kind or state that is not there', [f'there is no: {x}' for x in sorted(said - known)])


def command_page(path):
    """Each part of it has the options of its command, as they are typed."""
    page = pathlib.Path(path).read_text()
    parts = {'RUN': ('.SH RUNNING', '.SH OTHER')} | {
        id: (f'.SS preclose {name}', '.S') for id, name in COMMANDS.items() if name}
    for id, (start, end) in parts.items():
        said = {x for head in entries(page, start, end) for x in re.findall(r'(?:^|(?<=[ ,]))--?[A-Za-z][a-z-]*', head)}
        true = {x for row in OPTIONS if row[0] == id
                for x in (f'-{row[2][1]}' if row[2] != '0' else '', f'--{row[3]}' if row[3] else '') if x}
        if id == 'RUN':
            true |= {'--' + x.lower().replace('_', '-') for x in SETTINGS}
        check(f"the command's page has the options of {COMMANDS[id] or 'run'}", differences(said, true))
    synopsis = plain(page[page.index('.SH SYNOPSIS'):page.index('.SH DESCRIPTION')])
    check("the command's page has every command", [f'not in the synopsis: {x}' for x in COMMANDS.values() if f'preclose {x}'.strip() not in synopsis])
    text = plain(page)
    known = set(EVENTS) | {'--help', '--version'}
    options = {'--' + x.lower().replace('_', '-') for x in SETTINGS} | {f'--{row[3]}' for row in OPTIONS}
    check("the command's page names no option that is not there",
          [f'there is no: {x}' for x in sorted(set(re.findall(r'(?<![\w-])--[a-z][a-z-]*', text)) - options - known)])


def clean(path):
    name = pathlib.Path(path).name
    for tool, command in (('groff', ['groff', '-ww', '-man', '-Tutf8', '-z', path]), ('mandoc', ['mandoc', '-Tlint', path])):
        if not shutil.which(tool):
            print(f'skip {name} is clean to {tool} (no {tool} here)')
            continue
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        check(f'{name} is clean to {tool}', (done.stdout + done.stderr).splitlines())


readme()
manual(f'{sys.argv[1]}/libpreclose.7')
command_page(f'{sys.argv[1]}/preclose.1')
clean(f'{sys.argv[1]}/libpreclose.7')
clean(f'{sys.argv[1]}/preclose.1')
sys.exit(checks.status())
