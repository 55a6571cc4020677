"""Snippets in C and C++ are compiled and run against libmlic, those in CMake find it where it is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlic.runtime import Codec
from tests.docs.pages import PAGES, ROOT, Block, blocks_of
from tests.native.programs import SOURCE, build, library, run

pytestmark = pytest.mark.xdist_group("native")  # one build

BLOCKS = [block for page in PAGES for block in blocks_of(page) if block.language in ("c", "cpp", "cmake")]
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Werror")
COMPILERS = {"c": ("cc", "-std=c99"), "cpp": ("c++", "-std=c++17")}

# Around lines that are no program: what they take for given, and what has to come of them.
FRAME = """
#include <mlic.h>
#include <string.h>
static uint8_t pixels[64 * 48 * 3], data[1 << 20];
int main(int argc, char **argv) {{
    const char *bundle = argv[argc - 1];
    mlic_codec *codec = NULL;
    const uint32_t width = 64, height = 48;
    size_t size = 0, capacity = sizeof data, pixels_size = sizeof pixels;
    memset(pixels, 99, sizeof pixels);
{lines}
    mlic_close(codec);
    return size > 0 && memcmp(data, "MLIC", 4) == 0 && pixels[0] != 0 && *mlic_last_error() == 0 ? 0 : 1;
}}
"""


def source_of(block: Block) -> str:
    """Return a program: the block, or the block within a frame."""
    if "int main(" in block.text:
        return block.text
    return FRAME.format(lines=block.text.replace('"bundle"', "bundle"))


def ids(block: Block) -> str:
    return block.place


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language != "cmake"], ids=ids)
def test_snippet_compiles_without_warnings_and_does_its_work(block: Block, bundle_folder: Path, tmp_path: Path):
    folder = build(sanitized=False)
    source = tmp_path / f"snippet.{block.language}"
    source.write_text(source_of(block))
    program = tmp_path / "snippet"
    include = ("-I", SOURCE / "include")
    run(*COMPILERS[block.language], *WARNINGS, *include, source, "-o", program, "-L", folder, "-lmlic")
    variables = {"LD_LIBRARY_PATH": str(folder), "MLIC_ONNXRUNTIME": str(library())}
    run(program, bundle_folder, variables=variables)


@pytest.mark.parametrize("block", [b for b in BLOCKS if b.language == "cmake"], ids=ids)
def test_project_of_a_snippet_finds_the_library(block: Block, bundle_folder: Path, tmp_path: Path, codec: Codec):
    (viewer,) = [b for b in BLOCKS if b.language == "cpp" and "// usage: viewer BUNDLE" in b.text]
    run("cmake", "--install", build(sanitized=False), "--prefix", tmp_path / "prefix")
    (tmp_path / "viewer.cpp").write_text(viewer.text)
    project = "cmake_minimum_required(VERSION 3.18)\nproject(viewer LANGUAGES CXX)\nset(CMAKE_CXX_STANDARD 17)\n"
    (tmp_path / "CMakeLists.txt").write_text(f"{project}add_executable(viewer viewer.cpp)\n{block.text}")
    run("cmake", "-S", tmp_path, "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={tmp_path / 'prefix'}")
    run("cmake", "--build", tmp_path / "build")
    said = run(tmp_path / "build/viewer", bundle_folder, variables={"MLIC_ONNXRUNTIME": str(library())})
    assert said == "320 x 240, part 64 x 32\n"


def test_snippets_are_found():
    assert {block.language for block in BLOCKS} == {"c", "cpp", "cmake"}
    assert any(block.page == ROOT / "README.md" for block in BLOCKS)
