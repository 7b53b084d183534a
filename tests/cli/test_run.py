"""preclose PROGRAM: the settings, the library's place, the program's own end, and what it refuses."""

import json
import os
import shutil
import signal
import struct

import lib
from command import compile_c, path, preclose, refused, script
from lib import check, equal, need_root, program, skip, test

EMPTY = 'int main(void) { return 0; }\n'
SHOW = ['/usr/bin/env']


def variables(done):
    return dict(line.split('=', 1) for line in done.out.splitlines() if '=' in line)


# What reaches the program.

FLAGS = {'--shutdown=never': ('SHUTDOWN', 'never'), '--unread=reset': ('UNREAD', 'reset'), '--log=none': ('LOG', 'none'),
         '--format=json': ('FORMAT', 'json'), '--level=info': ('LEVEL', 'info'), '--report=never': ('REPORT', 'never'),
         '--rate=0': ('RATE', '0'), '--only=a,b*': ('ONLY', 'a,b*'), '-fjson': ('FORMAT', 'json')}


@test('run/flag/{flag}', flag=list(FLAGS))
def flag(flag):
    name, value = FLAGS[flag]
    equal(variables(preclose(flag, *SHOW)).get('PRECLOSE_' + name), value, name)


@test('run/flag/every-setting-has-one')
def flags_all():
    with open(os.path.join(os.path.dirname(__file__), '..', '..', 'shim', 'settings.def')) as table:
        names = [line.split('(')[1].split(',')[0] for line in table if line.startswith('SETTING(')]
    text = preclose('--help').out
    check(len(names) > 10, f'{names}')
    for name in names:
        option = '--' + name.lower().replace('_', '-')
        check(option + '=' in text, f'{option} is not in the help')
        refused(option + '=\x01nonsense', *SHOW, status=125, says=[option]) if name not in ('LOG', 'ONLY') else None


@test('run/flag/complaints')
def complaints():
    """They name what was typed."""
    refused('--fail=300', *SHOW, status=125, says=['--fail=300: takes 0 to 255'])
    refused('--re=never', *SHOW, status=125, says=['--re=never can be more than one'])
    refused('--rex=never', *SHOW, status=125, says=['--rex=never does not exist'])
    for state in ('x', 'time-wait', 'established,closed'):  # those that no descriptor can have are not shown
        refused('scan', f'--state={state}', status=2, says=[f'--state={state}: takes established, syn-sent', 'all, several'])


@test('run/flag/quiet')
def quiet():
    seen = variables(preclose('-q', *SHOW))
    equal((seen['PRECLOSE_LEVEL'], seen['PRECLOSE_REPORT']), ('warning', 'never'), 'settings')


@test('run/environment/is-kept')
def environment_kept():
    seen = variables(preclose('--rate=5', *SHOW, env={'PRECLOSE_LEVEL': 'info', 'PRECLOSE_RATE': '7', 'OTHER': 'x'}))
    equal((seen['PRECLOSE_LEVEL'], seen['PRECLOSE_RATE'], seen['OTHER']), ('info', '5', 'x'), 'settings')


@test('run/output/is-absolute-and-appended')
def output():
    for _ in range(2):
        preclose('-o', 'log.json', '-f', 'json', '--', os.path.join(lib.BIN, 'victim'), 'state', 'unread=3',
                 cwd=lib.SCRATCH, status=0)
    with open(path('log.json')) as log:
        found = [json.loads(line) for line in log]
    equal([f['event'] for f in found].count('unread-reset'), 2, 'findings of two runs')
    seen = variables(preclose('-o', 'none', *SHOW, cwd=lib.SCRATCH))
    equal(seen['PRECLOSE_LOG'], path('none'), 'a file named none')


@test('run/output/pid')
def output_pid():
    seen = variables(preclose('-o', 'log.%p', *SHOW, cwd=lib.SCRATCH))
    equal(seen['PRECLOSE_LOG'], path('log.%p'), 'PRECLOSE_LOG')
    check(not os.path.exists(path('log.%p')), 'a file was made whose name is not known yet')


@test('run/output/fifo-without-reader')
def output_fifo():
    os.mkfifo(path('fifo'))
    preclose('-o', path('fifo'), '/bin/true')


@test('run/library/beside')
def library_beside():
    equal(variables(preclose(*SHOW))['LD_PRELOAD'], lib.LIB, 'LD_PRELOAD')


