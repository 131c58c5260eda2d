"""A stream server in a process of its own: the bytes lie ready in a file, and the kernel sends them.

It serves one connection. A line with a number on standard input has the whole file sent so often; when the last byte is
on its way, standard output says the moment of the first, on the clock that all processes share.
"""

import select
import socket
import sys
import time
from pathlib import Path
from typing import Final

HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
KEEP_ALIVE: Final = b"2\r\n\r\n\r\n"
KEEP_ALIVE_S: Final = 10.0


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
            moment = time.monotonic()
            for _ in range(int(command)):
                connection.sendfile(file)
            _say(repr(moment))


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
