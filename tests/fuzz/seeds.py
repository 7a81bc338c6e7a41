#!/usr/bin/env python3
"""seeds.py: writes the hand-made part of the corpora, corpus/TARGET/seed-*, from the specifications
and, for signatures and certificates, from the reference data of ../vectors."""
import base64
import hashlib
import json
import os
import struct

HERE = os.path.dirname(os.path.abspath(__file__))


def seed(target, name, data):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "seed-" + name), "wb") as f:
        f.write(data)


def u32(*values):
    return b"".join(struct.pack(">I", v) for v in values)


def u64(*values):
    return b"".join(struct.pack(">Q", v) for v in values)


def opaque(data):
    return u32(len(data)) + data + b"\0" * (-len(data) % 4)


def fragment(data, last=True):
    return u32(len(data) | (1 << 31 if last else 0)) + data


# --- calls, RFC 5531
NONE = u32(0, 0)
SYS = u32(1) + opaque(u32(77) + opaque(b"client") + u32(1000, 100) + u32(2, 4, 24))
FULL_SYS = u32(1) + opaque(u32(77) + opaque(b"m" * 255) + u32(0, 0) + u32(16, *range(16)))


def call(program, version, procedure, credential, arguments=b""):
    return u32(7, 0, 2, program, version, procedure) + credential + NONE + arguments


HANDLE = opaque(bytes(range(40)))
calls = {
    "null": call(100003, 3, 0, NONE),
    "getattr": call(100003, 3, 1, SYS, HANDLE),
    "read": call(100003, 3, 6, FULL_SYS, HANDLE + u64(4096) + u32(1 << 20)),
    "mnt": call(100005, 3, 1, SYS, opaque(b"/")),
    "reply": u32(7, 1, 0),
    "rpc-version-3": u32(7, 0, 3, 100003, 3, 0) + NONE + NONE,
    "gss": u32(7, 0, 2, 100003, 3, 0, 6) + opaque(b"x" * 20) + NONE,
    "bad-verifier": u32(7, 0, 2, 100003, 3, 0) + NONE + u32(1) + opaque(b"1234"),
    "giant-gids": u32(7, 0, 2, 100003, 3, 0, 1) + opaque(u32(1) + opaque(b"m") + u32(0, 0, 0xFFFFFFFF)) + NONE,
}
for name, data in calls.items():
    seed("call", name, data)

# --- records: limit / 64, bytes at a time, stream
read = calls["read"]
seed("record", "one", bytes([64, 7]) + fragment(read))
seed("record", "three", bytes([64, 64]) + b"".join(map(fragment, list(calls.values())[:3])))
seed("record", "fragments", bytes([64, 1]) + fragment(read[:8], False) + fragment(b"", False) + fragment(read[8:]) + fragment(b""))
seed("record", "many-fragments", bytes([64, 9]) + fragment(b"", False) * 70)
seed("record", "too-long", bytes([1, 3]) + u32(0x80000041) + b"x" * 65)
seed("record", "giant", bytes([255, 4]) + b"\xff" * 12)
seed("record", "sum-too-long", bytes([1, 5]) + fragment(b"a" * 60, False) + fragment(b"b" * 60))

# --- xdr: number of operations, operations (kind + 6 * argument), bytes
U32, U64, BOOL, FIXED, OPAQUE, COUNT = range(6)


def script(*operations):
    return bytes([len(operations)]) + bytes(kind + 6 * argument for kind, argument in operations)


seed("xdr", "all", script((U32, 0), (U64, 0), (BOOL, 0), (FIXED, 5), (OPAQUE, 9), (COUNT, 4))
     + u32(9) + u64(1 << 40) + u32(1) + b"fixed\0\0\0" + opaque(b"variable") + u32(3))
seed("xdr", "too-long", script((OPAQUE, 3)) + opaque(b"four"))
seed("xdr", "giant", script((OPAQUE, 40), (COUNT, 40)) + b"\xff" * 12)
seed("xdr", "padding-cut", script((OPAQUE, 3)) + u32(3) + b"abc")
seed("xdr", "not-a-bool", script((BOOL, 0), (BOOL, 0)) + u32(0, 2))

