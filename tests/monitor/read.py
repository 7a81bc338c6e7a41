#!/usr/bin/env python3
"""read.py PORT PATH FIRST:COUNT...: READs of NFSv3, through libnfs, each of COUNT blocks of 4096 bytes from FIRST.

Each ends with one line: the milliseconds since 1970 when it ended, and the bytes that came, or a number
below zero. nfs-cat chooses itself how much it asks for at a time.
"""
import ctypes
import os
import sys
import time

BLOCK = 4096
nfs = ctypes.CDLL("libnfs.so.13")
nfs.nfs_init_context.restype = ctypes.c_void_p
nfs.nfs_parse_url_dir.restype = ctypes.c_void_p
nfs.nfs_get_error.restype = ctypes.c_char_p


def error(context):
    return nfs.nfs_get_error(context).decode(errors="replace")


def must(context, status, what):
    if status:
        sys.exit(f"read.py: {what}: {error(context)}")


port, path, *ranges = sys.argv[1:]
context = ctypes.c_void_p(nfs.nfs_init_context())
# The ports are settings, which a URL alone can make.
url = f"nfs://127.0.0.1/?version=3&nfsport={port}&mountport={port}&readahead=0"
if not nfs.nfs_parse_url_dir(context, url.encode()):
    must(context, 1, url)
must(context, nfs.nfs_mount(context, b"127.0.0.1", b"/"), "mount")
file = ctypes.c_void_p()
must(context, nfs.nfs_open(context, os.fsencode("/" + path), os.O_RDONLY, ctypes.byref(file)), f"open {path}")
for word in ranges:
    first, count = map(int, word.split(":"))
    buffer = ctypes.create_string_buffer(count * BLOCK)
    status = nfs.nfs_pread(context, file, ctypes.c_uint64(first * BLOCK), ctypes.c_uint64(count * BLOCK), buffer)
    ended = time.time_ns() // 1_000_000
    print(ended, status, flush=True)
