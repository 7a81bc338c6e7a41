#!/usr/bin/env python3
"""switch.py TARGET: a TCP load balancer for one client that moves it between servers.

Listens on a free port of 127.0.0.1 and prints it. Each connection is joined to the HOST:PORT that the file TARGET
holds when it comes; SIGUSR1 cuts all that there are.
"""
import asyncio
import signal
import sys

cut = set()


async def pump(source, sink):
    try:
        while data := await source.read(1 << 16):
            sink.write(data)
            await sink.drain()
    except OSError:
        pass
    finally:
        sink.transport.abort()


async def join(reader, writer):
    try:
        host, port = open(sys.argv[1]).read().strip().rsplit(":", 1)
        there_reader, there_writer = await asyncio.open_connection(host, port)
    except (OSError, ValueError):
        writer.transport.abort()
        return
    ends = {writer.transport, there_writer.transport}
    cut.update(ends)
    await asyncio.gather(pump(reader, there_writer), pump(there_reader, writer))
    cut.difference_update(ends)


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, lambda: [end.abort() for end in list(cut)])
    server = await asyncio.start_server(join, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
