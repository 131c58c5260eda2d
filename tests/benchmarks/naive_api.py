"""The same endpoint as others would write it: Flask over redis-py (waitress), and a bare ZREVRANGE under aiohttp."""

import asyncio
import sys
from typing import cast

import msgspec
import redis
import redis.asyncio
import uvloop
from aiohttp import web
from flask import Flask, Response, jsonify
from waitress.server import create_server

KEY = "username_scoreboard"
THREADS = 16  # one for each connection of the load


def flask_app(redis_url: str) -> Flask:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    app = Flask("naive")

    @app.get("/usernames")
    def usernames() -> Response:
        rows = cast("list[tuple[str, float]]", client.zrevrange(KEY, 0, 9, withscores=True))
        results = [{"rank": rank, "name": name, "score": score} for rank, (name, score) in enumerate(rows, 1)]
        return jsonify({"board": "usernames", "total": client.zcard(KEY), "results": results})

    return app


async def bare(redis_url: str) -> None:
    """Serve a page of ZREVRANGE and nothing else, encoded as fast as we do."""
    client = redis.asyncio.Redis.from_url(redis_url, protocol=2)

    async def usernames(request: web.Request) -> web.Response:
        first = int(request.query.get("offset", "0"))
        rows = cast("list[tuple[bytes, float]]", await client.zrevrange(KEY, first, first + 9, withscores=True))
        body = msgspec.json.encode([(name.decode(), score) for name, score in rows])
        return web.Response(body=body, content_type="application/json")

    app = web.Application()
    app.router.add_get("/usernames", usernames)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    _say(runner.addresses[0][1])
    await asyncio.Event().wait()


def _say(port: int) -> None:
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()


def main() -> None:
    design, redis_url = sys.argv[1:]
    if design == "bare":
        uvloop.run(bare(redis_url))
        return
    server = create_server(flask_app(redis_url), host="127.0.0.1", port=0, threads=THREADS)
    _say(int(server.effective_port))  # type: ignore[union-attr]
    server.run()


if __name__ == "__main__":
    main()