# --- arguments of NFSv3, RFC 1813: procedure, arguments
NAME = opaque(b"name")
ALL_SET = u32(1, 0o644, 1, 1, 1, 2, 1) + u64(3) + u32(2, 4, 5, 1)
NOTHING_SET = u32(0, 0, 0, 0, 0, 0)
VERIFIER = b"verifier"
arguments = {
    "null": (0, b""),
    "getattr": (1, HANDLE),
    "setattr": (2, HANDLE + ALL_SET + u32(1) + u64(5)),
    "lookup": (3, HANDLE + NAME),
    "lookup-long": (3, HANDLE + opaque(b"n" * 255)),
    "access": (4, HANDLE + u32(0x3F)),
    "readlink": (5, HANDLE),
    "read": (6, HANDLE + u64(0) + u32(65536)),
    "read-last": (6, HANDLE + u64(2**64 - 1) + u32(2**32 - 1)),
    "write": (7, HANDLE + u64(0) + u32(5, 2) + opaque(b"hello")),
    "create": (8, HANDLE + NAME + u32(1) + NOTHING_SET),
    "create-exclusive": (8, HANDLE + NAME + u32(2) + VERIFIER),
    "mkdir": (9, HANDLE + NAME + ALL_SET),
    "symlink": (10, HANDLE + NAME + NOTHING_SET + opaque(b"../target")),
    "mknod-block": (11, HANDLE + NAME + u32(3) + NOTHING_SET + u32(8, 1)),
    "mknod-fifo": (11, HANDLE + NAME + u32(7) + ALL_SET),
    "remove": (12, HANDLE + NAME),
    "rmdir": (13, HANDLE + NAME),
    "rename": (14, HANDLE + NAME + HANDLE + opaque(b"other")),
    "link": (15, HANDLE + HANDLE + NAME),
    "readdir": (16, HANDLE + u64(3) + VERIFIER + u32(4096)),
    "readdirplus": (17, HANDLE + u64(0) + VERIFIER + u32(512, 32768)),
    "fsstat": (18, HANDLE),
    "fsinfo": (19, HANDLE),
    "pathconf": (20, HANDLE),
    "commit": (21, HANDLE + u64(0) + u32(0)),
    "unknown": (22, HANDLE),
    "giant-handle": (1, b"\xff" * 8),
    "handle-of-65": (1, opaque(b"h" * 65)),
}
for name, (procedure, data) in arguments.items():
    seed("nfs3_args", name, bytes([procedure]) + data)


# --- arguments and results of the sideband, xdr/integrity.x: which, bytes
XATTR_ARGS, LIST_ARGS, PROOF_ARGS, XATTR_RES, LIST_RES, PROOF_RES = range(6)
BLOCK = u32(1) + u64(0) + opaque(b"t" * 64) + u32(0) + u64(7) + opaque(b"u" * 63)
sideband = {
    "getxattr": (XATTR_ARGS, HANDLE + opaque(b"verity.status")),
    "getxattr-longest": (XATTR_ARGS, opaque(b"h" * 64) + opaque(b"n" * 255)),
    "getxattr-too-long": (XATTR_ARGS, HANDLE + opaque(b"n" * 256)),
    "listxattrs": (LIST_ARGS, HANDLE + u64(2)),
    "getproof": (PROOF_ARGS, HANDLE + u64(4096) + u64(2**64 - 1)),
    "giant-handle": (PROOF_ARGS, b"\xff" * 8),
    "value": (XATTR_RES, u32(0) + opaque(b"verified")),
    "no-value": (XATTR_RES, u32(10095)),
    "no-status": (XATTR_RES, u32(1)),
    "names": (LIST_RES, u32(0) + u64(2) + u32(2) + opaque(b"ima") + opaque(b"verity.digest") + u32(1)),
    "giant-names": (LIST_RES, u32(0) + u64(2) + b"\xff" * 8),
    "proof": (PROOF_RES, u32(0) + opaque(b"d" * 256) + u64(8192) + u32(2) + BLOCK),
    "proof-of-nothing": (PROOF_RES, u32(0) + opaque(b"d" * 256) + u64(0) + u32(0)),
    "proof-cut": (PROOF_RES, u32(0) + opaque(b"d" * 256) + u64(8192) + u32(3) + BLOCK),
    "giant-block": (PROOF_RES, u32(0) + opaque(b"") + u64(1) + u32(1, 0) + u64(0) + b"\xff" * 9),
    "refused": (PROOF_RES, u32(13)),
}
for name, (which, data) in sideband.items():
    seed("sideband", name, bytes([which]) + data)