@test('run/library/in-lib')
def library_installed():
    os.makedirs(path('usr/bin'))
    os.makedirs(path('usr/lib'))
    binary = shutil.copy(os.path.join(os.path.dirname(lib.LIB), 'preclose'), path('usr/bin/preclose'))
    shutil.copy(lib.LIB, path('usr/lib/libpreclose.so'))
    equal(variables(preclose(*SHOW, binary=binary))['LD_PRELOAD'], path('usr/lib/libpreclose.so'), 'LD_PRELOAD')
    os.symlink(binary, path('link'))
    equal(variables(preclose(*SHOW, binary=path('link')))['LD_PRELOAD'], path('usr/lib/libpreclose.so'), 'by a link')


@test('run/library/missing')
def library_missing():
    os.mkdir(path('bin'))
    binary = shutil.copy(os.path.join(os.path.dirname(lib.LIB), 'preclose'), path('bin/preclose'))
    if os.path.exists('/usr/local/lib/libpreclose.so'):
        skip('it is installed here')
    refused(*SHOW, status=125, says=['libpreclose.so', path('bin')], binary=binary)


@test('run/library/path-with-a-space')
def library_space():
    os.mkdir(path('a b'))
    for name in ('preclose', 'libpreclose.so'):
        shutil.copy(os.path.join(os.path.dirname(lib.LIB), name), path('a b'))
    refused(*SHOW, status=125, says=['space', path('a b')], binary=path('a b/preclose'))


@test('run/preload/is-kept')
def preload_kept():
    other = compile_c('other.so', 'int other;\n', '-shared', '-fPIC')
    for before, after in ((other, f'{other}:{lib.LIB}'), ('', lib.LIB), (lib.LIB, lib.LIB),
                          (f'{other} {lib.LIB}', f'{other} {lib.LIB}'), (lib.LIB + 'x', f'{lib.LIB}x:{lib.LIB}')):
        seen = variables(preclose(*SHOW, env={'LD_PRELOAD': before}))
        equal(seen['LD_PRELOAD'], after, f'LD_PRELOAD after {before!r}')


@test('run/asan')
def asan():
    binary = compile_c('with-asan', EMPTY, '-fsanitize=address')
    preclose(binary)
    equal(preclose(binary, env={'ASAN_OPTIONS': 'verify_asan_link_order=1'}, status=None).returncode == 0, False,
          'what the user says counts')


# How the program ends is how the command ends.

@test('run/status/{n}', n=[0, 1, 7, 125, 255])
def status(n):
    preclose('sh', '-c', f'exit {n}', status=n)


@test('run/signal/{which}', which=['SIGTERM', 'SIGKILL', 'SIGSEGV'])
def killed(which):
    preclose('sh', '-c', f'kill -{which[3:]} $$', status=-getattr(signal, which))


@test('run/is-the-program')
def same_process():
    """It is replaced by the program: the same process, name and arguments, and no descriptor more."""
    done = preclose('/bin/sh', '-c', 'echo $$; cat /proc/$$/comm; tr "\\0" "|" < /proc/$$/cmdline; echo; ls /proc/$$/fd',
                    '-x', '--rate=3')
    pid, comm, line, *descriptors = done.out.splitlines()
    equal((comm, line.split('|')[-3:-1]), ('sh', ['-x', '--rate=3']), 'name and arguments')
    check(set(descriptors) <= {'0', '1', '2', '10', '255'}, f'descriptors {descriptors}')


@test('run/signals-as-they-were')
def signal_state():
    """The program begins with the signals ignored and blocked that it would begin with."""
    def state(*argv):
        def change():
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
        done = lib.subprocess.run([*argv, 'grep', '^Sig[BI]', '/proc/self/status'], capture_output=True, check=True,
                                  preexec_fn=change)
        return done.stdout
    equal(state(os.path.join(os.path.dirname(lib.LIB), 'preclose')), state(), 'signals')


@test('run/acts')
def acts():
    """The library is really there: a thread that would hang is woken."""
    done = preclose('-o', path('log'), os.path.join(lib.BIN, 'victim'), 'wake')
    check('woken=yes' in done.out, done.out)
    with open(path('log')) as log:
        check('blocked-threads' in log.read(), 'no finding')


