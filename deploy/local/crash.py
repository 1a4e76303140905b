"""Parts of test-crash.sh: an MQTT session that is left and found, and the files of a Kafka that died in the midst of a commit.

    crash.py leave            makes a session that outlives its connection, and a message that waits in it
    crash.py find             says what of that is there
    crash.py tear LOG TOPIC   takes the markers of the last transaction out of TOPIC and its coordinator's log

MQTT, MQTT_CA, MQTT_USER and MQTT_PASSWORD_FILE are the variables of run/clients.env.
"""

import os
import pathlib
import socket
import ssl
import struct
import sys

TOPIC = b"crash/waits"
# Parts of a batch of Kafka's: its length after the base offset, and its attributes.
LENGTH = struct.Struct(">8xi")
ATTRIBUTES = struct.Struct(">21xH")
CONTROL = 0x20


def text(value):
    return struct.pack(">H", len(value)) + value


class Session:
    """MQTT 3.1.1, as much of it as is needed: every packet here is shorter than 128 bytes."""

    def __init__(self, client, keep):
        host, port = os.environ["MQTT"].rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=30)
        if "MQTT_CA" in os.environ:
            context = ssl.create_default_context(cafile=os.environ["MQTT_CA"])
            self.socket = context.wrap_socket(self.socket, server_hostname=host)
        flags, login = 0 if keep else 2, b""
        if "MQTT_USER" in os.environ:
            password = pathlib.Path(os.environ["MQTT_PASSWORD_FILE"]).read_bytes().split(b"\n")[0]
            flags, login = flags | 0xC0, text(os.environ["MQTT_USER"].encode()) + text(password)
        self.send(0x10, text(b"MQTT") + bytes([4, flags, 0, 60]) + text(client) + login)
        answer = self.receive(0x20)
        assert answer[1] == 0, f"the broker refuses: {answer[1]}"
        self.was_there = answer[0] == 1

    def send(self, kind, body):
        assert len(body) < 128
        self.socket.sendall(bytes([kind, len(body)]) + body)

    def read(self, count):
        found = b""
        while len(found) < count:
            more = self.socket.recv(count - len(found))
            assert more, "the broker closed the connection"
            found += more
        return found

    def receive(self, kind):
        found, size = self.read(2)
        body = self.read(size)
        assert found & 0xF0 == kind, f"packet {found:#x} and not {kind:#x}"
        return body

    def end(self):
        self.send(0xE0, b"")
        self.socket.close()


def leave():
    session = Session(b"crash-keeps", keep=True)
    session.send(0x82, struct.pack(">H", 1) + text(TOPIC) + b"\x01")
    assert session.receive(0x90)[2] == 1, "the subscription was refused"
    session.end()
    publisher = Session(b"crash-publishes", keep=False)
    publisher.send(0x32, text(TOPIC) + struct.pack(">H", 2) + b"waits")
    publisher.receive(0x40)
    publisher.end()


def find():
    session = Session(b"crash-keeps", keep=True)
    if not session.was_there:
        print("no session")
        return
    body = session.receive(0x30)
    print("session found,", "message found" if body.endswith(b"waits") else f"message {body}")
    session.end()


def batches(segment):
    """Where each batch of a segment begins, and its attributes."""
    data, at = segment.read_bytes(), 0
    while at + ATTRIBUTES.size <= len(data) and LENGTH.unpack_from(data, at)[0] > 0:
        yield at, ATTRIBUTES.unpack_from(data, at)[0]
        at += 12 + LENGTH.unpack_from(data, at)[0]


def cut(segment, control):
    """Takes the last batch away."""
    at, attributes = list(batches(segment))[-1]
    assert bool(attributes & CONTROL) == control, f"{segment} ends in another batch than it should"
    os.truncate(segment, at)


def tear(log, topic):
    for name, control in (f"{topic}-*", True), ("__transaction_state-*", False):  # of the latter, "complete" goes
        for segment in log.glob(f"{name}/*.log"):
            if segment.stat().st_size > 0:
                cut(segment, control)


match sys.argv[1:]:
    case ["leave"]:
        leave()
    case ["find"]:
        find()
    case ["tear", log, topic]:
        tear(pathlib.Path(log), topic)
    case _:
        sys.exit(__doc__)