# --- compounds of NFSv4, RFC 8881, RFC 7862, RFC 8276: odd for a session of the target's own, arguments
STATEID = u32(0) + bytes(12)
CURRENT = u32(1) + bytes(12)
ROOT = u32(24)
HELLO = ROOT + u32(15) + opaque(b"hello")
HERE_ATTRIBUTES = u32(9, 2, 0x0018091A, 0x00B0A23A)
OPEN = u32(18, 0, 1, 0) + u64(0) + opaque(b"owner") + u32(0, 4)
RECLAIMED = u32(58, 0)
LOCKED = u32(12, 1, 0) + u64(0, 10) + u32(1, 0) + CURRENT + u32(0) + u64(0) + opaque(b"locker")


def in_session(count, operations):
    return u32(0, 2, count + 1, 53) + bytes(16) + u32(1, 0, 0, 1) + operations


compounds = {
    "empty": (0, u32(0, 2, 0)),
    "minor-0": (0, opaque(b"tag") + u32(0, 1, 35)),
    "exchange": (0, u32(0, 2, 1, 42) + b"verifier" + opaque(b"another") + u32(0, 0, 0)),
    "not-in-session": (0, u32(0, 2, 1) + ROOT),
    "sequence": (1, in_session(0, b"")),
    "getattr": (1, in_session(3, HELLO + HERE_ATTRIBUTES)),
    "readdir": (1, in_session(2, ROOT + u32(26) + u64(0, 0) + u32(512, 4096, 1, 0x00080012))),
    "read": (1, in_session(3, HELLO + u32(25) + STATEID + u64(0) + u32(4096))),
    "read-plus": (1, in_session(3, HELLO + u32(68) + STATEID + u64(0) + u32(4096))),
    "seek": (1, in_session(3, HELLO + u32(69) + STATEID + u64(0) + u32(1))),
    "open-read-close": (1, in_session(6, RECLAIMED + HELLO + OPEN + u32(25) + CURRENT + u64(0) + u32(99) + u32(4, 0) + CURRENT)),
    "lock": (1, in_session(6, RECLAIMED + HELLO + OPEN + LOCKED + u32(14, 2, 0) + CURRENT + u64(0, 5))),
    "lockt": (1, in_session(3, HELLO + u32(13, 2) + u64(0, 2**64 - 1, 0) + opaque(b"o"))),
    "verify": (1, in_session(3, HELLO + u32(37, 1, 16) + opaque(u64(13)))),
    "xattrs": (1, in_session(4, HELLO + u32(74) + u64(0) + u32(4096) + u32(72) + opaque(b"verity.status"))),
    "secinfo": (1, in_session(2, ROOT + u32(33) + opaque(b"hello"))),
    "saved": (1, in_session(6, ROOT + u32(32) + u32(15) + opaque(b"dir") + u32(16, 31, 10))),
    "access": (1, in_session(3, HELLO + u32(3, 0x1FF))),
    "readlink": (1, in_session(3, ROOT + u32(15) + opaque(b"link") + u32(27))),
    "setattr": (1, in_session(3, HELLO + u32(34) + STATEID + u32(2, 0, 2) + opaque(u32(0o644)))),
    "stateids": (1, in_session(2, u32(55, 2) + STATEID + CURRENT + u32(45) + STATEID)),
    "destroy": (1, u32(0, 2, 1, 44) + bytes(16)),
    "illegal": (1, in_session(1, u32(10044))),
    "giant-count": (0, u32(0, 2, 0xFFFFFFFF)),
}
for name, (own, data) in compounds.items():
    seed("compound", name, bytes([own]) + data)

# --- statements and envelopes
def statement(name="bin/ls", algorithm="sha256", digest="ab" * 32, namespace="", size=5000, **more):
    return json.dumps(
        {
            "_type": "https://in-toto.io/Statement/v1",
            "subject": [{"name": name, "digest": {f"fsverity-{algorithm}": digest}}],
            "predicateType": "urn:nfs-verity:file:v1",
            "predicate": {
                "namespace": namespace,
                "size": size,
                "hashAlgorithm": algorithm,
                "blockSize": 4096,
                "version": 1,
                **more,
            },
        },
        separators=(",", ":"),
    ).encode()


def envelope(payload, signatures=1):
    return json.dumps(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": "application/vnd.in-toto+json",
            "signatures": [
                {"keyid": hashlib.sha256(bytes([i])).hexdigest(), "sig": base64.b64encode(bytes([i]) * 64).decode()}
                for i in range(signatures)
            ],
        },
        separators=(",", ":"),
    ).encode()