@test('run/program-named-as-a-command')
def named_as_command():
    script('scan', '#!/bin/sh\necho $PRECLOSE_RATE\n')
    env = {'PATH': lib.SCRATCH + ':' + os.environ['PATH']}
    equal(preclose('--rate=3', '--', 'scan', env=env).out, '3\n', 'behind --')
    equal(preclose('--rate=3', 'scan', env=env).out, '3\n', 'behind an option')


@test('run/help')
def help_texts():
    for command in ([], ['report'], ['scan'], ['free']):
        text = preclose(*command, '--help').out
        check(text.startswith('usage: preclose') and max(map(len, text.splitlines())) <= 100, f'{command}: {text}')
        check(preclose(*command, '--version').out.startswith('preclose '), 'version')


# What is refused, and what is not.

@test('run/refuse/{what}', what=['missing', 'in-path', 'directory', 'mode', 'empty', 'binary', 'device', 'truncated'])
def refuse_file(what):
    if what == 'missing':
        refused('./nothing', status=127, says=['./nothing', 'No such file'])
    if what == 'in-path':
        refused('no-such-program-here', status=127, says=['no-such-program-here', 'PATH'])
    if what == 'directory':
        refused('/tmp', status=126, says=['/tmp', 'directory'])
    if what == 'mode':
        refused(script('plain', '#!/bin/sh\n', 0o644), status=126, says=['chmod +x'])
    if what == 'empty':
        refused(script('empty', ''), status=126, says=['is empty'])
    if what == 'binary':
        refused(script('binary', b'\x00\x01\x02\xff' * 40), status=126, says=['neither'])
    if what == 'device':
        refused('/dev/null', status=126, says=['/dev/null'])
    if what == 'truncated':
        with open('/bin/true', 'rb') as true:
            head = true.read(40)
        refused(script('cut', head), status=126, says=['damaged'])


@test('run/refuse/nothing-to-run')
def refuse_nothing():
    refused(status=125, says=['--help'])
    refused('--', status=125, says=['--help'])


@test('run/refuse/static')
def refuse_static():
    refused(compile_c('static', EMPTY, '-static'), status=126, says=['statically linked', 'preclose scan'])
    refused(compile_c('static-pie', EMPTY, '-static-pie'), status=126, says=['statically linked'])


@test('run/refuse/musl')
def refuse_musl():
    refused(compile_c('musl', EMPTY, compiler='musl-gcc'), status=126, says=['musl', 'glibc'])


def patched(name, *changes):
    """/bin/true with other bytes in its ELF header."""
    with open('/bin/true', 'rb') as true:
        image = bytearray(true.read())
    for offset, data in changes:
        image[offset:offset + len(data)] = data
    return script(name, bytes(image))


@test('run/refuse/architecture')
def refuse_architecture():
    other, name = (183, 'aarch64') if os.uname().machine == 'x86_64' else (62, 'x86_64')
    refused(patched('other', (18, struct.pack('<H', other))), status=126, says=[name, os.uname().machine])
    refused(patched('unknown', (18, struct.pack('<H', 4711))), status=126, says=['another architecture'])


@test('run/refuse/class')
def refuse_class():
    refused(compile_c('m32', EMPTY, '-m32', '-nostdlib', '-Wl,-e,main', '-fno-pie', '-no-pie'), status=126,
            says=['i386', os.uname().machine])


@test('run/refuse/object-file')
def refuse_object():
    refused(compile_c('object', EMPTY, '-c'), status=126, says=['may not be executed'])
    os.chmod(path('object'), 0o755)
    refused(path('object'), status=126, says=['link it'])


GO_NOTE = '''
__attribute__((section(".note.go.buildid"), used)) static const struct { unsigned n, d, t; char name[4], id[8]; }
note = {4, 8, 4, "Go\\0", "abcdefg"};
'''


@test('run/refuse/go-without-cgo')
def refuse_go():
    refused(compile_c('go-like', EMPTY + GO_NOTE, '-static'), status=126, says=['Go program', 'cgo'])


@test('run/refuse/go-real')
def refuse_go_real():
    script('main.go', 'package main\nfunc main() {}\n')
    lib.subprocess.run([program('go'), 'build', '-o', path('go-real'), path('main.go')], check=True, cwd=lib.SCRATCH,
                       env={**os.environ, 'GOCACHE': path('cache'), 'CGO_ENABLED': '0', 'GO111MODULE': 'off'})
    refused(path('go-real'), status=126, says=['Go program', 'cgo'])


