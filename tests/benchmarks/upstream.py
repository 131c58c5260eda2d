"""A stream server in a process of its own: the bytes lie ready in a file, and the kernel sends them.

It serves one connection. A line with a number on standard input has the whole file sent so often; when the last byte is
on its way, standard output says the moment of the first, on the clock that all processes share. A line of three numbers
(posts a second, seconds, seconds between) has posts of the file sent at that rate, and its last one so often among
them; standard output says the moment of each of these.
"""

import itertools
import select
import socket
import sys
import time
from pathlib import Path
from typing import Final

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
KEEP_ALIVE: Final = b"2\r\n\r\n\r\n"
KEEP_ALIVE_S: Final = 10.0
TICK_S: Final = 0.001


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _say(str(listener.getsockname()[1]))
        connection, _ = listener.accept()
    with connection, Path(sys.argv[1]).open("rb") as file:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.recv(65536)
        connection.sendall(HEAD)
        _say("connected")
        while True:
            if not select.select([sys.stdin], [], [], KEEP_ALIVE_S)[0]:
                connection.sendall(KEEP_ALIVE)
                continue
            command = sys.stdin.readline()
            if not command:
                return
            if len(numbers := [float(word) for word in command.split()]) == 3:
                _send_paced(connection, Path(sys.argv[1]), *numbers)
                continue
            moment = time.monotonic()
            for _ in range(int(command)):
                connection.sendfile(file)
            _say(repr(moment))


def _send_paced(connection: socket.socket, path: Path, posts_per_s: float, seconds: float, between_s: float) -> None:
    *others, last = path.read_bytes().split(b"\r\n\r\n")[:-1]
    posts = itertools.cycle(post + b"\r\n\r\n" for post in others)
    begin_s, sent, due_s = time.monotonic(), 0, between_s
    while (now_s := time.monotonic() - begin_s) < seconds:
        wanted = int(now_s * posts_per_s)
        connection.sendall(b"".join(itertools.islice(posts, wanted - sent)))
        sent = wanted
        if now_s >= due_s:
            due_s += between_s
            moment = time.monotonic()
            connection.sendall(last + b"\r\n\r\n")
            _say(repr(moment))
        time.sleep(TICK_S)


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