statements = {
    "plain": statement(),
    "expiring": statement(expires="2027-01-01T00:00:00Z", namespace="releases"),
    "sha512": statement(algorithm="sha512", digest="cd" * 64, size=2**63 - 1),
    "odd-names": statement(name="a%0Ab/%FF%FE", namespace='a "b"\n'),
    "two-subjects": statement().replace(b'"}}],', b'"}},{"name":"x","digest":{}}],'),
    "doubled-key": statement().replace(b'"size":5000', b'"size":5000,"size":1'),
}
for name, data in statements.items():
    seed("statement", name, data)
    seed("statement", "envelope-" + name, envelope(data))
seed("statement", "envelope-of-16", envelope(statement(), 16))
seed("statement", "envelope-of-none", envelope(statement(), 0))
seed("statement", "envelope-loose-base64", envelope(statement()).replace(b'=="', b'"'))
seed("statement", "deep", b'{"payload":' + b"[" * 200 + b"]" * 200 + b"}")

# --- bundles: 1 = put the right checksum there, then the bundle
DESCRIPTOR = struct.pack("<BBBBIQ64s32s144x", 1, 1, 12, 0, 0, 5000, b"r" * 32, b"")
OBSERVED = struct.pack("<QqqII", 99, 1_700_000_000, 1_700_000_001, 5, 6)


def bundle(sections, tree=0, offset=None, version=1):
    head = 32 + 12 * len(sections) + sum(len(body) for _, body in sections) + 32
    if offset is None:
        offset = (head + 4095) // 4096 * 4096 if tree else head
    out = b"\x89nfsvty\n" + struct.pack("<HHIQQ", version, len(sections), head, offset, tree)
    at = 32 + 12 * len(sections)
    for kind, body in sections:
        out += struct.pack("<HHII", kind, 0, at, len(body))
        at += len(body)
    out += b"".join(body for _, body in sections) + b"\0" * 32
    return out.ljust(offset, b"\0")


ENVELOPE = envelope(statement())
both = [(1, DESCRIPTOR), (2, ENVELOPE)]
seed("bundle", "small", b"\x01" + bundle(both))
seed("bundle", "observed", b"\x01" + bundle(both + [(3, OBSERVED)]))
seed("bundle", "tree", b"\x05" + bundle(both + [(3, OBSERVED)], tree=4096))
seed("bundle", "unknown-section", b"\x01" + bundle(both + [(77, b"later")]))
seed("bundle", "doubled-section", b"\x01" + bundle(both + [(1, DESCRIPTOR)]))
seed("bundle", "no-statement", b"\x01" + bundle([(1, DESCRIPTOR)]))
SIGNATURES = [(4, b"0\x82pkcs7"), (5, b"\x03\x02\x04ima"), (6, b"0\x82certificate")]
seed("bundle", "signatures", b"\x01" + bundle(both + [(3, OBSERVED)] + SIGNATURES * 2))
seed("bundle", "sixteen-of-a-kind", b"\x01" + bundle([(1, DESCRIPTOR)] + SIGNATURES * 16))
seed("bundle", "seventeen-of-a-kind", b"\x01" + bundle([(1, DESCRIPTOR)] + SIGNATURES[:1] * 17))
seed("bundle", "empty-signature", b"\x01" + bundle([(1, DESCRIPTOR), (5, b"")]))
seed("bundle", "version-2", b"\x01" + bundle(both, version=2))
seed("bundle", "wrong-checksum", b"\x00" + bundle(both))
seed("bundle", "giant", b"\x01" + bundle(both)[:12] + b"\xff" * 60)

# --- footers: the size of the file, then the footer


def footer(total, data, bundle, magic=b"\x89nfsvap\n", version=1, padding=bytes(6)):
    fields = struct.pack("<H", version) + padding + struct.pack("<QQ", data, bundle)
    return struct.pack("<Q", total) + magic + fields


seed("footer", "good", footer(337, 5, 300))
seed("footer", "empty", footer(32, 0, 0))
seed("footer", "large", footer(2**63 + 41, 2**63, 9))
seed("footer", "over", footer(30, 2**64 - 1, 2**64 - 1))
seed("footer", "version-2", footer(337, 5, 300, version=2))
seed("footer", "padding", footer(337, 5, 300, padding=b"\0\0\0\0\0\x01"))
seed("footer", "magic-of-a-bundle", footer(337, 5, 300, magic=b"\x89nfsvty\n"))

