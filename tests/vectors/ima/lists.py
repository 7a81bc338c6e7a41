#!/usr/bin/env python3
"""lists.py: writes the measurement lists list.*, from the files beside it. Knows nothing of nfs-verity; needs fsverity."""
import hashlib
import os
import struct
import subprocess
import tempfile

os.chdir(os.path.dirname(os.path.abspath(__file__)))


def read(name):
    with open(name, "rb") as f:
        return f.read()


def field(data):
    return struct.pack("<I", len(data)) + data


def fs_verity(data):
    with tempfile.NamedTemporaryFile() as f:
        f.write(data)
        f.flush()
        return bytes.fromhex(subprocess.check_output(["fsverity", "digest", "--compact", f.name], text=True).strip())


def digest(prefix, value):
    return prefix.encode() + b":\0" + value


def name(text):
    return text.replace(" ", "_").encode() + b"\0"


BOOT = hashlib.sha256(bytes(10 * 32)).digest()
HELLO = read("hello")
SHA_256 = hashlib.sha256(HELLO).digest()
SHA_512 = hashlib.sha512(HELLO).digest()
VERITY = fs_verity(bytes((i * 31 + 7) & 0xFF for i in range(4097)))
COMMAND_LINE = b"root=/dev/vda"
NG, NG2 = digest("sha256", BOOT), digest("ima:sha256", BOOT)
AGGREGATE = name("boot_aggregate")

# Each record: the fields, and whether it is a violation.
LISTS = {
    "ima-ng": [
        ([NG, AGGREGATE], False),
        ([digest("sha256", SHA_256), name("/srv/hello")], False),
        ([digest("sha512", SHA_512), name("/srv/hello world")], False),
    ],
    "ima-sig": [
        ([NG, AGGREGATE, b""], False),
        ([digest("sha256", SHA_256), name("/srv/hello"), read("hello.rsa2048.sha256.imasig_v2")], False),
        ([digest("sha256", SHA_256), name("/srv/hello-ec"), read("hello.ecp256.sha256.imasig_v2")], False),
    ],
    "ima-ngv2": [
        ([NG2, AGGREGATE], False),
        ([digest("verity:sha256", VERITY), name("/srv/f4097")], False),
    ],
    "ima-sigv2": [
        ([NG2, AGGREGATE, b""], False),
        ([digest("verity:sha256", VERITY), name("/srv/f4097"), read("lin-4097.rsa2048.sha256.imasig_v3")], False),
        ([digest("verity:sha256", VERITY), name("/srv/f4097-ec"), read("lin-4097.ecp256.sha256.imasig_v3")], False),
        ([digest("ima:sha256", SHA_256), name("/srv/hello"), read("hello.rsa2048.sha256.imasig_v2")], False),
    ],
    "ima-buf": [
        ([NG, AGGREGATE, b""], False),
        ([digest("sha256", hashlib.sha256(COMMAND_LINE).digest()), name("kexec-cmdline"), COMMAND_LINE], False),
    ],
    "violation": [
        ([NG, AGGREGATE], False),
        ([digest("sha256", bytes(32)), name("/srv/hello")], True),
        ([digest("sha256", SHA_256), name("/srv/hello")], False),
    ],
}
BANKS = ["sha1", "sha256", "sha384"]

for list_name, records in LISTS.items():
    template = "ima-ng" if list_name == "violation" else list_name
    registers = {bank: bytes(hashlib.new(bank).digest_size) for bank in BANKS}
    binary, lines = b"", ""
    for fields, violation in records:
        data = b"".join(field(f) for f in fields)
        sha1 = bytes(20) if violation else hashlib.sha1(data).digest()
        binary += struct.pack("<I", 10) + sha1 + field(template.encode()) + field(data)
        for bank, held in registers.items():
            extend = b"\xff" * len(held) if violation else hashlib.new(bank, data).digest()
            registers[bank] = hashlib.new(bank, held + extend).digest()
        prefix, _, value = fields[0].partition(b"\0")
        words = [prefix.decode() + value.hex(), fields[1][:-1].decode()] + [f.hex() for f in fields[2:]]
        lines += "10 %s %s %s\n" % (sha1.hex(), template, " ".join(words))
    with open(f"list.{list_name}.bin", "wb") as f:
        f.write(binary)
    with open(f"list.{list_name}.ascii", "w") as f:
        f.write(lines)
    for bank, held in registers.items():
        with open(f"list.{list_name}.pcr-{bank}", "w") as f:
            for register in range(24):
                f.write("PCR-%02d: %s\n" % (register, (held if register == 10 else bytes(len(held))).hex()))
