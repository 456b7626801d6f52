"""What the model's callback refuses before anything is trained."""

from __future__ import annotations

import pytest

from agent_scaling.runtime.errors import InputError
from callbacks.model import Model


def test_what_could_only_fail_in_the_end_is_refused() -> None:
    Model(checkpoint="best", register_as="nethack 1M-v2.0")
    with pytest.raises(InputError, match=r"callbacks\.model\.checkpoint=first: use last or best"):
        Model(checkpoint="first")  # type: ignore[arg-type]
    for name in ("", "it's", "a/b", "a:1"):
        with pytest.raises(InputError, match=r"callbacks\.model\.register_as"):
            Model(register_as=name)
