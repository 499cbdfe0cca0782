"""Beginning of a process of a real run: one thread for arrays, and an end with the process that has started it."""

import os
import sys
import threading

_ONE_THREAD = {
    "JAX_PLATFORMS": "cpu",
    "JAX_NUM_CPU_DEVICES": "1",
    "NPROC": "1",  # of XLA's pool
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_ORPHANED = 3
"""Exit code of a process whose starter has gone."""


def begin_alone() -> None:
    """Makes JAX, which must not be loaded yet, use one thread; ends the process when its standard input is closed."""
    assert "jax" not in sys.modules, "JAX has its threads already"
    os.environ.update(_ONE_THREAD)
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()

    def watch() -> None:
        while os.read(0, 1):  # nothing, once nobody has the other end
            pass
        os._exit(_ORPHANED)

    threading.Thread(target=watch, daemon=True).start()
    from simulator.host.compile_cache import keep_compiled_programs

    keep_compiled_programs()