# --- configuration
ALL = b"""# everything
store = "/srv/tree"
trust = "/etc/nfs-verity/trust"
listen = "[::]:2049"
monitor = "127.0.0.1:0"
namespace = "releases"
mode = "warn"
audit_log = "/var/log/nfs-verity.log"
cache = "64MiB"
state = "/var/lib/nfs-verity"
squash = "all"
anonymous_uid = 99
anonymous_gid = 0x64
rpcbind = true

[limits]
connections = 100
calls_per_connection = 32
idle_seconds = 60
"""
configurations = {
    "all": ALL,
    "crlf": ALL.replace(b"\n", b"\r\n"),
    "inline-limits": b"store = '/s'\ntrust = \"\"\"/t\"\"\"\nlimits = { connections = 1, idle_seconds = 604_800 }\n",
    "wrong-type": b"store = 5\n",
    "wrong-address": b'listen = "localhost"\n',
    "wrong-mode": b'mode = "off"\n',
    "wrong-size": b'cache = "99999999999999999999GiB"\n',
    "unknown-limit": b"[limits]\nspeed = 1\n",
    "empty": b"",
    "not-utf8": b"store = \"\xff\"\n",
    "not-toml": b"store = \n",
    "unknown-key": b'stoer = "/srv/tree"\n',
    "doubled": b'store = "a"\nstore = "b"\n',
    "deep": b"a = " + b"[" * 300,
}
for name, data in configurations.items():
    seed("config", name, data)

# --- signatures of other programs, and certificates
VECTORS = os.path.join(os.path.dirname(HERE), "vectors")


def vectors(folder, *endings):
    for name in sorted(os.listdir(os.path.join(VECTORS, folder))):
        if name.endswith(endings):
            with open(os.path.join(VECTORS, folder, name), "rb") as f:
                yield name, f.read()


def der(tag, *parts):
    body = b"".join(parts)
    if len(body) < 128:
        return bytes([tag, len(body)]) + body
    size = (len(body).bit_length() + 7) // 8
    return bytes([tag, 0x80 | size]) + len(body).to_bytes(size, "big") + body


def oid(text):
    return der(6, bytes.fromhex(text))


DATA, SIGNED_DATA = oid("2a864886f70d010701"), oid("2a864886f70d010702")
SHA_256 = der(0x30, oid("608648016503040201"), b"\5\0")
RSA = der(0x30, oid("2a864886f70d010101"), b"\5\0")
ECDSA = der(0x30, oid("2a8648ce3d040302"))
ISSUER = der(0x30, der(0x31, der(0x30, oid("550403"), der(0x0C, b"signer"))))
ATTRIBUTES = der(
    0xA0,
    der(0x30, oid("2a864886f70d010903"), der(0x31, DATA)),
    der(0x30, oid("2a864886f70d010905"), der(0x31, der(0x17, b"260101000000Z"))),
    der(0x30, oid("2a864886f70d010904"), der(0x31, der(4, hashlib.sha256(b"content").digest()))),
)


def signer(version=1, sid=der(0x30, ISSUER, der(2, b"\x55")), attributes=b"", algorithm=RSA, rest=b""):
    return der(0x30, der(2, bytes([version])), sid, SHA_256, attributes, algorithm, der(4, b"s" * 64), rest)


def pkcs7(*signers, version=1, content=b"", certificates=b"", crls=b""):
    return der(0x30, SIGNED_DATA, der(0xA0, der(
        0x30, der(2, bytes([version])), der(0x31, SHA_256), der(0x30, DATA, content), certificates, crls,
        der(0x31, *signers))))


for name, data in vectors("pkcs7", ".p7s"):
    seed("pkcs7", name, data)
CERTIFICATES = [data for _, data in vectors("keys", ".crt.der")]
messages = {
    "attributes": pkcs7(signer(attributes=ATTRIBUTES, algorithm=ECDSA)),
    "key-id": pkcs7(signer(3, der(0x80, b"k" * 20)), version=3),
    "certificates": pkcs7(signer(), certificates=der(0xA0, *CERTIFICATES), crls=der(0xA1, der(0x30))),
    "unsigned-attributes": pkcs7(signer(rest=der(0xA1, der(0x30, DATA, der(0x31, b"\5\0"))))),
    "two": pkcs7(signer(), signer(algorithm=ECDSA)),
    "pss": pkcs7(signer(algorithm=der(0x30, oid("2a864886f70d01010a"))), signer()),
    "content": pkcs7(signer(), content=der(0xA0, der(4, b"content"))),
    "none": pkcs7(),
    "indefinite": b"\x30\x80" + SIGNED_DATA + b"\xa0\x80\0\0\0\0",
    "giant": b"\x30\x84\xff\xff\xff\xff" + SIGNED_DATA,
}
for name, data in messages.items():
    seed("pkcs7", name, data)

