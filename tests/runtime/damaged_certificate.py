"""Integer bundles changed to harm, and the one line with which they are refused; both runtimes refuse them."""

from __future__ import annotations

import json

from mlic.runtime.bundle_files import sha256_of
from mlic.runtime.certificate import MAX_BYTES
from tests.runtime.damaged_bundle import edit, nested, set_at


def write_certificate(folder, data):
    """Replace the certificate, with a SHA-256 that fits."""
    (folder / "certificate.json").write_bytes(data)
    sha256 = sha256_of(folder / "certificate.json")
    edit(folder, lambda value: value["certificate"].update(sha256=sha256))


def edit_certificate(folder, change):
    """Change the certificate, given as the parsed JSON."""
    value = json.loads((folder / "certificate.json").read_text())
    change(value)
    write_certificate(folder, json.dumps(value).encode())


def case_with(number, **entries):
    """Return a change of one case."""
    return lambda value: value["cases"][number].update(entries)


def hashes_with(**entries):
    """Return a change of the hashes of the last case; None takes one out."""

    def change(value):
        hashes = value["cases"][2]["sha256"]
        hashes.update(entries)
        for name in [name for name, found in hashes.items() if found is None]:
            del hashes[name]

    return change


CERTIFICATES = (
    (set_at("format", value=None), "is not a certificate: its format is not 'mlic-certificate'"),
    (set_at("format_version", value=2), "format version 2; this reader knows 1 to 1"),
    (set_at("format_version", value=True), "format version [Tt]rue"),
    (set_at("format_version", value=1.0), "format version 1.0"),
    (lambda value: value.pop("format_version"), "format version (None|null)"),
    (set_at("cases", value=[]), "cases are no list of 1 to 8"),
    (set_at("cases", value={}), "cases are no list of 1 to 8"),
    (set_at("cases", value=lambda cases: cases * 3), "cases are no list of 1 to 8"),
    (set_at("cases", value=[7]), r"cases\[0\] is 7; expected an object"),
    (case_with(1, height=32), r"cases\[1\] has height 32; expected 64 to 262144, a multiple of 64"),
    (case_with(0, width=65), r"cases\[0\] has width 65; expected 64 to 262144, a multiple of 64"),
    (case_with(0, height=0), "has height 0"),
    (case_with(0, height=-64), "has height -64"),
    (case_with(0, height=1 << 40), "has height 1099511627776"),
    (case_with(0, height=64.0), r"has height 64\.0"),
    (case_with(1, width=8192), "has 8192x64 pixels; expected at most 262144"),
    (case_with(0, seed=-1), "has seed -1; expected 0 to 9223372036854775807"),
    (case_with(0, seed=1 << 63), "has seed 9223372036854775808; expected 0 to 9223372036854775807"),
    (case_with(0, seed=1 << 64), "has seed .*; expected 0 to 9223372036854775807"),
    (case_with(0, magnitude=1.0), r"has magnitude 1\.0"),
    (case_with(0, magnitude=(1 << 20) + 1), "has magnitude 1048577; expected 0 to 1048576"),
    (lambda value: value["cases"][0].pop("outliers"), "has outliers (None|null)"),
    (case_with(0, outliers=(1 << 32) + 1), "has outliers 4294967297; expected 0 to 4294967296"),
    (case_with(2, sha256=None), "has no sha256 of each of h_s, step_00, .*finish, and of no others"),
    (case_with(2, sha256=[]), "has no sha256 of each"),
    (hashes_with(finish=None), "has no sha256 of each of h_s, step_00, .*finish, and of no others"),
    (hashes_with(g_a="0" * 64), "and of no others"),
    (hashes_with(finish=None, g_a="0" * 64), "and of no others"),
    (hashes_with(h_s="0" * 63), "not 64 hexadecimal digits"),
    (hashes_with(h_s="0" * 63 + "A"), "not 64 hexadecimal digits"),
    (hashes_with(finish=0), "not 64 hexadecimal digits"),
    (set_at("cases", 0, value={}), r"cases\[0\] has height (None|null).*cases\[0\] has no sha256"),
    (set_at("future", value=nested(32)), "lie more than 32 deep"),
    (set_at("future", value=float("nan")), "not JSON: "),
    (set_at("future", value=10**400), "not JSON: "),
    (set_at("future", value="\ud800"), "not JSON: "),
)

MANIFESTS = (
    (lambda value: value.pop("certificate"), "there is no certificate, by which engines prove"),
    (set_at("certificate", value=None), "certificate is (None|null); expected dict"),
    (set_at("certificate", value={}), "certificate.path is missing; certificate.sha256 is missing"),
    (set_at("certificate", "sha256", value="0"), "certificate.sha256 is .0.; expected"),
    (set_at("certificate", "sha256", value="0" * 64), "SHA-256 differs from the manifest's: certificate.json"),
    (set_at("certificate", "path", value="../certificate.json"), "paths lead out of the folder: ../certificate.json"),
    (set_at("certificate", "path", value="none.json"), "cannot read none.json"),
    (set_at("certificate", "path", value="a\nb"), "certificate.path is .*printable"),
    (set_at("arithmetic", value="float32-syndrome"), "graph step_00 gives scales_00 as nothing; expected float32"),
    (set_at("arithmetic", value="integers"), "arithmetic 'integers'; this reader knows float32-syndrome, integer"),
    (set_at("arithmetic", value="a" * 50), "arithmetic '?aaa.*; this reader knows float32-syndrome, integer"),
    (
        set_at("graphs", 3, "outputs", "indexes_00", "dtype", value="int8"),
        r"graph step_00 gives indexes_00 as int8 .*; expected uint8 \[1, 2, height/16, width/32\]",
    ),
    (
        set_at("graphs", 3, "inputs", "hyper.code", "dtype", value="uint8"),
        "graph step_00 takes hyper.code as uint8 .*; it is int8 ",
    ),
    (set_at("graphs", 3, "inputs", "hyper.code", "dtype", value="uint16"), "expected one of float32, .*uint8, int8"),
    (set_at("graphs", 3, "exact", value=False), "graph step_00 is not exact; the entropy path has to be"),
)

TOO_LARGE = b" " * (MAX_BYTES + 1)
