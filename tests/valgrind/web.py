"""A threaded web server and its client, in one process."""
import http.server
import os
import threading
import urllib.request


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


os.chdir(os.path.dirname(os.path.abspath(__file__)))
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), Quiet)
thread = threading.Thread(target=server.serve_forever)
thread.start()
for _ in range(3):
    with urllib.request.urlopen(f'http://127.0.0.1:{server.server_address[1]}/web.py') as answer:
        print(len(answer.read()))
server.shutdown()
server.server_close()
thread.join()
