"""What a tool prints first is its own."""

import subprocess
import sys

from tests.support.commands import REPOSITORY

# as a tool begins where tensorboardX is not installed
CODE = """
import sys
sys.modules["tensorboardX"] = None
import skipln_fairseq.plugin
import fairseq.tasks.text_to_speech as task
assert task.SummaryWriter is None
task.logger.info("Something else")
"""


def test_no_advice_to_install_tensorboard():
    done = subprocess.run(
        [sys.executable, "-c", CODE], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )
    assert "Something else" in done.stdout + done.stderr
    assert "tensorboardX" not in done.stdout + done.stderr
