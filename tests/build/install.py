#!/usr/bin/python3
"""make install and make uninstall: install.py BUILD. A line per check, what is wrong below it."""

import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True
import checks
from checks import check, skip

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILT = pathlib.Path(sys.argv[1]).resolve()
SCRATCH = pathlib.Path(tempfile.mkdtemp(prefix='preclose-install-'))
BUILD = SCRATCH / 'build'

LIBRARY = {'lib/libpreclose.so', 'share/man/man7/libpreclose.7', *(f'share/doc/preclose/examples/{x}' for x in ('preclose.conf', 'preclose.rules.yml', 'rsyslog.conf'))}
COMMAND = {'bin/preclose', 'share/man/man1/preclose.1', 'share/bash-completion/completions/preclose',
           'share/zsh/site-functions/_preclose', 'share/fish/vendor_completions.d/preclose.fish'}
LEAK = '''
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
server = listener.accept()[0]
client.send(b"abc")
while not server.recv(1, socket.MSG_PEEK): pass
server.close()
print([line.split()[-1] for line in open("/proc/self/maps") if "libpreclose" in line][0])
'''


def make(*arguments, deps=':'):
    """What make says, if that is an error."""
    environment = {k: v for k, v in os.environ.items() if k not in ('MAKEFLAGS', 'MAKELEVEL', 'MFLAGS', 'DESTDIR', 'PREFIX')}
    done = subprocess.run(['make', '-s', f'DEPS={deps}', f'BUILD={BUILD}', *arguments], cwd=TOP, env=environment, capture_output=True,
                          text=True, check=False)
    return (done.stdout + done.stderr).splitlines() if done.returncode or done.stderr else []


def files(directory):
    return {str(x.relative_to(directory)) for x in directory.rglob('*') if not x.is_dir()} if directory.exists() else set()


def differences(there, wanted):
    return [f'missing: {x}' for x in sorted(wanted - there)] + [f'too much: {x}' for x in sorted(there - wanted)]


def into_a_root():
    """For a package: nothing of the root is in the files."""
    root = SCRATCH / 'root'
    where = ['PREFIX=/usr', f'DESTDIR={root}', 'LIBDIR=/usr/lib/x86_64-linux-gnu', 'ZSHDIR=/usr/share/zsh/vendor-completions']
    wrong = make(*where, 'install')
    wanted = {'usr/' + x.replace('lib/lib', 'lib/x86_64-linux-gnu/lib').replace('site-functions', 'vendor-completions')
              for x in LIBRARY | COMMAND}
    wrong += differences(files(root), wanted)
    for name in sorted(files(root)):
        content = (root / name).read_bytes()
        if str(root).encode() in content:
            wrong.append(f'{name} names {root}')
        mode = (root / name).stat().st_mode & 0o7777
        if mode != (0o755 if name.endswith(('.so', 'bin/preclose')) else 0o644):
            wrong.append(f'{name} has the mode {mode:o}')
        if name.endswith(('.conf', '.1', '.7')) and b'/usr/local' in content:
            wrong.append(f'{name} names /usr/local')
        if name.endswith(('preclose.conf', '.7')) and b'LD_PRELOAD=/usr/lib/x86_64-linux-gnu/libpreclose.so' not in content:
            wrong.append(f'{name} does not say where the library is')
    check('installed into a root', wrong)
    check('uninstalled from it', make(*where, 'uninstall') + differences(files(root), set()))


def run(prefix, library):
    """As a user would, right after the installation."""
    environment = {'PATH': f'{prefix}/bin:{os.environ["PATH"]}', 'LC_ALL': 'C', 'HOME': '/nonexistent'}
    log = f'{prefix}/log'
    done = subprocess.run(['preclose', '-o', log, '-f', 'json', '--', '/usr/bin/python3', '-c', LEAK], env=environment,
                          capture_output=True, text=True, check=False)
    wrong = [] if done.stdout == f'{library}\n' else [f'runs {done.stdout!r} {done.stderr!r}']
    done = subprocess.run(['preclose', 'report', log], env=environment, capture_output=True, text=True, check=False)
    wrong += [] if 'unread-reset closed by close' in done.stdout else [f'report: {done.stdout!r} {done.stderr!r}']
    for page in ('preclose', 'libpreclose') if shutil.which('man') else ():
        done = subprocess.run(['man', '-M', f'{prefix}/share/man', '-w', page], capture_output=True, text=True, check=False)
        wrong += [] if done.returncode == 0 else [f'man {page}: {done.stderr}']
    os.unlink(log)
    return wrong


