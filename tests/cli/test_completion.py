"""What the shells offer for a line that begins with preclose: each is asked itself."""

import os
import pty
import re
import select
import shlex
import subprocess
import time

import lib
from command import path, preclose
from lib import Failure, check, equal, program, test

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), '..', '..')
SHELLS = ['bash', 'zsh', 'fish']


def commands():
    """The names of the subcommands, as the table has them."""
    with open(os.path.join(TOP, 'cli', 'commands.def')) as table:
        return re.findall(r'^COMMAND\(\w+, "(\w+)"', table.read(), re.M)


def completion(shell):
    return os.path.join(os.path.dirname(lib.LIB), 'completion', f'preclose.{shell}')


def ask_bash(line):
    """The words as bash cuts them: an equals sign is one of its own."""
    words = [word for part in line.split(' ') for word in (re.split(r'(=)', part) if '=' in part else [part])]
    if words[-1] == '' and words[-2] == '=':
        del words[-1]
    script = f'source {shlex.quote(completion("bash"))}; COMP_WORDS=({shlex.join(words)}); COMP_CWORD={len(words) - 1}; ' \
             '_preclose preclose; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(['bash', '--norc', '-uc', script], capture_output=True, text=True, check=True, cwd=lib.SCRATCH)
    equal(done.stderr, '', f'standard error for {line!r}')
    return done.stdout.split('\n')


def ask_fish(line):
    script = f'source {shlex.quote(completion("fish"))}; complete -C {shlex.quote(line)}'
    done = subprocess.run([program('fish'), '--no-config', '-c', script], capture_output=True, text=True, check=True, cwd=lib.SCRATCH,
                          env={**os.environ, 'HOME': lib.SCRATCH, 'XDG_DATA_DIRS': '/nowhere'})
    equal(done.stderr, '', f'standard error for {line!r}')
    return [re.sub(r'^--[a-z-]+=', '', found.split('\t')[0]) for found in done.stdout.split('\n')]


# Says what would be offered, in place of offering it; what only counts or filters goes its way.
ZSH = r'''
PS1= PS2=; unsetopt zle_bracketed_paste prompt_cr prompt_sp; unset zle_bracketed_paste; stty -echo
fpath=(%s $fpath); autoload -Uz compinit; compinit -u -D
bindkey '^I' complete-word
compadd() {
  if [[ ${@[1,(i)(-|--)]} == *-(O|A|D)\ * ]]; then builtin compadd "$@"; return; fi
  local -a hits; builtin compadd -A hits "$@"
  local hit; for hit in $hits; do print -r -- "<${IPREFIX##--*=}$hit>"; done
  builtin compadd "$@"
}
_tell_end() { print '<''END>' }
comppostfuncs=(_tell_end)
print '<''READY>'
'''


def read_until(fd, mark):
    text, end = '', time.monotonic() + 30
    while mark not in text:
        if not select.select([fd], [], [], max(0, end - time.monotonic()))[0]:
            raise Failure(f'zsh does not say {mark}: {text!r}')
        text += os.read(fd, 65536).decode(errors='replace')
    return text


def ask_zsh(line):
    program('zsh')
    os.makedirs(path('zsh'), exist_ok=True)
    if not os.path.exists(path('zsh/_preclose')):
        os.symlink(completion('zsh'), path('zsh/_preclose'))
    with open(path('init'), 'w') as file:
        file.write(ZSH % shlex.quote(path('zsh')))
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(lib.SCRATCH)
        os.execve(program('zsh'), ['zsh', '-f', '-i'], {'PATH': os.environ['PATH'], 'HOME': lib.SCRATCH, 'TERM': 'dumb'})
    try:
        os.write(fd, f'source {shlex.quote(path("init"))}\n'.encode())
        read_until(fd, '<READY>')
        os.write(fd, line.encode() + b'\t')
        return re.findall(r'<(.*?)>', read_until(fd, '<END>').replace('<END>', ''))
    finally:
        os.close(fd)
        os.kill(pid, 9)
        os.waitpid(pid, 0)


ASK = {'bash': ask_bash, 'zsh': ask_zsh, 'fish': ask_fish}


def offered(shell, line):
    return {word.rstrip('=') for word in ASK[shell](line) if word}


# A line, what is offered (all of it, or some of it with more), and what is not.
EXACTLY = {
    'preclose report --fol': {'--follow'},
    'preclose --format=': {'text', 'json'},
    'preclose --format=js': {'json'},
    'preclose -f ': {'text', 'json'},
    'preclose -o x --level ': {'warning', 'notice', 'info'},
    'preclose --sigpipe=ignore --unread=': {'shutdown', 'reset', 'drain'},
    'preclose scan --state=close-': {'close-wait'},
    'preclose metrics --format=o': {'openmetrics'},
    'preclose top -s O': {'OLDEST'},
    'preclose report --html=fin': {'findings.log'},
    'preclose -o find': {'findings.log'},
    'preclose report find': {'findings.log'},
    'preclose report --root fi': {'fine'},
}


@test('completion/{shell}/{line}', shell=SHELLS, line=list(EXACTLY))
def exactly(shell, line):
    open(path('findings.log'), 'w').close()
    if '--root' in line:
        os.mkdir(path('fine'))
    equal({word.rstrip('/') for word in offered(shell, line)}, EXACTLY[line], line)


@test('completion/{shell}/several-states', shell=SHELLS)
def states(shell):
    found = offered(shell, 'preclose scan -s close-wait,li')
    check(found & {'close-wait,listen', 'listen'}, f'{found}')


@test('completion/{shell}/process-ids', shell=SHELLS)
def pids(shell):
    mine = str(os.getpid())
    check(mine in offered(shell, f'preclose free -n {mine[:-1]}'), 'the test itself is not offered')


@test('completion/{shell}/commands-and-programs', shell=SHELLS)
def first_word(shell):
    found = offered(shell, 'preclose sc')
    check('scan' in found, f'{found}')
    check('cat' in offered(shell, 'preclose ca'), 'no program')
    check('cat' in offered(shell, 'preclose --format json -- ca'), 'no program behind --')
    check('scan' not in offered(shell, 'preclose -q sc'), 'a command is none behind an option')


@test('completion/{shell}/of-the-program', shell=SHELLS)
def of_the_program(shell):
    """Behind PROGRAM, what is typed is for that."""
    open(path('findings.log'), 'w').close()
    for line in ('preclose cat find', 'preclose --level info cat find', 'preclose -- cat find', 'preclose --format=json cat find'):
        check('findings.log' in offered(shell, line), f'{line}: no file')
    check('--output' not in offered(shell, 'preclose cat --'), 'options of preclose behind the program')


@test('completion/{shell}/every-option/{command}', shell=SHELLS, command=['run', *commands()])
def every_option(shell, command):
    """As --help has them, and no others."""
    name = [] if command == 'run' else [command]
    text = preclose(*name, '--help').out
    wanted = set(re.findall(r'^(?:  -.,|     ) (--[a-z-]+)', text, re.M))
    check('--help' in wanted and '--version' in wanted, text)
    equal(offered(shell, ' '.join(['preclose', *name, '--'])), wanted, command)


@test('completion/{shell}/what-is-offered-is-taken', shell=SHELLS)
def taken(shell):
    for option in ('shutdown', 'unread', 'format', 'level', 'watch', 'report', 'sigpipe', 'reuseaddr'):
        for word in offered(shell, f'preclose --{option}='):
            preclose(f'--{option}={word}', '/bin/true')
    for word in offered(shell, 'preclose scan --state='):
        preclose('scan', f'--state={word}')
