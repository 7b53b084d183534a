"""Other tools that stand between a program and its close, for the same table. They run the program that closes plainly."""

import glob
import os
import shutil

from rows import Variant


class Tool(Variant):
    library = False

    def __init__(self, name, program=None, options=(), library=None, env=None, files=None, tracer=False):
        """program with its options goes before the command, or library is preloaded; env and files (made in the scratch
        directory, which is {scratch}) are what it wants."""
        super().__init__(name)
        self.program = program
        self.tracer = tracer
        self.options = options
        self.file = library
        self.variables = env or {}
        self.files = files or {}

    def library_path(self):
        found = [path for place in ('/usr/lib/*', '/usr/lib64', '/usr/lib') for path in glob.glob(f'{place}/{self.file}')]
        return found[0] if found else None

    def missing(self, options):
        found = self.library_path() if self.file else shutil.which(self.program)
        return '' if found else 'not here'

    def command(self, options, scratch):
        for name, text in self.files.items():
            path = os.path.join(scratch, name)
            if text is None:
                os.makedirs(path, exist_ok=True)
                continue
            with open(path, 'w') as file:
                file.write(text)
        return [word.format(scratch=scratch) for word in (self.program, *self.options)] if self.program else []

    def env(self, options, scratch):
        env = {name: value.format(scratch=scratch) for name, value in self.variables.items()}
        return env | {'LD_PRELOAD': self.library_path()} if self.file else env


# The last two are for connections to elsewhere: loopback is let through as their own configuration has it.
TOOLS = [
    Tool('strace', 'strace', ('-f', '-qq', '-e', 'trace=close,shutdown', '-o', '{scratch}/strace'), tracer=True),
    Tool('valgrind', 'valgrind', ('--track-fds=yes', '--log-file={scratch}/valgrind')),
    Tool('socket_wrapper', library='libsocket_wrapper.so', env={'SOCKET_WRAPPER_DIR': '{scratch}/wrapped'},
         files={'wrapped': None}),
    Tool('torsocks', 'torsocks', env={'TORSOCKS_CONF_FILE': '{scratch}/torsocks.conf'},
         files={'torsocks.conf': 'AllowInbound 1\nAllowOutboundLocalhost 1\n'}),
    Tool('proxychains4', 'proxychains4', ('-q', '-f', '{scratch}/proxychains.conf'),
         files={'proxychains.conf': 'localnet 127.0.0.0/255.0.0.0\n[ProxyList]\nsocks4 127.0.0.1 9050\n'}),
]
