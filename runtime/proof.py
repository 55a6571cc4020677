"""Whether the engine of a chain may be trusted with a bundle's files: at once in floats, by certificate in integers."""

from __future__ import annotations

from collections.abc import Mapping

from mlic.runtime import certificate_cache
from mlic.runtime.backends.base import Backend, Graph, Identified
from mlic.runtime.bundle import Bundle
from mlic.runtime.certificate import prove


class Proof:
    """Asks an engine for its proof when it is first needed, and no more often than that.

    Args:
        bundle: the model.
        backend: the engine of its chain.
        graphs: of the chain, on the engine.
    """

    def __init__(self, bundle: Bundle, backend: Backend, graphs: Mapping[str, Graph]) -> None:
        self._bundle = bundle
        self._backend = backend
        self._graphs = graphs
        self._given = bundle.certificate is None

    def require(self) -> None:
        """Do nothing if the engine has passed, in this process or another; otherwise run the certificate.

        Raises:
            EngineMismatchError: the engine computes something else.
            BackendError: a graph failed.
        """
        if self._given:  # two threads may both find that it is not, and both try
            return
        assert self._bundle.certificate is not None
        manifest, key = self._bundle.manifest, None
        if isinstance(self._backend, Identified):
            key = certificate_cache.key_of(manifest, self._bundle.certificate, self._backend.fingerprint)
            self._given = certificate_cache.is_known(key)
        if not self._given:
            self.run()
            if key is not None:
                certificate_cache.remember(key)

    def run(self) -> None:
        """Run the certificate, whatever was before; nothing where the bundle has none.

        Raises:
            EngineMismatchError: the engine computes something else.
            BackendError: a graph failed.
        """
        if self._bundle.certificate is not None:
            prove(self._bundle.certificate, self._graphs, self._bundle.manifest, f"engine {self._backend.granted}")
        self._given = True
