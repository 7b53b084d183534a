"""A headless Chromium, driven over the WebDriver protocol (W3C) by chromedriver."""

import base64
import json
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request

import lib
from lib import Failure, skip


class Browser:
    """with Browser() as page: page.open(path); page.run('return 1 + 1')"""

    def __enter__(self):
        driver, chromium = shutil.which('chromedriver'), shutil.which('chromium')
        if not driver or not chromium:
            skip('no chromium and chromedriver here')
        self.process = subprocess.Popen([driver, '--port=0'], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                        env={**os.environ, 'HOME': lib.SCRATCH, 'TMPDIR': lib.SCRATCH})
        port = None
        for line in self.process.stdout:
            found = re.search(rb'started successfully on port (\d+)', line)
            if found:
                port = int(found[1])
                break
        if not port:
            skip('chromedriver does not start')
        self.base = f'http://127.0.0.1:{port}'
        options = {'binary': chromium, 'args': ['--headless=new', '--no-sandbox', '--disable-gpu', '--disable-dev-shm-usage',
                                                '--window-size=1280,1400', f'--user-data-dir={lib.SCRATCH}/profile']}
        capabilities = {'browserName': 'chrome', 'goog:chromeOptions': options, 'goog:loggingPrefs': {'browser': 'ALL',
                                                                                                     'performance': 'ALL'}}
        self.session = self.call('POST', '/session', {'capabilities': {'alwaysMatch': capabilities}})['sessionId']
        return self

    def __exit__(self, *_):
        try:
            self.call('DELETE', f'/session/{self.session}')
        finally:
            self.process.kill()
            self.process.wait()

    def call(self, method, path, body=None):
        request = urllib.request.Request(self.base + path, method=method, headers={'Content-Type': 'application/json'},
                                         data=None if body is None else json.dumps(body).encode())
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)['value']
        except urllib.error.HTTPError as error:
            raise Failure(f'{method} {path}: {error.read().decode()[:500]}') from None

    def command(self, method, path, body=None):
        return self.call(method, f'/session/{self.session}{path}', body)

    def open(self, path):
        self.command('POST', '/url', {'url': 'file://' + path})

    def run(self, script, *arguments):
        return self.command('POST', '/execute/sync', {'script': script, 'args': list(arguments)})

    def console(self):
        """What the page has said to the console: errors, violations of its policy. The browser's own pages don't count."""
        entries = self.command('POST', '/se/log', {'type': 'browser'})
        return [entry['message'] for entry in entries if not entry['message'].startswith('chrome://')]

    def requests(self):
        """The addresses that the page has asked for."""
        messages = [json.loads(e['message'])['message'] for e in self.command('POST', '/se/log', {'type': 'performance'})]
        urls = [m['params']['request']['url'] for m in messages if m['method'] == 'Network.requestWillBeSent' and
                not m['params']['documentURL'].startswith('chrome:')]
        return urls

    def screenshot(self, path):

        with open(path, 'wb') as file:
            file.write(base64.b64decode(self.command('GET', '/screenshot')))
