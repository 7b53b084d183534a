"""rtmp_silent.py: an RTMP server that accepts one player, answers up to NetStream.Play.Start, then says nothing more.

Prints its port, then `silent` when the player has been told that the stream plays; ends when the player hangs up.
Adobe's RTMP specification 1.0: handshake 5.2, chunks 5.3, commands 7.2.  Only what a player needs."""
import socket
import struct

COMMAND, SET_CHUNK_SIZE = 20, 1
HANDSHAKE = 1536
HEADER = (11, 7, 3, 0)                      # bytes of a message header, by chunk type


def amf(value):
    if value is None:
        return b"\x05"
    if isinstance(value, str):
        return b"\x02" + struct.pack(">H", len(value)) + value.encode()
    if isinstance(value, dict):
        pairs = b"".join(struct.pack(">H", len(k)) + k.encode() + amf(v) for k, v in value.items())
        return b"\x03" + pairs + b"\0\0\x09"
    return b"\x00" + struct.pack(">d", value)


class Player:
    def __init__(self, connection):
        self.connection = connection
        self.stream = connection.makefile("rb")
        self.chunk_size = 128
        self.partial = {}                   # chunk stream → [length, type, bytes so far]

    def read(self, count):
        data = self.stream.read(count)
        if len(data) != count:
            raise EOFError
        return data

    def handshake(self):
        assert self.read(1) == b"\x03"
        c1 = self.read(HANDSHAKE)
        self.connection.sendall(b"\x03" + bytes(HANDSHAKE) + c1)
        self.read(HANDSHAKE)

    def message(self):
        """The type and body of the next whole message."""
        while True:
            first = self.read(1)[0]
            kind, channel = first >> 6, first & 63
            header = self.read(HEADER[kind])
            if kind < 2:
                self.partial[channel] = [int.from_bytes(header[3:6], "big"), header[6], b""]
            length, message_type, body = self.partial[channel]
            if header[:3] == b"\xff\xff\xff":
                self.read(4)
            body += self.read(min(self.chunk_size, length - len(body)))
            self.partial[channel][2] = body if len(body) < length else b""
            if len(body) == length:
                if message_type == SET_CHUNK_SIZE:
                    self.chunk_size = int.from_bytes(body, "big")
                return message_type, body

    def command(self):
        """The name and the number of the next command."""
        while True:
            message_type, body = self.message()
            if message_type == COMMAND:
                size = struct.unpack_from(">H", body, 1)[0]
                return body[3:3 + size].decode(), struct.unpack_from(">d", body, 4 + size)[0]

    def send(self, stream_id, *values):
        body = b"".join(map(amf, values))
        assert len(body) <= 128             # one chunk
        header = b"\x03" + bytes(3) + len(body).to_bytes(3, "big") + bytes([COMMAND])
        self.connection.sendall(header + struct.pack("<I", stream_id) + body)


with socket.create_server(("127.0.0.1", 0)) as listener:
    print(listener.getsockname()[1], flush=True)
    connection = listener.accept()[0]
player = Player(connection)
player.handshake()
try:
    while True:
        name, number = player.command()
        if name == "connect":
            player.send(0, "_result", number, None, {"code": "NetConnection.Connect.Success"})
        elif name == "createStream":
            player.send(0, "_result", number, None, 1)
        elif name == "play":
            player.send(1, "onStatus", 0, None, {"level": "status", "code": "NetStream.Play.Start"})
            print("silent", flush=True)
except (EOFError, ConnectionError):
    print("player gone", flush=True)
