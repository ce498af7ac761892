"""All benchmarks, one after another: `python benchmarks/run_all.py`. Their tables stand in docs/performance.md."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = ["selection.py", "tokens.py", "blur.py", "feature.py", "object.py", "folder.py", "models.py", "gpu.py"]


def main() -> int:
    """Run them; the largest exit code. Each gets a process of its own, and the machine to itself."""
    folder = Path(__file__).parent
    codes = []
    for script in SCRIPTS:
        print(f"\n## {script}\n", flush=True)
        codes.append(subprocess.run([sys.executable, folder / script], check=False).returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
