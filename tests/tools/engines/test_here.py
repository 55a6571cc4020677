"""Which engines are listed on which machine."""

from mlic.runtime.errors import BackendError
from mlic.tools.engines import here
from mlic.tools.engines.here import engines_here, engines_on_gpu


def test_engines_on_a_gpu_are_listed_where_they_can_be_loaded(monkeypatch):
    def fake(name, threads=None):
        if name == "tensorrt":
            raise BackendError("not installed")
        return name

    monkeypatch.setattr(here, "open_backend", fake)
    assert list(engines_on_gpu()) == ["cuda"]
    assert list(engines_here(1))[-1] == "cuda"
    assert engines_on_gpu()["cuda"]() == "cuda"