def into_a_prefix(name, libdir):
    prefix = SCRATCH / name
    where = [f'PREFIX={prefix}', *([f'LIBDIR={prefix}/{libdir}'] if libdir != 'lib' else [])]
    wrong = make(*where, 'install')
    check(f'runs where it was installed ({libdir})', wrong or run(prefix, prefix / libdir / 'libpreclose.so'))
    os.makedirs(prefix / 'share/doc/preclose', exist_ok=True)
    (prefix / 'share/doc/preclose/mine').touch()
    make(*where, 'uninstall')
    check(f'uninstalled, and what is not its own is left ({libdir})', differences(files(prefix), {'share/doc/preclose/mine'}))


def autoload():
    """bash-completion finds it by itself."""
    script = '/usr/share/bash-completion/bash_completion'
    if not os.path.exists(script):
        return skip('bash loads the completion when it is wanted', 'no bash-completion here')
    prefix = SCRATCH / 'shell'
    wrong = make(f'PREFIX={prefix}', 'install')
    # As Tab does: the completion of last resort loads the right one, and says so by 124.
    tab = f'source {script}; _completion_loader preclose; (($? == 124)) || echo not loaded; ' \
          'COMP_WORDS=(preclose cat ./i) COMP_CWORD=2 COMP_LINE="preclose cat ./i" COMP_POINT=16; _preclose preclose ./i cat; ' \
          'printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(['bash', '--norc', '-c', tab], capture_output=True, text=True, check=False, cwd=TOP / 'tests/build',
                          env={'PATH': os.environ['PATH'], 'XDG_DATA_DIRS': f'{prefix}/share:/usr/share', 'HOME': '/nonexistent'})
    wrong += [] if done.stdout == './install.py\n' and not done.stderr else [done.stdout, done.stderr]
    check('bash loads the completion when it is wanted', wrong)


def library_alone():
    """Where the command can't be built, the library is installed without it."""
    shutil.copytree(BUILD, SCRATCH / 'kept', symlinks=True)
    (BUILD / 'preclose').unlink()
    deps = SCRATCH / 'deps'
    deps.write_text('#!/bin/sh\n[ "$1" != cli ]\n')
    deps.chmod(0o755)
    prefix = SCRATCH / 'alone'
    make(f'PREFIX={prefix}', 'install', deps=deps)
    check('the library without the command', differences(files(prefix), LIBRARY))


def drop_in():
    """systemd takes the example."""
    name = 'the drop-in is clean to systemd-analyze'
    if not shutil.which('systemd-analyze'):
        return skip(name, 'no systemd-analyze here')
    units = SCRATCH / 'units'
    (units / 'x.service.d').mkdir(parents=True)
    (units / 'x.service').write_text('[Service]\nExecStart=/bin/true\n')
    text = (BUILT / 'preclose.conf').read_text()
    (units / 'x.service.d/preclose.conf').write_text(text + text.replace('#Env', 'Env').replace('#Logs', 'Logs'))
    verify = ['systemd-analyze', 'verify', '--man=no', str(units / 'x.service')]
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    wrong = (done.stdout + done.stderr).splitlines()
    # It would have told.
    (units / 'x.service.d/preclose.conf').write_text(text.replace('Environment=', 'Environmnt='))
    done = subprocess.run(verify, capture_output=True, text=True, check=False)
    wrong += [] if 'Environmnt' in done.stderr else [f'a wrong name is not told: {done.stderr}']
    check(name, wrong)


def shells():
    name = 'the completion for bash is clean to shellcheck'
    if not shutil.which('shellcheck'):
        return skip(name, 'no shellcheck here')
    done = subprocess.run(['shellcheck', '-s', 'bash', str(BUILT / 'completion/preclose.bash')], capture_output=True, text=True, check=False)
    check(name, done.stdout.splitlines())


try:
    # What is built already stays; what has the directory in it is made anew, and not in the directory of the tests.
    shutil.copytree(BUILT, BUILD, symlinks=True, ignore=lambda at, names: names if os.path.basename(at) in ('tests', 'demo') else [])
    into_a_root()
    into_a_prefix('prefix', 'lib')
    into_a_prefix('multiarch', 'lib/some-linux-gnu')
    autoload()
    library_alone()
    drop_in()
    shells()
finally:
    shutil.rmtree(SCRATCH)
sys.exit(checks.status())
