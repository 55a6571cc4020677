"""libmlic as programs use it: the header alone, the C functions, an installed package, and other ONNX Runtimes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mlic.runtime import Codec
from mlic.runtime.shipped import shipped_bundle
from mlic.runtime.version import VERSION
from mlic.tools.engines.native import library as library_in
from tests.native.programs import ROOT, SOURCE, STATUSES, Driver, build, library, require_tools, run

pytestmark = pytest.mark.xdist_group("native")  # one build

PHOTO = ROOT / "tests/photos/kodim03.png"
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror", "-fsyntax-only")
OTHER_ENGINES = sorted((ROOT / "build/engines").glob("onnxruntime-[0-9]*/.ready"))


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
@pytest.mark.parametrize("language", ["c99", "c++17"])
def test_header_compiles_alone(compiler: str, language: str, tmp_path: Path):
    if not shutil.which(compiler):
        pytest.skip(f"no {compiler}")
    kind = "c" if language == "c99" else "c++"
    headers = ["mlic.h"] if kind == "c" else ["mlic.h", "mlic.hpp"]
    for header in headers:
        source = tmp_path / f"{header}.{kind}"
        source.write_text(f'#include "{header}"\n#include "{header}"\nmlic_options options = MLIC_OPTIONS_INIT;\n')
        run(compiler, f"-x{kind}", f"-std={language}", *WARNINGS, "-I", SOURCE / "include", source)


def test_values_of_enums_are_fixed():
    text = (SOURCE / "include/mlic.h").read_text()
    found = {name: int(value) for name, value in re.findall(r"^    (MLIC_\w+) = (\d+)", text, re.MULTILINE)}
    assert found == {
        "MLIC_OK": 0,
        "MLIC_INVALID_ARGUMENT": 10,
        "MLIC_BUFFER_TOO_SMALL": 11,
        "MLIC_OUT_OF_MEMORY": 12,
        "MLIC_TRUNCATED_STREAM": 20,
        "MLIC_CORRUPT_STREAM": 21,
        "MLIC_UNSUPPORTED_STREAM": 22,
        "MLIC_BAD_BUNDLE": 30,
        "MLIC_ENGINE_MISSING": 40,
        "MLIC_ENGINE_FAILED": 41,
        "MLIC_ENGINE_MISMATCH": 42,
        "MLIC_INTERNAL": 90,
        "MLIC_FLOAT32_SYNDROME": 1,
        "MLIC_INTEGER": 2,
        "MLIC_SOURCE_GREY": 1,
        "MLIC_SOURCE_TRANSPARENT": 2,
        "MLIC_SOURCE_DEEP": 4,
        "MLIC_ICC_PROFILE": 0,
        "MLIC_EXIF": 1,
        "MLIC_XMP": 2,
    }
    assert set(STATUSES.values()) <= set(found.values())


@pytest.mark.parametrize("bundle", ["bundle_folder", "integer_folder"])
@pytest.mark.parametrize("sanitized", [True, False])
def test_functions_do_as_their_comments_say(sanitized: bool, bundle: str, request: pytest.FixtureRequest):
    program = build(sanitized) / "tests/api_test"
    assert run(program, request.getfixturevalue(bundle), library()) == f"libmlic {VERSION}: 0 failures\n"


def test_library_exports_the_functions_of_the_header_and_nothing_else():
    declared = set(
        re.findall(r"\b(mlic_\w+)\(", re.sub(r"/\*.*?\*/", "", (SOURCE / "include/mlic.h").read_text(), flags=re.S))
    )
    listing = run("nm", "--dynamic", "--defined-only", build(sanitized=False) / "libmlic.so")
    assert {line.split()[-1] for line in listing.splitlines()} == declared


def test_library_needs_no_engine_to_be_linked():
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "--dynamic", build(sanitized=False) / "libmlic.so"))
    assert not [name for name in needed if "onnxruntime" in name]


@pytest.mark.parametrize("ready", OTHER_ENGINES or [None], ids=lambda ready: ready.parent.name if ready else "none")
def test_other_versions_of_the_engine_read_and_write(
    ready: Path | None, bundle_folder: Path, codec: Codec, tmp_path: Path
):
    if ready is None:
        pytest.skip("no other engines; `make engines` sets them up")
    (packages,) = ready.parent.glob("lib/python*/site-packages")
    with Image.open(PHOTO) as image:
        pixels = np.asarray(image.convert("RGB"))[:100, :150]
    driver = Driver(build(sanitized=False), tmp_path)  # 1.20 leaks some bytes of its own
    native = driver.open("other", bundle_folder, engine=library_in(packages))
    for data in (codec.encode(pixels), driver.encode(native, pixels)):
        expected = codec.decode(data).astype(int)
        assert np.abs(driver.decode(native, data, pixels.shape) - expected).max() <= 1
    driver.close()


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the library is installed, moved after that as packages are."""
    folder = tmp_path_factory.mktemp("prefix")
    run("cmake", "--install", build(sanitized=False), "--prefix", folder / "first")
    return (folder / "first").rename(folder / "second")


