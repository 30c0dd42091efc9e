"""Exit codes, the drawn tree of exceptions and the table of error codes agree with each other."""

from __future__ import annotations

import re
from typing import get_args

from clipmod_cli import errors
from clipmod_cli.errors import ERROR_CODES, ErrorCode, ExitCode
from tests.write_cli_docs import exceptions


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    drawn = re.findall(r"── (\w+) +(\d+) +(\d+) ", errors.__doc__ or "")
    assert drawn == [(kind.__name__, str(kind.exit_code), str(kind.http_status)) for kind in exceptions()]


def test_each_error_code_is_in_the_table() -> None:
    assert tuple(ERROR_CODES) == get_args(ErrorCode)


def test_exit_codes_come_in_the_documented_order() -> None:
    assert list(map(int, ExitCode)) == [130, 143, 129, 141, 70, 5, 4, 2, 6, 1, 3, 0]
    assert ExitCode.first(ExitCode.OK, ExitCode.SOME_FAILED, ExitCode.OUTPUT) == 5
    assert ExitCode.first(ExitCode.CLOSED_PIPE, ExitCode.SIGHUP) == 129
