#!/usr/bin/env python3
"""control.py COMMAND...: lets the guest ask the host for something.

Listens on a free port of 127.0.0.1 and prints it. A client sends one line, a word; `COMMAND... WORD` is
run, and the answer is `ok` or `failed`. One request at a time.
"""
import re
import socketserver
import subprocess
import sys


class Request(socketserver.StreamRequestHandler):
    timeout = 10

    def handle(self):
        word = self.rfile.readline(80).decode("ascii", "replace").strip()
        answer = "failed"
        if re.fullmatch(r"[a-z-]+", word):
            done = subprocess.run([*sys.argv[1:], word], stdin=subprocess.DEVNULL, check=False)
            answer = "ok" if done.returncode == 0 else "failed"
        self.wfile.write(answer.encode() + b"\n")


with socketserver.TCPServer(("127.0.0.1", 0), Request) as server:
    print(server.server_address[1], flush=True)
    server.serve_forever()