for name, data in vectors("ima", ".imasig_v2", ".imasig_v3", ".imasig_v3_regular"):
    seed("ima", name, data)
seed("ima", "digest", b"\4\4" + hashlib.sha256(b"").digest())
seed("ima", "long", b"\3\2\4keyi\xff\xff" + b"s" * 64)

LISTS = dict(vectors("ima", ".bin"))
for name, data in LISTS.items():
    seed("measured", name, data)
record = LISTS["list.ima-ngv2.bin"]
measured = {
    "old-violation": record[:4] + bytes(20) + struct.pack("<I", 6) + b"ima-ng" + struct.pack("<II", 39, 28)
    + b"sha256:\0" + bytes(20) + struct.pack("<I", 3) + b"/f\0",
    "other-register": b"\x0b" + record[1:],
    "altered": record[:-3] + b"!" + record[-2:],
    "legacy": record[:24] + struct.pack("<I", 3) + b"ima" + bytes(20),
    "giant-name": record[:24] + b"\xff" * 4 + record[28:],
    "giant-data": record[:36] + b"\xff" * 4 + record[40:],
    "giant-field": record[:40] + b"\xff" * 4 + record[44:],
}
for name, data in measured.items():
    seed("measured", name, data)

for name, data in vectors("tpm", ".msg"):
    seed("quote", name, b"\0" + data)
for name, data in vectors("tpm", ".sig"):
    seed("quote", name, b"\1" + data)
QUOTE = b"\0" + dict(vectors("tpm", ".msg"))["ec.msg"]
COUNT = QUOTE.index(b"\0\0\0\3\0\4\3")
quotes = {
    "one-bank": QUOTE[:COUNT] + b"\0\0\0\1\0\x0b\3\0\x20\0" + QUOTE[-34:],
    "four-bytes": QUOTE[:COUNT] + b"\0\0\0\1\0\x0b\4\0\0\0\x80" + QUOTE[-34:],
    "bank-twice": QUOTE[:COUNT] + b"\0\0\0\2" + b"\0\x0b\3\0\x20\0" * 2 + QUOTE[-34:],
    "two-registers": QUOTE[:COUNT] + b"\0\0\0\1\0\x0b\3\0\x21\0" + QUOTE[-34:],
    "giant-count": QUOTE[:COUNT] + b"\xff\xff\xff\xff" + QUOTE[COUNT + 4:],
    "giant-name": QUOTE[:7] + b"\xff\xff" + QUOTE[9:],
    "certify": QUOTE[:6] + b"\x17" + QUOTE[7:],
    "giant-signature": b"\1\0\x14\0\x0b\xff\xff",
    "mark": b"\2nfs-verity measurement register 1\npcr 13\nbegan 7\nrecords 9\n"
    + b"".join(b"%s %s\n" % (bank, b"ab" * size) for bank, size in [(b"sha1", 20), (b"sha256", 32), (b"sha384", 48)])
    + b"signature 00ff\n",
}
for name, data in quotes.items():
    seed("quote", name, data)

for name, data in vectors("modsig", ".modsig"):
    seed("modsig", name, b"\0" + data)
    seed("modsig", name + "-magic", b"\1" + data[:-28])
appended = {
    "small": b"c" + messages["two"] + bytes([0, 0, 2, 0, 0, 0, 0, 0]) + u32(len(messages["two"])),
    "no-content": b"s" * 9 + bytes([0, 0, 2, 0, 0, 0, 0, 0]) + u32(9),
    "giant": b"s" * 9 + bytes([0, 0, 2, 0, 0, 0, 0, 0]) + u32(0xFFFFFFFF),
    "pgp": b"s" * 9 + bytes([1, 4, 0, 5, 8, 0, 0, 0]) + u32(4),
    "nothing": b"",
}
for name, data in appended.items():
    seed("modsig", name, b"\1" + data)

for name, data in vectors("keys", ".crt.der"):
    seed("certificate", name, data)
