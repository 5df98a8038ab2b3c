"""Plans of open sizes: what a call runs follows from the shapes of its inputs. Kernels are functions of Python."""

from __future__ import annotations

import gc
import json
import threading
from contextlib import suppress
from dataclasses import asdict, replace
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.malformed import raises
from support.plans import CODE, INPUT, OUTPUT, Kernels, chain, program
from support.tolerances import assert_close

from convc.ir.errors import InputError, LimitError, SizeError
from convc.runtime.cpu import program as program_module
from convc.runtime.cpu.plan import Assumed, Base, Block, Call, Plan, Repeat, Tensor, Variant, Varying, tensor
from convc.runtime.cpu.program import KEPT, KEPT_HERE, SMALL, Program
from convc.runtime.cpu.sized import Planner, Sized
from convc.runtime.description import Port
from convc.runtime.offsets import ALIGNMENT, MAX_ELEMENTS

RNG = np.random.default_rng(0)


def check(run: Program, n: int, width: int, layers: int = 4) -> None:
    x = RNG.standard_normal((n, width)).astype(np.float32)
    (y,) = run([x])
    assert_close(y, 2**layers * x + 1, tolerance=(0.0, 0.0))


def test_any_size() -> None:
    run = program(chain())
    for n, width in [(3, 5), (1, 1), (40, 1000), (3, 5), (2, 1000), (1, SMALL // 4), (1, SMALL // 4 + 1)]:
        check(run, n, width)


def test_the_plan_comes_back_from_json() -> None:
    plan = chain(assumptions=(Assumed("s1 - 3", ">=", "width >= 3", "node"),))
    assert Plan.of(json.loads(json.dumps(asdict(plan)))) == plan


def test_sizes_of_a_thread_share_one_arena() -> None:
    run = program(chain())
    check(run, 30, 1000)
    first = run._local.space.workspace
    check(run, 3, 1000)
    check(run, 30, 1000)
    assert run._local.space.workspace is first
    check(run, 60, 1000)
    assert run._local.space.workspace is not first
    for n in (3, 30, 60, 3):  # what was prepared for the old arena is not used any more
        check(run, n, 1000)


def test_inputs_that_are_not_contiguous() -> None:
    run = program(chain(1))
    for n in (2, 90, 2, 80):
        x = RNG.standard_normal((1000, n)).astype(np.float32).T
        assert_close(run([x])[0], 2 * x + 1, tolerance=(0.0, 0.0))


def test_many_sizes_take_bounded_memory() -> None:
    run = program(chain(2))
    for width in range(1, 4 * KEPT):
        run([np.zeros((1, width), np.float32)])
    assert len(run._plans) == KEPT
    assert len(run._local.space._ready) == KEPT_HERE
    gc.collect()
    assert sum(isinstance(o, Sized) for o in gc.get_objects()) <= KEPT + KEPT_HERE
    check(run, 7, 9, 2)


def test_eight_threads_with_eight_sizes() -> None:
    run = program(chain())
    wrong: list[BaseException] = []

    def call(number: int) -> None:
        rng = np.random.default_rng(number)
        try:
            for i in range(60):
                x = rng.standard_normal((number + 1, 700 + 100 * (i % (3 + number)))).astype(np.float32)
                np.testing.assert_array_equal(run([x])[0], 16 * x + 1)
        except BaseException as e:  # shown below
            wrong.append(e)

    threads = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_an_error_leaves_the_last_size_as_it_is() -> None:
    run = program(chain(assumptions=(Assumed("s1 - 3", ">=", "width >= 3", ""),)))
    check(run, 2, 3)
    with raises(SizeError, "the code is for width >= 3, which is not so for width = 2"):
        run([np.zeros((2, 2), np.float32)])
    check(run, 2, 3)


@pytest.mark.parametrize("name", ["Arena", "Ready", "_view"])
def test_an_interrupt_while_a_size_is_prepared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    run = program(chain())
    check(run, 30, 100)

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(program_module, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        check(run, 60, 1000)
    monkeypatch.undo()
    for n in (30, 60, 20):
        check(run, n, 100)
    check(run, 60, 1000)


# -- what a call may not be given --------------------------------------------------------------------------------------

TWO = (INPUT, Port("z", ("2*n + 1", "width", "3"), "float32"))


@pytest.mark.parametrize(
    ("shapes", "parts"),
    [
        (((1, 2, 3), (3, 2, 3)), ("input 'x' has 3 axes, [1, 2, 3]; the model takes 2, [n, width]",)),
        (((1, 2), (3, 3, 3)), ("size 'width' is 2 by axis 1 of input 'x', and 3 by axis 1 of input 'z'",)),
        (((1, 2), (3, 2, 4)), ("axis 2 of input 'z' has size 4; the model takes 3 there",)),
        (((4, 2), (8, 2, 3)), ("axis 0 of input 'z' has size 8; the model takes 2*n + 1 there, which is 9 for n = 4",)),
    ],
)
def test_shapes_that_do_not_fit(shapes: Any, parts: tuple[str, ...]) -> None:
    plan = chain(inputs=(("s0", "s1"), ("2*s0 + 1", "s1", 3)))
    ports = (TWO[0], replace(TWO[1], shape=("2*n + 1", "width", 3)))
    plan = replace(plan, run=Block())
    with raises(InputError, *parts):
        Planner(plan, ports, (OUTPUT,)).at(shapes)


@pytest.mark.parametrize(
    ("relation", "good", "bad", "text"), [("==", 4, 5, "=="), ("!=", 5, 4, "!="), (">=", 4, 3, ">=")]
)
def test_what_was_assumed_is_checked(relation: str, good: int, bad: int, text: str) -> None:
    planner = Planner(
        chain(assumptions=(Assumed("s1 - 4", relation, f"width {relation} 4", "Add node 'a'"),)), (INPUT,), (OUTPUT,)
    )
    planner.at(((2, good),))
    with raises(SizeError, f"Add node 'a': the code is for width {text} 4, which is not so for width = {bad}"):
        planner.at(((2, bad),))


HUGE = 1 << 20


@pytest.mark.parametrize(
    ("shape", "changes", "error", "parts"),
    [
        ((HUGE, HUGE), {}, SizeError, ("'x' has 1099511627776 elements for n = 1048576", "at most 2147483647")),
        ((1 << 15, 1 << 15), {"tensor_bytes": 1 << 30}, LimitError, ("'x' has 4294967296 bytes", "tensor_bytes=...")),
        ((1 << 10, 1 << 10), {"workspace_bytes": 1 << 20}, LimitError, ("for n = 1024", "workspace_bytes=...")),
        ((2, 3), {"outputs": (("s0 - 5", "s1"),)}, SizeError, ("axis 0 of output 'y' would have size -3 for n = 2",)),
        ((2, 3), {"outputs": (("s0//(s1 - 3)", "s1"),)}, SizeError, ("divided by 0 for n = 2, width = 3",)),
        ((1 << 15, 2), {"outputs": (("*".join(["s0"] * 5), "1"),)}, SizeError, ("too large for n = 32768",)),
        ((1 << 12, 2), {"outputs": (("s0*s0*s0", "1"),)}, SizeError, ("'y' has 68719476736 elements for n = 4096",)),
    ],
)
def test_hostile_sizes(shape: Any, changes: dict[str, Any], error: Any, parts: tuple[str, ...]) -> None:
    with raises(error, *parts):
        Planner(chain(**changes), (INPUT,), (OUTPUT,)).at((shape,))


def test_a_tensor_that_would_be_negative_or_huge_is_named() -> None:
    plan = chain(1)
    for elements, text in (("s0 - 9", "'t0' would have -7 elements"), ("s0*4000000000", f"at most {MAX_ELEMENTS}")):
        odd = replace(plan, run=replace(plan.run, tensors=(Tensor(elements, 4, 0, 1, "t0"),)))
        with raises(SizeError, text, "n = 2"):
            Planner(odd, (INPUT,), (OUTPUT,)).at(((2, 3),))


def test_a_call_whose_results_have_no_elements_is_not_made() -> None:
    run = program(chain())
    for shape in ((0, 3), (3, 0), (0, 0)):
        assert run([np.zeros(shape, np.float32)])[0].shape == shape
        assert not len(run.sized((shape,)).calls.words)
    check(run, 1, 1)


# -- variants ----------------------------------------------------------------------------------------------------------


def variant_of(kernel: tuple[Variant, ...], n: int, width: int) -> str:
    plan = replace(chain(0), kernels=(kernel, kernel))
    numbers = {name: 1000 + i for i, name in enumerate(dict.fromkeys(v.symbol for v in kernel))}
    words = Planner(plan, (INPUT,), (OUTPUT,), numbers.__getitem__).at(((n, width),)).calls.words
    return next(name for name, number in numbers.items() if number == words[0])


def test_the_cheapest_variant_that_may_be_called() -> None:
    wide = Variant("wide", needs=(("e0", 8),), cost="e0//8 + 1")
    narrow, other = Variant("narrow", needs=(("e0 + 1", 3),), cost="e0"), Variant("other", cost="e0")
    every = (narrow, wide, other)
    assert [variant_of(every, 1, width) for width in (1, 2, 7, 8, 64)] == ["other", "narrow", "narrow", "wide", "wide"]
    assert variant_of((other, narrow), 1, 5) == "other", "the first of equals"


def test_sizes_that_no_variant_takes() -> None:
    kernel = (Variant("wide", needs=(("e0 + 1", 8),)), Variant("narrow", needs=(("e0", 2), ("e0", 4))))
    with raises(SizeError, "node 0: the code needs n*width of at least 4 for n = 1, width = 3"):
        variant_of(kernel, 1, 3)


# -- loops -------------------------------------------------------------------------------------------------------------


def test_a_loop_of_open_size() -> None:
    """A state of ``s0*s1`` numbers is doubled in each of ``s0`` steps."""
    state = ("s0*s1",)
    block = Block(
        (
            Call(0, ((Base.PORTS, 0), tensor(0)), 1, state, "double"),
            Call(1, (tensor(0), (Base.PORTS + 1, 0)), 1, state, "increase"),
        ),
        (Tensor("s0*s1", 4, 0, 1, "t"),),
    )
    result, scratch = (Base.PORTS + 1, 0), tensor(0)
    bases = (Varying((Base.PORTS, 0), scratch, result, 0), Varying(result, result, scratch, 0))
    repeat = Repeat("2*s0 + 1", bases, block, "4*s0*s1")
    plan = replace(chain(), run=Block((repeat,)))
    run = program(plan)
    for n, width in ((1, 4), (3, 5), (2, 1)):
        x = RNG.standard_normal((n, width)).astype(np.float32)
        want = x
        for _ in range(2 * n + 1):
            want = 2 * want + 1
        assert_close(run([x])[0], want)


# -- the planner -------------------------------------------------------------------------------------------------------


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """A plan whose calls write tensors of random sizes, which random later calls read."""
    count = draw(st.integers(1, 12))
    expressions = ["s0", "s0*s1", "(s1 + 7)//8*s0", "max(s0, s1)", "100", "s1 - min(s0, s1)", "4*s0 + 4*s1"]
    calls = []
    reads = [draw(st.lists(st.integers(0, i - 1), max_size=3, unique=True)) if i else [] for i in range(count)]
    sizes = [draw(st.sampled_from(expressions)) for _ in range(count)]
    for i in range(count):
        places = [tensor(k) for k in reads[i]]
        calls.append(Call(draw(st.integers(0, 1)), (*places, tensor(i)), 1, ("s0", "s1"), f"node {i}"))
    last = [max([i, *(j for j in range(count) if i in reads[j])]) for i in range(count)]
    tensors = tuple(Tensor(size, 4, i, last[i], f"t{i}") for i, size in enumerate(sizes))
    kernels = (
        (Variant("wide", "64*e0", needs=(("e1", 8),)), Variant("narrow", "e0 + e1", cost=5)),
        (Variant("plain"),),
    )
    shapes = {"inputs": (("s0", "s1"),), "outputs": (("s0", "s1"),), "names": ("n", "width")}
    return Plan(kernels, Block(tuple(calls), tensors), Block(), (), (), 0, False, **shapes)  # type: ignore[arg-type]


@given(plans(), st.integers(0, 50), st.integers(0, 50))
def test_no_call_overwrites_what_another_needs(plan: Plan, n: int, width: int) -> None:
    """The encoded calls are carried out on memory in which every byte says who wrote it."""
    values = {"s0": n, "s1": width, "min": min, "max": max}
    numbers = {"wide": 1, "narrow": 2, "plain": 3}
    scratch = {1: 64 * n, 2: n + width, 3: 0}
    found = Planner(plan, (INPUT,), (OUTPUT,), numbers.__getitem__).at(((n, width),)).calls
    nbytes = [4 * int(eval(str(t.elements), {"__builtins__": {}}, values)) for t in plan.run.tensors]
    memory, words, at = np.full(found.workspace, -1), list(found.words), 0
    for i, call in enumerate(plan.run.calls):
        assert isinstance(call, Call)
        if not nbytes[i]:
            continue
        function, count = words[at : at + 2]
        places = [(words[at + 2 + 2 * k], words[at + 3 + 2 * k]) for k in range(count)]
        at += 2 + 2 * count
        assert places[-2:] == [(Base.ZERO, n), (Base.ZERO, width)]
        *tensors, work = places[:-2]
        for (base, offset), (number, _) in zip(tensors, call.arguments, strict=True):
            k = -1 - number
            assert base == Base.WORKSPACE
            assert offset % ALIGNMENT == 0
            assert 0 <= offset <= offset + nbytes[k] <= found.workspace
            if k != i:
                assert (memory[offset : offset + nbytes[k]] == k).all()
        assert 0 <= work[1] <= work[1] + scratch[function] <= found.workspace
        memory[work[1] : work[1] + scratch[function]] = -2
        for (_, offset), (number, _) in zip(tensors, call.arguments, strict=True):
            assert -1 - number == i or (memory[offset : offset + nbytes[-1 - number]] == -1 - number).all()
        memory[tensors[-1][1] : tensors[-1][1] + nbytes[i]] = i
        assert scratch[function] == 0 or nbytes[i] == 0 or (memory[work[1] : work[1] + scratch[function]] == -2).all()
    assert at == len(words)


# -- damage ------------------------------------------------------------------------------------------------------------

ODD: tuple[Any, ...] = (None, "x", "s9", "e0", 1.5, [], [1], {}, {"a": 1}, -5, 10**30)


def _edited(value: Any, random: Random) -> None:
    """Change something inside a JSON value."""
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        key = random.choice(keys)
        if not isinstance(value[key], dict | list) or not value[key] or random.random() < 0.2:
            if random.random() < 0.2:
                del value[key]
            else:
                value[key] = random.choice(ODD)
            return
        value = value[key]


@pytest.mark.parametrize("seed", range(300))
def test_a_damaged_plan_is_an_error_that_loading_expects(seed: int) -> None:
    """What it raises becomes an ``ArtifactError`` (``convc/runtime/cpu/model.py``); what it accepts can be planned."""
    plan = chain(2, assumptions=(Assumed("s1 - 3", ">=", "width >= 3", "node"),))
    raw = json.loads(json.dumps(asdict(plan)))
    _edited(raw, Random(seed))
    with suppress(LookupError, TypeError, ValueError, AttributeError, OverflowError, InputError, LimitError):
        Planner(Plan.of(raw), (INPUT,), (OUTPUT,)).at(((4, 5),))


def test_a_plan_that_refers_to_nothing() -> None:
    plan = chain(1)
    call = plan.run.calls[0]
    assert isinstance(call, Call)
    odd: list[Any] = [
        replace(call, kernel=2),
        replace(call, results=3),
        *(replace(call, arguments=(place, place)) for place in ((Base.PORTS + 2, 0), (-5, 0))),
    ]
    for c in odd:
        with pytest.raises(ValueError, match=r"no kernel|does not exist"):
            Plan.of(json.loads(json.dumps(asdict(replace(plan, run=replace(plan.run, calls=(c,) * 2))))))
    for changes in ({"names": ("n", "width", "h")}, {"inputs": ((3, "s1"),)}, {"outputs": (("s0",),)}):
        with pytest.raises(ValueError, match=r"no input|has shape|shorter"):
            Planner(chain(**changes), (INPUT,), (OUTPUT,))


def test_the_kernels_of_the_support_do_what_they_say() -> None:
    assert set(CODE) == {"double", "increase"}
    with pytest.raises(KeyError):
        Kernels(CODE).address("treble")
