"""Passes on TCP connections to a unix socket, because Schemathesis knows TCP only: forward.py PORT SOCKET."""

import asyncio
import sys


tasks = set()


async def copy(reader, writer):
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
    except OSError:
        pass


async def serve(reader, writer):
    # The event loop alone does not keep a task.
    tasks.add(asyncio.current_task())
    try:
        there = await asyncio.open_unix_connection(sys.argv[2])
        await asyncio.gather(copy(reader, there[1]), copy(there[0], writer))
        there[1].close()
    finally:
        writer.close()
        tasks.discard(asyncio.current_task())


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", int(sys.argv[1]))
    print("listening", flush=True)
    await server.serve_forever()


asyncio.run(main())
