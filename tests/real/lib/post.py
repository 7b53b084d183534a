"""post.py HOST PORT COUNT BYTES ANSWER: COUNT POST requests of BYTES each; prints how many did not get an answer of
ANSWER bytes.

Sends as most clients do: all of the request, and an error then is the end of it; the answer is read after that."""
import http.client
import sys

host, port, count, size, answer = sys.argv[1], *map(int, sys.argv[2:])
lost = 0
for _ in range(count):
    connection = http.client.HTTPConnection(host, port, timeout=10)
    try:
        connection.request("POST", "/", b"b" * size)
        lost += len(connection.getresponse().read()) != answer
    except (OSError, http.client.HTTPException):
        lost += 1
    connection.close()
print(lost)