def check_examples(decode: Path, encode: Path, folder: Path, variables: dict[str, str]) -> None:
    """Encode a photo with one example, decode it with the other, and compare with Python."""
    bundle = shipped_bundle()
    pixels = np.asarray(Image.open(PHOTO).convert("RGB"))[:128, :192]
    Image.fromarray(pixels).save(folder / "photo.ppm")
    said = run(encode, bundle, folder / "photo.ppm", folder / "photo.mlic", library(), variables=variables)
    data = (folder / "photo.mlic").read_bytes()
    assert re.fullmatch(rf"{len(data)} bytes, \d\.\d+ bits per pixel, PSNR \d\d\.\d\d dB\n", said)
    environment = {**variables, "MLIC_ONNXRUNTIME": str(library())}  # the other way to name the engine
    assert run(decode, bundle, folder / "photo.mlic", folder / "decoded.ppm", variables=environment) == ""
    with Image.open(folder / "decoded.ppm") as decoded:
        np.testing.assert_array_equal(np.asarray(decoded), Codec.load(backend="onnxruntime").decode(data))


def test_project_finds_the_package_with_cmake(prefix: Path, tmp_path: Path):
    run("cmake", "-S", SOURCE / "examples", "-B", tmp_path, f"-DCMAKE_PREFIX_PATH={prefix}")
    run("cmake", "--build", tmp_path)
    check_examples(tmp_path / "decode_to_ppm", tmp_path / "encode", tmp_path, {})


@pytest.mark.parametrize("static", [False, True])
def test_project_finds_the_package_with_pkg_config(prefix: Path, tmp_path: Path, static: bool):
    (folder,) = {path.parent for path in prefix.rglob("mlic.pc")}
    variables = {"PKG_CONFIG_PATH": str(folder)}
    flags = run("pkg-config", "--cflags", "--libs", *(["--static"] if static else []), "mlic", variables=variables)
    assert run("pkg-config", "--modversion", "mlic", variables=variables).strip() == VERSION
    words = flags.split()
    if static:
        words[words.index("-lmlic")] = "-l:libmlic.a"
    run("cc", "-std=c99", SOURCE / "examples/decode_to_ppm.c", "-o", tmp_path / "decode", *words)
    run("c++", "-std=c++17", SOURCE / "examples/encode.cpp", "-o", tmp_path / "encode", *words)
    libraries = {} if static else {"LD_LIBRARY_PATH": str(folder.parent)}
    check_examples(tmp_path / "decode", tmp_path / "encode", tmp_path, libraries)


def test_absent_headers_are_named_by_cmake(tmp_path: Path):
    require_tools()
    line = ["cmake", "-S", str(SOURCE), "-B", str(tmp_path), "-DONNXRUNTIME_ROOT=/nowhere"]
    variables = {**os.environ, "CMAKE_IGNORE_PATH": "/usr/include/onnxruntime"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=variables)
    if done.returncode == 0:
        pytest.skip("the system has the headers")
    assert "The headers of ONNX Runtime were not found" in done.stderr
    assert "ONNXRUNTIME_ROOT" in done.stderr
