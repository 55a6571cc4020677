"""Engines in other processes, for comparing engines: other versions, WebAssembly, other processors."""