seed("certificate", "trailing", CERTIFICATES[0] + b"\0")
seed("certificate", "indefinite", b"\x30\x80" + CERTIFICATES[0][4:] + b"\0\0")
seed("certificate", "nested", bytes.fromhex("3080") * 200)

# --- replies of an upstream server, RFC 1813, RFC 5531: what they answer, count / 256, the reply
QUESTIONS = ["getattr", "lookup", "readlink", "read", "write", "make", "change", "readdir", "readdirplus",
             "fsstat", "fsinfo", "pathconf", "commit", "mount", "getport"]


def fattr(kind=1, size=5):
    times = u32(1_700_000_000, 1, 1_700_000_001, 2, 1_700_000_002, 999_999_999)
    return u32(kind, 0o100644, 1, 1000, 100) + u64(size, 4096) + u32(0, 0) + u64(1, 77) + times


def reply(results, verifier=NONE, accepted=0):
    return u32(7, 1, 0) + verifier + u32(accepted) + results


POST = u32(1) + fattr()
WCC = u32(1) + u64(5) + u32(1, 2, 3, 4) + POST
ENTRY = u32(1) + u64(9) + NAME + u64(3)
LAST = u32(0, 1)
replies = {
    "getattr": ("getattr", u32(0) + fattr()),
    "getattr-kind": ("getattr", u32(0) + fattr(kind=8)),
    "stale": ("getattr", u32(70)),
    "busy": ("read", u32(10008, 0)),
    "unknown-status": ("change", u32(0xFFFFFFFF)),
    "lookup": ("lookup", u32(0) + HANDLE + POST + POST),
    "lookup-bare": ("lookup", u32(0) + opaque(b"h" * 64) + u32(0, 0)),
    "lookup-long-handle": ("lookup", u32(0) + opaque(b"h" * 65) + u32(0, 0)),
    "lookup-giant-handle": ("lookup", u32(0) + b"\xff" * 12),
    "readlink": ("readlink", u32(0) + POST + opaque(b"../target")),
    "readlink-giant": ("readlink", u32(0, 0) + b"\xff" * 12),
    "read": ("read", u32(0) + POST + u32(5, 1) + opaque(b"hello")),
    "read-other-count": ("read", u32(0, 0, 6, 1) + opaque(b"hello")),
    "read-too-much": ("read", u32(0, 0, 260, 0) + opaque(b"r" * 260)),
    "read-giant": ("read", u32(0, 0, 0xFFFFFFFF, 0, 0xFFFFFFFF)),
    "write": ("write", u32(0) + WCC + u32(5, 2) + VERIFIER),
    "write-nothing": ("write", u32(0, 0, 0) + u32(0, 0) + VERIFIER),
    "write-too-much": ("write", u32(0, 0, 0) + u32(257, 0) + VERIFIER),
    "make": ("make", u32(0, 1) + HANDLE + POST + WCC),
    "make-untold": ("make", u32(0, 0, 0) + WCC),
    "change": ("change", u32(0) + WCC),
    "change-exists": ("change", u32(17) + WCC),
    "readdir": ("readdir", u32(0) + POST + VERIFIER + ENTRY + ENTRY + LAST),
    "readdir-empty": ("readdir", u32(0, 0) + VERIFIER + u32(0, 0)),
    "readdir-long-name": ("readdir", u32(0, 0) + VERIFIER + u32(1) + u64(9) + opaque(b"n" * 256) + u64(3) + LAST),
    "readdirplus": ("readdirplus", u32(0, 0) + VERIFIER + ENTRY + POST + u32(1) + HANDLE + ENTRY + u32(0, 0) + LAST),
    "readdirplus-many": ("readdirplus", u32(0, 0) + VERIFIER + (ENTRY + u32(0, 0)) * 40 + u32(0, 0)),
    "fsstat": ("fsstat", u32(0) + POST + u64(6, 5, 4, 3, 2, 1) + u32(0)),
    "fsinfo": ("fsinfo", u32(0) + POST + u32(1 << 20, 1 << 20, 1, 1 << 20, 1 << 20, 1, 4096) + u64(1 << 40) + u32(0, 1, 0x1B)),
    "pathconf": ("pathconf", u32(0) + POST + u32(32000, 255, 1, 1, 0, 1)),
    "commit": ("commit", u32(0) + WCC + VERIFIER),
    "mount": ("mount", u32(0) + HANDLE + u32(2, 390003, 1)),
    "mount-gss": ("mount", u32(0) + HANDLE + u32(1, 390003)),
    "mount-giant": ("mount", u32(0) + HANDLE + u32(0xFFFFFFFF)),
    "getport": ("getport", u32(2049)),
    "getport-none": ("getport", u32(0)),
    "getport-giant": ("getport", u32(65536)),
}
for name, (question, data) in replies.items():
    seed("upstream", name, bytes([QUESTIONS.index(question), 1]) + reply(data))
