"""The contract: what every module on the shelf promises, tried on each of them, causal or not."""

import copy
import inspect

import pytest
import torch
from torch import Tensor

from kinemix.temporal import Site, TemporalModule, shelf

CHANNELS, FRAMES, HEIGHT, WIDTH = 16, 6, 5, 4


def list_cases() -> list[tuple[str, bool]]:
    """Every module by name, and its causal form where it offers one."""
    cases = []
    for name in shelf.names():
        offers_causal = "causal" in inspect.signature(shelf.get(name)).parameters
        cases += [(name, False), (name, True)] if offers_causal else [(name, False)]
    return cases


def make_module(name: str, causal: bool, *, num_frames: int = FRAMES) -> TemporalModule:
    """The module with random weights, so that no test passes because the start is an identity."""
    torch.manual_seed(0)
    site = Site(path="block.conv", channels=CHANNELS, height=HEIGHT, width=WIDTH, num_frames=num_frames)
    module = shelf.get(name)(site, **({"causal": True} if causal else {}))
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def make_clip(num_clips: int = 2, num_frames: int = FRAMES, *, channels_last: bool = False) -> Tensor:
    torch.manual_seed(1)
    frames = torch.randn(num_clips * num_frames, CHANNELS, HEIGHT, WIDTH)
    if channels_last:
        frames = frames.contiguous(memory_format=torch.channels_last)
    return frames.unflatten(0, (num_clips, num_frames))


@pytest.fixture(params=list_cases(), ids=lambda case: f"{case[0]}{'-causal' * case[1]}")
def case(request: pytest.FixtureRequest) -> tuple[str, bool]:
    chosen: tuple[str, bool] = request.param
    return chosen


@pytest.fixture
def module(case: tuple[str, bool]) -> TemporalModule:
    return make_module(*case).eval()


def test_shape_and_dtype(module: TemporalModule) -> None:
    clip = make_clip()
    out = module(clip)
    assert out.shape == clip.shape
    assert out.dtype == clip.dtype
    out = copy.deepcopy(module).double()(clip.double())
    assert (out.shape, out.dtype) == (clip.shape, torch.float64)


def test_meta_device(module: TemporalModule) -> None:
    out = copy.deepcopy(module).to("meta")(make_clip().to("meta"))
    assert (out.shape, out.device.type) == (make_clip().shape, "meta")


def test_made_on_the_meta_device_and_filled_later(case: tuple[str, bool], module: TemporalModule) -> None:
    with torch.device("meta"):
        empty = make_module(*case).eval()
    empty.to_empty(device="cpu").load_state_dict(module.state_dict())
    assert torch.equal(empty(make_clip()), module(make_clip()))


def test_every_parameter_and_the_clip_get_a_gradient(case: tuple[str, bool]) -> None:
    module, clip = make_module(*case).train(), make_clip().requires_grad_()
    module(clip).square().mean().backward()
    assert clip.grad is not None
    assert clip.grad.abs().sum() > 0
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_clips_do_not_mix(module: TemporalModule) -> None:
    clips = make_clip(num_clips=3)
    alone = torch.cat([module(clip[None]) for clip in clips])
    torch.testing.assert_close(module(clips), alone)
    clips[1] = torch.nan
    assert not module(clips)[[0, 2]].isnan().any()


def test_sees_time_or_says_that_it_does_not(module: TemporalModule) -> None:
    clip = make_clip()
    forwards, backwards = module(clip), module(clip.flip(1)).flip(1)
    assert torch.equal(forwards, backwards) != module.sees_time


def test_any_number_of_frames(module: TemporalModule) -> None:
    if not module.any_length:
        pytest.skip(f"{module.name} declares any_length = False")
    for num_frames in (1, 2, 3, 9, 17):
        clip = make_clip(num_frames=num_frames)
        out = module(clip)
        assert out.shape == clip.shape
        assert out.isfinite().all()


def test_any_size(module: TemporalModule) -> None:
    if not module.any_size:
        pytest.skip(f"{module.name} declares any_size = False")
    clip = make_clip()[..., :3, :1]
    out = module(clip)
    assert out.shape == clip.shape
    torch.testing.assert_close(out, module(clip.contiguous()))


def test_evaluation_is_deterministic_and_leaves_its_input_alone(module: TemporalModule) -> None:
    clip = make_clip()
    before = clip.clone()
    assert torch.equal(module(clip), module(clip))
    assert torch.equal(clip, before)


def test_state_round_trip(case: tuple[str, bool], module: TemporalModule) -> None:
    other = make_module(*case).eval()
    for parameter in other.parameters():
        torch.nn.init.zeros_(parameter)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(make_clip()), module(make_clip()))


@pytest.mark.parametrize("channels_last", [False, True])
def test_memory_format_is_kept(module: TemporalModule, channels_last: bool) -> None:
    clip = make_clip(channels_last=channels_last)
    out = module(clip)
    assert out.stride() == clip.stride()
    torch.testing.assert_close(out, module(clip.contiguous()))


def test_bfloat16(module: TemporalModule) -> None:
    low = copy.deepcopy(module).bfloat16()
    clip = make_clip().bfloat16().requires_grad_()
    out = low(clip)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), module(clip.detach().float()), rtol=0.05, atol=0.1)
    out.sum().backward()
    assert clip.grad is not None


def test_autocast(module: TemporalModule) -> None:
    """Weights stay single precision; clips come in either precision."""
    for clip in (make_clip(), make_clip().bfloat16()):
        clip.requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = module(clip)
        torch.testing.assert_close(out.float(), module(clip.detach().float()), rtol=0.05, atol=0.1)
        out.float().sum().backward()
        assert clip.grad is not None
        assert clip.grad.dtype == clip.dtype


def test_stream_equals_clip(module: TemporalModule) -> None:
    clip = make_clip()
    if not module.causal:
        with pytest.raises(NotImplementedError, match="not causal"):
            module.step(clip[:, 0])
        return
    state, frames = None, []
    for frame in clip.unbind(1):
        out, state = module.step(frame, state)
        frames.append(out)
    torch.testing.assert_close(torch.stack(frames, dim=1), module(clip))


def test_causal_modules_do_not_see_the_future(module: TemporalModule) -> None:
    clip = make_clip()
    changed = clip.clone()
    changed[:, 3:] += 1
    same = torch.allclose(module(changed)[:, :3], module(clip)[:, :3])
    assert same == module.causal


def test_exports(module: TemporalModule) -> None:
    dynamic = {0: torch.export.Dim("num_clips", max=64)}
    if module.any_length:
        dynamic[1] = torch.export.Dim("num_frames", max=64)
    program = torch.export.export(module, (make_clip(),), dynamic_shapes=(dynamic,))
    clip = make_clip(num_clips=3, num_frames=9 if module.any_length else FRAMES)
    torch.testing.assert_close(program.module()(clip), module(clip))


def test_compiles_without_breaks(module: TemporalModule) -> None:
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    ours, theirs = make_clip(channels_last=True).requires_grad_(), make_clip().requires_grad_()
    torch.testing.assert_close(compiled(ours), module(theirs))
    compiled(ours).square().sum().backward()
    module(theirs).square().sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)


def test_macs_grow_with_frames_and_pixels(module: TemporalModule) -> None:
    macs = module.macs(8, 4, 4)
    if macs is not None:
        assert module.macs(16, 4, 4) == 2 * macs
        assert module.macs(8, 8, 4) == 2 * macs
