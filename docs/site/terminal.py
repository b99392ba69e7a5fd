"""Draw what a command printed, read from standard input with its colours, as a terminal in an SVG file.

FORCE_COLOR=1 COMMAND 2>&1 | python docs/site/terminal.py FILE.svg
"""

import io
import re
import sys
from pathlib import Path

from rich.console import Console
from rich.text import Text

WIDTH = 110
REWRITTEN = re.compile(r"\x1b\[2K|\r")  # a progress bar draws its line again: the last one counts
FONTS = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)  # they would be fetched from elsewhere


def main() -> None:
    """The command line."""
    console = Console(record=True, width=WIDTH, file=io.StringIO())
    for line in sys.stdin.buffer.read().decode("utf-8").split("\n"):
        console.print(Text.from_ansi(REWRITTEN.split(line)[-1]))
    picture = console.export_svg(title="python -m examples.demo", unique_id="terminal")
    Path(sys.argv[1]).write_text(FONTS.sub("", picture), encoding="utf-8")


if __name__ == "__main__":
    main()
