"""Every fenced block of the documents is run; what cannot be run here says so and is checked as far as it can be."""

from __future__ import annotations

import ast
import importlib
import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.docs.command_lines import check_command_line
from tests.docs.console import is_shown, make_programs, run_block, shape, steps_of
from tests.docs.pages import PAGES, ROOT, Block, blocks_of
from tests.pillow_plugin import registered

PHOTO = ROOT / "tests/photos/kodim03.png"
ELSEWHERE = ("c", "cpp", "cmake")  # test_cpp.py compiles and runs them
LANGUAGES = ("console", "python", "json", "text", *ELSEWHERE)

BLOCKS = {page: blocks_of(page) for page in PAGES}


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder as the documents take it for given: a photo, a folder of photos, and one with a damaged one."""
    make_programs(tmp_path / ".bin")
    with Image.open(PHOTO) as photo:
        photo.crop((160, 160, 480, 400)).save(tmp_path / "photo.png")
        photo.crop((160, 160, 480, 400)).save(tmp_path / "photo.jpg")
        (tmp_path / "photos").mkdir()
        for number, name in enumerate(["beach.png", "hats.jpg", "wall.png"]):
            photo.crop((90 * number, 60, 90 * number + 128, 156)).save(tmp_path / "photos" / name)
    shutil.copytree(tmp_path / "photos", tmp_path / "album")
    (tmp_path / "album/notes.txt").write_text("sunny")
    broken = (tmp_path / "album/wall.png").read_bytes()
    (tmp_path / "album/broken.png").write_bytes(broken[:2000])
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    known = set(sys.modules)
    with registered(monkeypatch):
        yield tmp_path
    for name in set(sys.modules) - known:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]
    if "mlic.export.architectures" in sys.modules:
        sys.modules["mlic.export.architectures"].ARCHITECTURES.pop("two-slices", None)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_blocks_of_a_page_run_one_after_another(page: Path, scratch: Path):
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCKS[page]:
        if block.not_run or block.language in ELSEWHERE or block.language == "text":
            continue
        if block.language == "console":
            run_block(block, scratch)
        elif block.language == "python":
            run_python(block, names, scratch)
        else:
            json.loads(block.text)


def run_python(block: Block, names: dict[str, object], folder: Path) -> None:
    """Run a block, and keep one that begins with the name of a file as that file."""
    first, _, _ = block.text.partition("\n")
    if first.startswith("# ") and first.endswith(".py"):
        (folder / first.removeprefix("# ")).write_text(block.text)
    # Empty lines in front, so that a traceback has the line of the page.
    exec(compile("\n" * (block.line - 1) + block.text, str(block.page), "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_imports_of_a_page_exist(page: Path):
    for block in BLOCKS[page]:
        assert block.language in LANGUAGES, f"{block.place}: a block of {block.language or 'no language'}"
        if block.language == "console":
            for step in steps_of(block):
                try:
                    check_command_line(step.command)
                except AssertionError as error:
                    raise AssertionError(f"{block.place}: {error}") from error
        elif block.language == "python":
            check_imports(block)


def check_imports(block: Block) -> None:
    """Check that a block is Python and that what it imports is there."""
    for node in ast.walk(ast.parse(block.text, block.place)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                importlib.import_module(alias.name)
        elif isinstance(node, ast.ImportFrom):
            assert node.module
            if (Path(block.page.parent) / node.module).exists() or node.module in written_files(block.page):
                continue
            module = importlib.import_module(node.module)
            missing = [alias.name for alias in node.names if not hasattr(module, alias.name)]
            assert not missing, f"{block.place}: {node.module} has no {missing[0]}"


def written_files(page: Path) -> set[str]:
    """Return the modules that a page's blocks are: those that begin with the name of a file."""
    firsts = [block.text.partition("\n")[0] for block in BLOCKS[page] if block.language == "python"]
    return {first.removeprefix("# ").removesuffix(".py") for first in firsts if first.endswith(".py")}


def test_blocks_are_found_with_their_comments():
    text = "<!-- not run: needs a GPU -->\n\n```console\n$ a\nb\n```\nText.\n<!-- status: 1 -->\n```python\nx\n```\n"
    first, second = blocks_of(ROOT / "README.md", text)
    assert (first.line, first.language, first.text, first.not_run) == (4, "console", "$ a\nb\n", "needs a GPU")
    assert (second.line, second.language, second.text, second.status) == (10, "python", "x\n", 1)
    assert second.not_run == ""


@pytest.mark.parametrize("text", ["```python\nx\n", "<!-- status: 1 -->\nText.\n"])
def test_what_is_no_block_is_not_overlooked(text: str):
    with pytest.raises(AssertionError):
        blocks_of(ROOT / "README.md", text)


def test_commands_are_found_with_what_they_print():
    block = Block(ROOT / "README.md", 1, "console", "$ a \\\n  b\n1\n2\n$ c\n")
    assert [(step.command, step.shown) for step in steps_of(block)] == [("a   b", ["1", "2"]), ("c", [])]


def test_shape_is_what_stays_the_same():
    assert shape("a.mlic: 768x512, 20.4 kB,  -0.41 bpp, fadc0592499003cb") == "a.mlic: #x#, # B, # bpp, #"
    assert shape("999 B") == shape("1.0 MB")
    assert shape("1 files") != shape("1 file")


@pytest.mark.parametrize(
    ("shown", "printed", "expected"),
    [
        (["a 1"], ["a 23"], True),
        (["a 1"], ["b 1"], False),
        (["a 1"], ["a 1", "b"], False),
        (["a…z"], ["a 1 b 2 z"], True),
        (["a", "…", "z"], ["a", "b", "c", "z"], True),
        (["a", "…", "z"], ["a", "z"], True),
        (["a", "…"], ["b"], False),
    ],
)
def test_lines_are_compared_by_their_shape(shown: list[str], printed: list[str], expected: bool):
    assert is_shown(shown, printed) == expected


@pytest.mark.parametrize(
    "line",
    [
        "mlic-run encode --speed 9 a.png",
        "mlic-run encode",
        "mlic-run recode a.png",
        "mlic-run encode a.png --quality best",
        "mlic-run decode a.mlic --threads two",
        "mlic-export a.pth -o b --engine fp64",
        "python -m mlic.tools.nothing",
        "python -m mlic.tools.bench.noise BUNDLE --no-such PHOTO",
        "pip install '.[nothing]'",
        "pip install other",
        "make nothing",
        "frobnicate",
        "mlic-run info a.mlic | frobnicate",
        "mlic-run info a.mlic && mlic-run info a.mlic --xml",
    ],
)
def test_commands_that_do_not_exist_are_noticed(line: str):
    with pytest.raises(AssertionError):
        check_command_line(line)


@pytest.mark.parametrize(
    "line",
    [
        "mlic-run --version",
        "mlic-run encode - - < a.png > a.mlic  # a comment",
        "OMP_NUM_THREADS=1 mlic-run bench --repeat 3 | ls",
        'python -m mlic.tools.bench.precision photos/ --row "fp32=onnxruntime:bundle"',
        "pip install torch==2.13.0 && pip install '.[cpu,export]'",
        "make fuzz FUZZ_SECONDS=3",
    ],
)
def test_commands_that_exist_are_taken(line: str):
    check_command_line(line)
