#!/usr/bin/env python3
"""nfs4.py COMMAND...: what nfs4.guest needs and no program there does.

  hold FILE START LENGTH WORD  takes a shared lock on bytes of FILE, makes /tmp/WORD, holds until that goes
  held FILE START LENGTH       says what lock of another process or client stands against writing there
  told FILE PATH               checks the extended attributes of FILE, the signed file PATH, with each other
  same FILE DIRECTORY          compares the extended attributes of FILE with the files of DIRECTORY
"""
import base64
import fcntl
import json
import os
import struct
import sys
import time

FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid
TEXT = {"digest", "status", "tree"}


def lock(kind, start, length):
    return struct.pack(FLOCK, kind, os.SEEK_SET, int(start), int(length), 0)


def hold(path, start, length, word):
    fd = os.open(path, os.O_RDONLY)
    fcntl.fcntl(fd, fcntl.F_SETLKW, lock(fcntl.F_RDLCK, start, length))
    mark = "/tmp/" + word
    open(mark, "w").close()
    while os.path.exists(mark):
        time.sleep(0.05)
        os.pread(fd, 1, 0)
    fcntl.fcntl(fd, fcntl.F_SETLK, lock(fcntl.F_UNLCK, start, length))


def held(path, start, length):
    fd = os.open(path, os.O_RDONLY)
    answer = fcntl.fcntl(fd, fcntl.F_GETLK, lock(fcntl.F_WRLCK, start, length))
    kind, _, start, length, _ = struct.unpack(FLOCK, answer)
    print("free" if kind == fcntl.F_UNLCK else f"{'read' if kind == fcntl.F_RDLCK else 'write'} {start} {length}")


def values(path):
    return {name: os.getxattr(path, name) for name in os.listxattr(path)}


def told(path, signed):
    found = values(path)
    verity = {name.removeprefix("user.verity."): value for name, value in found.items()}
    for name in ["digest", "descriptor", "statement", "signer", "status", "tree"]:
        assert verity[name], f"{name} in {list(found)}"
    assert verity["status"] == b"verified", verity["status"]
    assert len(verity["descriptor"]) == 256
    assert int.from_bytes(verity["descriptor"][8:16], "little") == os.stat(path).st_size
    envelope = json.loads(verity["statement"])
    subject = json.loads(base64.b64decode(envelope["payload"]))["subject"][0]
    digest = verity["digest"].decode().split(":")[1]
    assert digest in subject["digest"].values(), subject
    assert subject["name"].endswith(signed), subject
    keys = {line.split()[0] for line in verity["signer"].decode().splitlines()}
    assert keys & {signature["keyid"] for signature in envelope["signatures"]}, keys
    assert verity["descriptor"][16:48].hex() in verity["tree"].decode(), verity["tree"]


def same(path, directory):
    expected = {}
    for name, value in values(path).items():
        name = name.removeprefix("user.").removeprefix("verity.")
        expected[name] = value + b"\n" if name in TEXT else value
    stand = {}
    for name in os.listdir(directory):
        place = os.path.join(directory, name)
        with open(place, "rb") as file:
            stand[name] = file.read()
        info = os.stat(place)
        assert (info.st_size, info.st_mode & 0o7333) == (len(stand[name]), 0), info
    assert stand == expected, f"{sorted(stand)}, not {sorted(expected)}" + "".join(
        f"; {name}: {stand[name]!r}, not {expected[name]!r}"[:200]
        for name in stand.keys() & expected.keys()
        if stand[name] != expected[name]
    )


globals()[{"hold": "hold", "held": "held", "told": "told", "same": "same"}[sys.argv[1]]](*sys.argv[2:])
