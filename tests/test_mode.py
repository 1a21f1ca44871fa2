"""One context for a network's mode: every module's own comes back."""

from __future__ import annotations

import pytest

from resnetlab.nets import build, in_mode


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("error", [False, True])
def test_every_modules_own_mode_comes_back_also_after_an_error(training: bool, error: bool) -> None:
    network = build("resnet-8-C").train()
    network.get_submodule("stage2.0").eval()
    modes = [module.training for module in network.modules()]
    assert len(set(modes)) == 2
    try:
        with in_mode(network, training=training):
            assert all(module.training == training for module in network.modules())
            if error:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        assert error
    assert [module.training for module in network.modules()] == modes