frames = {
    "denied": u32(7, 1, 1, 1, 5),
    "no-such-reply": u32(7, 1, 2),
    "mismatch": reply(u32(3, 4), accepted=2),
    "no-procedure": reply(b"", accepted=3),
    "garbage": reply(b"", accepted=4),
    "verifier": reply(u32(0) + fattr(), verifier=u32(1) + opaque(b"v" * 400)),
    "giant-verifier": u32(7, 1, 0, 1) + b"\xff" * 12,
}
for name, data in frames.items():
    seed("upstream", "rpc-" + name, bytes([0, 1]) + data)

# --- policies of exports: the grammar of Linux IPE, and what it has more here
HEADER = b"policy_name=p policy_version=1.2.3\n"
RULES = b"""DEFAULT action=DENY
DEFAULT op=EXECUTE action=ALLOW
op=EXECUTE fsverity_digest=sha256:00fF dmverity_roothash=sha512:ab action=DENY
op=EXECUTE boot_verified=TRUE dmverity_signature=FALSE fsverity_signature=TRUE action=ALLOW # a comment
op=READ path=boot/** quorum=2 action=ALLOW
op=READ intended_pathname=/**/*.{so,[a-z]?} signer=release format=native action=ALLOW
op=READ signer=""" + b"a1" * 32 + b""" signed_after=2026-01-31 action=ALLOW
op=READ signed_after=1969-12-31T23:59:59.5+01:00 path=a\\*b action=DENY
op=LIST client=10.0.0.0/8 uid=1000 path=/ action=ALLOW
op=XATTR client=::ffff:10.1.2.3 action=DENY
op=XATTR client=fd00::/8 action=ALLOW
"""
EACH = b"".join(b"DEFAULT op=%s action=DENY\n" % op for op in (
    b"EXECUTE", b"FIRMWARE", b"KMODULE", b"KEXEC_IMAGE", b"KEXEC_INITRAMFS", b"POLICY", b"X509_CERT"))
policies = {
    "all": HEADER + RULES,
    "crlf": (HEADER + RULES).replace(b"\n", b"\r\n"),
    "cr-and-tabs": (HEADER + RULES).replace(b"\n", b"\r").replace(b" ", b"\t \t"),
    "defaults-of-each": HEADER + EACH + b"op=READ action=ALLOW\n",
    "default-missing": HEADER + EACH[:-1 - len(b"DEFAULT op=X509_CERT action=DENY")],
    "default-twice": HEADER + b"DEFAULT action=DENY\nDEFAULT action=ALLOW\n",
    "default-with-property": HEADER + b"DEFAULT op=READ uid=1 action=DENY\n",
    "nul": HEADER + b"DEFAULT action=DENY\0op=READ\n",
    "nbsp": HEADER + b"DEFAULT action=DENY\xa0\x0b",
    "version-range": b"policy_name=p policy_version=0.+0000.65536\nDEFAULT action=DENY\n",
    "version-overflow": b"policy_name=p policy_version=0.0.18446744073709551616\n",
    "version-parts": b"policy_name=p policy_version=1.2.3.4\n",
    "digest-odd": HEADER + b"DEFAULT action=DENY\nop=READ fsverity_digest=sha256:0 action=DENY\n",
    "digest-empty": HEADER + b"DEFAULT action=DENY\nop=READ fsverity_digest=: action=DENY\n",
    "braces": HEADER + b"DEFAULT action=DENY\nop=READ path=" + b"{**/a,b/**/}" * 20 + b" action=DENY\n",
    "many-properties": HEADER + b"DEFAULT action=DENY\nop=READ " + b"uid=1 " * 62 + b"action=DENY\n",
    "control": HEADER + b"DEFAULT action=DENY\nop=READ \x1b[31m=\xff action=DENY\n",
    "no-header": RULES,
    "empty": b"",
}
for name, data in policies.items():
    seed("policy", name, data)
for name, data in vectors("ipe", ".txt"):
    seed("policy", name, data)
