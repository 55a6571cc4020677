"""The engine that looks at coverage: atheris, libFuzzer for Python. It ends the process."""

from __future__ import annotations

import sys
from pathlib import Path
from random import Random

from mlic.runtime.errors import MlicError


def run_atheris(folder: Path, name: str, seconds: int) -> None:
    """Fuzz one target; what is found is written to ``FOLDER/findings`` and ends the run.

    Args:
        folder: holds ``bundle`` and ``corpus``; inputs that reach new code are collected in ``FOLDER/atheris/NAME``.
        name: of the target.
        seconds: how long.

    Raises:
        MlicError: atheris is not installed.
    """
    try:
        import atheris  # noqa: PLC0415 - the extra `fuzz`
    except ImportError as error:
        raise MlicError(f"cannot import {error.name}: pip install 'mlic-deploy[fuzz]'") from error
    for module in [module for module in sys.modules if module.startswith(("mlic.runtime", "mlic.tools.fuzz.targets"))]:
        if module != "mlic.runtime.errors":  # the class that is caught here has to be the one that is raised
            del sys.modules[module]
    with atheris.instrument_imports(include=["mlic.runtime"]):
        from mlic.tools.fuzz.targets import TARGETS  # noqa: PLC0415 - instrumented as it is imported

        target = TARGETS[name](folder)

    def once(data: bytes) -> None:
        try:
            target.run(data)
        except MlicError:
            return

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311 - no secret
        # Blind changes come from libFuzzer, which knows what code compared with; the others keep files readable.
        return atheris.Mutate(data, max_size) if random.random() < 0.3 else target.mutate(data, random)[:max_size]

    corpus = folder / "atheris" / name
    corpus.mkdir(parents=True, exist_ok=True)
    (folder / "findings").mkdir(exist_ok=True)
    for number, seed in enumerate(target.seeds):
        (corpus / f"seed-{number}").write_bytes(seed)
    options = [
        f"-max_total_time={seconds}",
        "-timeout=10",
        "-rss_limit_mb=2048",
        "-max_len=65536",
        "-print_final_stats=1",
    ]
    prefix = f"-artifact_prefix={folder / 'findings'}/{name}-"
    atheris.Setup([sys.argv[0], *options, prefix, str(corpus)], once, custom_mutator=mutate)
    atheris.Fuzz()
