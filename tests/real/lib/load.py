"""load.py URL FILE COUNT [STOP]: at least COUNT GET requests by 6 clients, until the file STOP exists if one is named.

Each answer must be 200 with the bytes of FILE.  Every second connection carries five requests, unless STOP is named: a server
that restarts may hang up between two.  Exits 1 with what went wrong first."""
import http.client
import os
import sys
import threading
import urllib.parse

url, path, count = urllib.parse.urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3])
stop = sys.argv[4] if len(sys.argv) > 4 else None
CLIENTS = 6
done, wrong = [0] * CLIENTS, []
with open(path, "rb") as file:
    expected = file.read()


def enough():
    return wrong or sum(done) >= count and (stop is None or os.path.exists(stop))


def ask(connection, last):
    connection.request("GET", url.path, headers={"Connection": "close"} if last else {})
    response = connection.getresponse()
    body = response.read()
    if response.status != 200 or body != expected:
        raise ValueError(f"status {response.status}, {len(body)} bytes of {len(expected)}")
    return response.will_close


def client(number):
    turn = number
    try:
        while not enough():
            connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
            requests = 5 if stop is None and turn % 2 else 1
            for i in range(requests):
                closes = ask(connection, i + 1 == requests)
                done[number] += 1
                if closes:
                    break
            connection.close()
            turn += 1
    except (OSError, ValueError, http.client.HTTPException) as error:
        wrong.append(f"after {done[number]} requests: {error!r}")


threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(f"{sum(done)} requests", *wrong[:3], sep="\n")
sys.exit(bool(wrong))
