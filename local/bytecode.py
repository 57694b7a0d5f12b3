"""Ship compiled bytecode with what `sam build` made, so that no cold start compiles it.

SAM leaves `__pycache__` out of layers, and /opt is read-only: without this every new worker
compiles all that it imports, half of its start-up (benchmarks/report.md). A cached file must not
depend on time stamps (zip archives have others), on this folder's path or on the hash seed, because
its bytes are part of a layer's hash, and a new hash is a new layer version. Another Python than the
runtime's would do no harm: its files carry another magic number and are not looked at.
"""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
BUILD = ROOT / ".aws-sam/build"


def main() -> int:
    """Compile every layer and function in `.aws-sam/build`; 1 where a file does not compile."""
    folders = [path for path in sorted(BUILD.iterdir()) if path.is_dir()]
    return max(compile_folder(folder) for folder in folders)


def compile_folder(folder: Path) -> int:
    """Compile one layer's or function's folder; 1 where a file does not compile."""
    runs_at = "/opt" if folder.name.endswith("Layer") else "/var/task"
    command = [
        # Several processes are worth their start for what is installed, not for a file or two.
        *(sys.executable, "-m", "compileall", "-q"),
        *(("-j", "0") if folder.name == "DependenciesLayer" else ()),
        *("--invalidation-mode", "unchecked-hash"),
        *("-s", str(folder), "-p", runs_at, str(folder)),
    ]
    return subprocess.run(
        command, env={**os.environ, "PYTHONHASHSEED": "0"}, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
