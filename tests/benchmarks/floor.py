"""What no design can go below: decoding the posts' bytes with the project's own Struct, and nothing else."""

import sys
import time
from pathlib import Path
from typing import Final

import msgspec

from tweetboard.formats.x_v2 import Record

POSTS: Final = 100_000
BLOCK_POSTS: Final = 64
ROUNDS: Final = 5


def main() -> None:
    blocks = [b"".join(block) for block in _blocks(Path(sys.argv[1]))]
    decoder = msgspec.json.Decoder(Record)
    costs = []
    for _ in range(ROUNDS):
        begin = time.process_time()
        count = sum(len(decoder.decode_lines(block)) for block in blocks)
        costs.append((time.process_time() - begin) / count * 1e6)
    sys.stdout.write(f"{sorted(costs)[ROUNDS // 2]:.3f}\n")
    sys.stdout.flush()


def _blocks(path: Path) -> list[list[bytes]]:
    lines: list[bytes] = []
    with path.open("rb") as file:
        while len(lines) < POSTS and (size := file.readline()):
            lines.append(file.read(int(size, 16)))
            file.read(2)
    return [lines[start : start + BLOCK_POSTS] for start in range(0, len(lines), BLOCK_POSTS)]


if __name__ == "__main__":
    main()
