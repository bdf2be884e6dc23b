import os
import subprocess
import sys

import pytest

from serve_app.launch.local_serve import LEFT_OUT, python_path


@pytest.mark.parametrize(
    ("environment", "behind"),
    [({}, []), ({"PYTHONPATH": ""}, []), ({"PYTHONPATH": "/a:/b"}, ["/a", "/b"])],
)
def test_what_is_left_out_stands_before_whatever_else_is_on_the_path(environment, behind):
    assert python_path(environment).split(os.pathsep) == [str(LEFT_OUT), *behind]


def test_with_that_path_pandas_is_not_there_as_on_a_machine_without_it():
    done = subprocess.run(
        [sys.executable, "-c", "import pandas"],
        env={"PYTHONPATH": python_path({})},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "ImportError: left out" in done.stderr