@test('run/warn/go-with-cgo')
def warn_go():
    binary = compile_c('go-like', EMPTY + GO_NOTE)
    check('Go makes its system calls itself' in preclose(binary).err, 'nothing is said')
    equal(preclose('-q', binary).err, '', 'said under -q')


def as_nobody(*arguments, **options):
    return {'user': 65534, 'group': 65534, 'extra_groups': [], **options}


def world_readable_build():
    """The command and the library where another user can reach them."""
    os.chmod(lib.SCRATCH, 0o755)
    for name in ('preclose', 'libpreclose.so'):
        shutil.copy(os.path.join(os.path.dirname(lib.LIB), name), path(name))
    return path('preclose')


@test('run/refuse/setuid')
def refuse_setuid():
    need_root()
    binary = world_readable_build()
    for mode, word in ((0o4755, 'setuid'), (0o2755, 'setgid')):
        target = shutil.copy('/bin/true', path(word))
        os.chmod(target, mode)
        refused(target, status=126, says=[word, 'sudo'], binary=binary, **as_nobody())
        preclose(target)  # as root it changes nothing, and works
    target = shutil.copy('/bin/true', path('own'))
    os.chown(target, 65534, 65534)
    os.chmod(target, 0o4755)
    preclose(target, binary=binary, **as_nobody())


@test('run/refuse/capabilities')
def refuse_capabilities():
    need_root()
    binary = world_readable_build()
    target = shutil.copy('/bin/true', path('ping'))
    capability = struct.pack('<5I', 0x02000001, 1 << 13, 0, 0, 0)  # cap_net_raw+ep
    try:
        os.setxattr(target, 'security.capability', capability)
    except OSError as error:
        skip(f'no file capabilities here: {error}')
    refused(target, status=126, says=['capabilities', 'root'], binary=binary, **as_nobody())
    preclose(target)


@test('run/script/{what}', what=['works', 'no-shebang', 'env', 'missing', 'static', 'env-static', 'loop', 'nothing'])
def scripts(what):
    static = compile_c('static', EMPTY, '-static') if 'static' in what else None
    if what == 'works':
        equal(preclose(script('s', '#!/bin/sh -e\necho $LD_PRELOAD\n')).out.strip(), lib.LIB, 'LD_PRELOAD')
    if what == 'no-shebang':
        equal(preclose(script('s', 'echo $LD_PRELOAD\n')).out.strip(), lib.LIB, 'LD_PRELOAD')
    if what == 'env':
        equal(preclose(script('s', '#!/usr/bin/env -S A=1 sh\necho $LD_PRELOAD\n')).out.strip(), lib.LIB, 'LD_PRELOAD')
    if what == 'missing':
        refused(script('s', '#!/no/such/python\n'), status=127, says=['/no/such/python', 'missing'])
    if what == 'static':
        refused(script('s', f'#!{static} -x\n'), status=126, says=[static, 'interpreter', 'statically'])
    if what == 'env-static':
        refused(script('s', '#!/usr/bin/env static\n'), status=126, says=['env', 'statically'],
                env={'PATH': lib.SCRATCH + ':' + os.environ['PATH']})
    if what == 'loop':
        refused(script('s', f'#!{path("s")}\n'), status=126, says=['interpreters'])
    if what == 'nothing':
        refused(script('s', '#! \n'), status=126, says=['no interpreter'])


@test('run/loader-as-program')
def loader():
    """The loader has no interpreter of its own, and heeds LD_PRELOAD."""
    loaders = [f for f in ('/lib64/ld-linux-x86-64.so.2', '/lib/ld-linux-aarch64.so.1') if os.path.exists(f)]
    if not loaders:
        skip('no loader by a known name')
    equal(variables(preclose(loaders[0], *SHOW))['LD_PRELOAD'], lib.LIB, 'LD_PRELOAD')


@test('run/refuse/loader-missing')
def refuse_loader():
    binary = compile_c('lost', EMPTY, '-Wl,--dynamic-linker=/nowhere/ld-linux-x86-64.so.2')
    refused(binary, status=127, says=['/nowhere/ld-linux', 'missing'])


@test('run/hostile-name')
def hostile_name():
    done = refused('./a\n\x1b[31mb', status=127, says=['./a'])
    check('\x1b' not in done.err, 'an escape sequence reaches the terminal')
