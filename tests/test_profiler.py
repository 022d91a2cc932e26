"""The profiler: what is recorded, how it nests and adds up, when, and what it looks like."""

import gzip
import json
import threading
import warnings

import numpy as np
import pytest
from helpers import ACCELERATED, CASES, wanting
from helpers import recorded as with_history

import gpugrad as gg
from gpugrad import nn, profiler
from gpugrad.backend import cuda as backend_cuda
from gpugrad.engine import profiling
from gpugrad.profiler import ProfilerAction, ProfilerActivity, profile, record_function, schedule
from gpugrad.utils.data import DataLoader, TensorDataset

CPU = [ProfilerActivity.CPU]


@pytest.fixture(params=ACCELERATED)
def cuda(request):
    return request.param


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    left, profiling.recorder = profiling.recorder, None
    assert left is None


class Training:
    def __init__(self, device="cpu"):
        gg.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)).to(device)
        self.optimizer = gg.optim.Adam(self.model.parameters(), lr=0.01)
        self.x, self.y = gg.randn(5, 6, device=device), gg.tensor([0, 1, 2, 0, 1], device=device)

    def step(self):
        self.optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x), self.y)
        loss.backward()
        self.optimizer.step()
        return loss


def names(prof):
    return [event.name for event in prof.events()]


def recorded(function, **options):
    with profile(activities=CPU, **options) as prof:
        function()
    return prof


def one(prof, name):
    (event,) = (event for event in prof.events() if event.name == name)
    return event


def test_a_training_step_is_recorded_call_by_call():
    prof = recorded(Training().step)
    assert names(prof) == [
        "Optimizer.zero_grad#Adam.zero_grad",
        "linear",
        "relu",
        "linear",
        "cross_entropy",
        "autograd.backward",
        "CrossEntropyBackward",
        "LinearBackward",
        *["AccumulateGrad"] * 2,
        "ReluBackward",
        "LinearBackward",
        *["AccumulateGrad"] * 2,
        "Optimizer.step#Adam.step",
    ]
    kinds = [event.kind for event in prof.events()]
    assert kinds == ["optimizer", *["forward"] * 4, *["backward"] * 9, "optimizer"]


def test_profiling_changes_no_bit():
    plain, profiled = Training(), Training()
    losses = [plain.step().item() for _ in range(4)]
    with profile(activities=CPU, record_shapes=True, profile_memory=True, with_stack=True):
        assert [profiled.step().item() for _ in range(4)] == losses
    for a, b in zip(plain.model.parameters(), profiled.model.parameters(), strict=True):
        np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


def test_calls_that_take_the_short_ways_are_seen():
    x, w = gg.ones(3), gg.ones(3, requires_grad=True)

    def work():
        x.exp(), x * x, x - 1, 2 / x, gg.maximum(x, x), x > 0  # nothing to record for a backward
        w.exp(), w * x, x - w, w * 2.0
        with gg.no_grad():
            w.tanh()
        with gg.inference_mode():
            x.sin()
        x.add_(1)

    found = names(recorded(work))
    short = ["exp", "mul", "sub", "rdiv", "maximum", "gt", "exp", "mul", "sub", "mul", "tanh", "sin"]
    assert found == [*short, "add_", "add"]


@pytest.mark.parametrize("grad", [False, True])
def test_every_op_and_its_gradient_are_seen(grad):
    for case in CASES:
        if case.number:
            continue
        inputs = case.inputs(gg.float32, grad)
        with profile(activities=CPU) as prof:
            outs = with_history(case.run(inputs))
        assert case.op.name in names(prof)
        if not wanting(inputs) or not outs:
            continue
        node = repr(outs[0].grad_fn)[1:-1]
        with profile(activities=CPU) as prof:
            gg.autograd.grad([outs[0].sum()], wanting(inputs), allow_unused=True)
        assert {node, "autograd.backward"} <= set(names(prof))


def test_events_nest_and_their_times_add_up():
    training = Training()

    def work():
        with record_function("all"):
            with record_function("one"):
                training.step()
            training.step()

    prof = recorded(work)
    whole, walks = one(prof, "all"), [e for e in prof.events() if e.name == "autograd.backward"]
    assert whole.cpu_parent is None
    assert whole.is_user_annotation
    assert next(e.name for e in whole.cpu_children) == "one"
    assert walks[0].cpu_parent.name == "one"
    assert walks[1].cpu_parent is whole
    assert {e.cpu_parent for e in prof.events() if e.name == "LinearBackward"} == set(walks)
    for event in prof.events():
        inside = sum(child.cpu_time_total for child in event.cpu_children)
        assert event.self_cpu_time_total == pytest.approx(event.cpu_time_total - inside)
        assert event.self_cpu_time_total >= 0
        assert event.cpu_time_total == pytest.approx(event.time_range.elapsed_us())
        for child in event.cpu_children:
            assert event.time_range.start <= child.time_range.start <= child.time_range.end <= event.time_range.end
    assert prof.events().self_cpu_time_total == pytest.approx(whole.cpu_time_total)
    total = prof.events().total_average()
    assert (total.key, total.count) == ("Total", len(prof.events()))
    assert total.self_cpu_time_total == pytest.approx(whole.cpu_time_total)


def test_gradients_that_are_recorded_have_their_ops_inside():
    x = gg.ones(3, requires_grad=True)

    def work():
        (g,) = gg.autograd.grad((x * x * x).sum(), x, create_graph=True)
        g.sum().backward()

    prof = recorded(work)
    nodes = [e for e in prof.events() if e.name == "MulBackward"]
    assert any(child.name == "mul" and child.kind == "forward" for e in nodes for child in e.cpu_children)


def test_a_call_that_fails_leaves_no_event_and_no_disorder():
    x = gg.ones(3)

    def work():
        with record_function("region"):
            for _ in range(2):
                with pytest.raises(RuntimeError):
                    x + gg.ones(2)
                with pytest.raises(RuntimeError):
                    gg.matmul(x, gg.ones(2))
            x * 2

    prof = recorded(work)
    assert names(prof) == ["region", "mul"]
    assert one(prof, "mul").cpu_parent.name == "region"


def test_an_error_in_the_block_ends_the_recording():
    prof = profile(activities=CPU)

    def work():
        with prof:
            gg.ones(2).exp()
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert names(prof) == ["exp"]


def test_what_is_open_at_the_end_is_left_out():
    with profile(activities=CPU) as prof:
        region = record_function("open")
        region.__enter__()
        gg.ones(2).exp()
    region.__exit__(None, None, None)
    assert names(prof) == ["exp"]


def test_record_function_decorates_also_what_calls_itself():
    @record_function("count down")
    def down(n):
        return down(n - 1) if n else 7

    assert down(2) == 7
    prof = recorded(lambda: down(2))
    outer, middle, inner = prof.events()
    assert inner.cpu_parent is middle
    assert middle.cpu_parent is outer
    assert {e.name for e in prof.events()} == {"count down"}


def test_ops_of_ones_own_data_loaders_and_reads_are_seen():
    class Cube(gg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx, g):
            (x,) = ctx.saved_tensors
            return 3 * g * x**2

    x = gg.ones(2, requires_grad=True)
    prof = recorded(lambda: Cube.apply(x).sum().backward())
    assert one(prof, "Cube").cpu_children[0].name == "pow"
    assert [child.name for child in one(prof, "CubeBackward").cpu_children] == ["mul", "pow", "mul"]
    loader = DataLoader(TensorDataset(gg.arange(6)), batch_size=2)
    assert names(recorded(lambda: list(loader))).count("DataLoader.__next__") == 3
    assert names(recorded(lambda: x[0].item())) == ["getitem", "item"]


def test_every_thread_is_recorded_on_its_own_row(tmp_path):
    barrier = threading.Barrier(3)

    def work(count):
        x = gg.ones(3, requires_grad=True)
        barrier.wait()
        with record_function(f"work {count}"):
            for _ in range(count):
                (x * 2).sum().backward()

    def run():
        threads = [threading.Thread(target=work, args=(n,), name=f"worker {n}") for n in (30, 40, 50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    prof = recorded(run)
    for n in (30, 40, 50):
        region = one(prof, f"work {n}")
        assert [child.name for child in region.cpu_children] == ["mul", "sum", "autograd.backward"] * n
        assert {child.thread for child in region.cpu_children} == {region.thread}
    assert len({one(prof, f"work {n}").thread for n in (30, 40, 50)}) == 3
    trace = read_trace(prof, tmp_path / "trace.json")
    rows = {e["tid"]: e["args"]["name"] for e in trace if e["ph"] == "M" and e["name"] == "thread_name"}
    assert {rows[e["tid"]] for e in trace if e["name"] == "work 40"} == {"worker 40"}
    assert len(rows) == 3


def read_trace(prof, path):
    prof.export_chrome_trace(str(path))
    return json.loads(path.read_text())["traceEvents"]


def test_the_trace_is_one_that_viewers_read(tmp_path):
    def work():
        with record_function("region", "of mine"):
            Training().step()

    prof = recorded(work, record_shapes=True, with_stack=True)
    trace = read_trace(prof, tmp_path / "trace.json")
    calls = [e for e in trace if e["ph"] == "X"]
    assert [e["name"] for e in calls] == names(prof)
    for e in calls:
        assert set(e) == {"ph", "name", "cat", "pid", "tid", "ts", "dur", "args"}
        assert e["dur"] >= 0
        assert isinstance(e["tid"], int)
        assert isinstance(e["pid"], int)
    by_name = {e["name"]: e for e in calls}
    assert by_name["linear"]["cat"] == "cpu_op,forward"
    assert by_name["LinearBackward"]["cat"] == "cpu_op,backward"
    assert by_name["region"]["cat"] == "user_annotation"
    assert by_name["region"]["args"]["args"] == "of mine"
    assert by_name["cross_entropy"]["args"]["Input Dims"] == [[5, 3], [5], []]
    assert "test_profiler.py" in by_name["cross_entropy"]["args"]["Call stack"]
    outer, inner = by_name["autograd.backward"], by_name["ReluBackward"]
    assert outer["ts"] <= inner["ts"]
    assert inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"] + 0.002
    prof.export_chrome_trace(str(tmp_path / "trace.json.gz"))
    assert json.loads(gzip.decompress((tmp_path / "trace.json.gz").read_bytes()))["traceEvents"] == trace


def test_traces_are_put_where_tensorboard_looks(tmp_path):
    for use_gzip, worker in ((False, "me"), (True, None)):
        folder = tmp_path / str(use_gzip) / "deep"
        handler = profiler.tensorboard_trace_handler(str(folder), worker, use_gzip)
        recorded(lambda: gg.ones(2).exp(), on_trace_ready=handler)
        (path,) = folder.iterdir()
        assert path.name.endswith(".pt.trace.json.gz" if use_gzip else ".pt.trace.json")
        assert worker is None or path.name.startswith("me.")
    (tmp_path / "file").write_text("")
    with pytest.raises(RuntimeError, match="Can't create directory"):
        recorded(lambda: None, on_trace_ready=profiler.tensorboard_trace_handler(str(tmp_path / "file" / "x")))


COLUMNS = ["Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg"]


def read_table(table):
    """The titles and the rows, by PyTorch's layout: cells under dashes of their width."""
    lines = table.splitlines()
    rules = [k for k, line in enumerate(lines) if line.startswith("---")]
    ends = np.cumsum([len(dashes) + 2 for dashes in lines[rules[0]].split()])
    starts = [0, *ends[:-1]]
    cells = [
        [line[a:b].strip() for a, b in zip(starts, [*ends[:-1], None], strict=True)]
        for line in lines[rules[0] + 1 : rules[2]]
    ]
    return cells[0], cells[2:]


def test_the_table_has_pytorchs_columns_and_adds_up():
    prof = recorded(Training().step)
    averages = prof.key_averages()
    table = averages.table(sort_by="self_cpu_time_total")
    titles, rows = read_table(table)
    assert titles == [*COLUMNS, "# of Calls"]
    shares = [float(row[1].rstrip("%")) for row in rows]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.1)
    found = {row[0]: row for row in rows}
    assert found["AccumulateGrad"][-1] == "4"
    assert found["relu"][-1] == "1"
    (linear,) = (e for e in averages if e.key == "linear")
    assert linear.count == 2
    assert linear.cpu_time == linear.cpu_time_total / 2
    assert linear.cpu_time_total == pytest.approx(sum(e.cpu_time_total for e in prof.events() if e.name == "linear"))
    assert found["linear"][4:6] == [linear.cpu_time_total_str, linear.cpu_time_str]
    assert table.splitlines()[-1] == f"Self CPU time total: {profiler._format_time(averages.self_cpu_time_total)}"
    assert read_table(str(averages))[0] == titles
    assert "key=linear" in repr(linear)


def test_the_tables_rows_can_be_chosen_and_cut():
    def work():
        with record_function("a name that is longer than the column for names may be"):
            Training().step()

    averages = recorded(work).key_averages()
    _, rows = read_table(averages.table(sort_by="count", row_limit=2))
    assert [int(row[-1]) for row in rows] == [4, 2]
    _, rows = read_table(averages.table(row_limit=-1, max_name_column_width=20, top_level_events_only=True))
    assert [row[0] for row in rows] == ["a name that is lo..."]
    table = averages.table(header="What took how long")
    assert table.splitlines()[1] == "What took how long"
    assert profiler.EventList([]).table() == ""
    with pytest.raises(ValueError, match=r"sort_by must be one of .*self_cuda_time_total.*count, but got 'speed'"):
        averages.table(sort_by="speed")
    assert [profiler._format_time(t) for t in (1.5, 2500.0, 3e6)] == ["1.500us", "2.500ms", "3.000s"]
    assert [profiler._format_memory(n) for n in (5, 2048, 3 << 20, 1 << 30)] == ["5 B", "2.00 KB", "3.00 MB", "1.00 GB"]


def test_calls_are_grouped_by_shapes_and_by_lines():
    def work():
        for n in (2, 3, 3):
            gg.ones(n) * gg.ones(4, 1)
        gg.ones(2) * 2.0

    prof = recorded(work, record_shapes=True, with_stack=True)
    shapes = [e.input_shapes for e in prof.events() if e.name == "mul"]
    assert shapes == [[[2], [4, 1]], [[3], [4, 1]], [[3], [4, 1]], [[2], []]]
    averages = prof.key_averages(group_by_input_shape=True)
    assert [e.count for e in averages if e.key == "mul"] == [1, 2, 1]
    titles, rows = read_table(averages.table(max_shapes_column_width=12))
    assert titles == [*COLUMNS, "# of Calls", "Input Shapes"]
    assert [row[-1] for row in rows if row[0] == "mul"] == ["[[2], [4,...", "[[3], [4,...", "[[2], []]"]
    averages = prof.key_averages(group_by_stack_n=1)
    assert [e.count for e in averages if e.key == "mul"] == [3, 1]
    titles, rows = read_table(averages.table(max_src_column_width=30))
    assert titles == [*COLUMNS, "# of Calls", "Source Location"]
    assert next(row[-1] for row in rows if row[0] == "mul").startswith("...")
    first = one(recorded(gg.ones(2).exp, with_stack=True), "exp").stack[0]
    assert __file__ in first
    assert "recorded" in first
    assert [e.count for e in prof.key_averages() if e.key == "mul"] == [4]
    assert not any(e.stack or e.input_shapes for e in prof.key_averages())


def test_memory_is_that_of_the_results():
    x = gg.ones(1024, requires_grad=True)

    def work():
        with record_function("region"):
            y = (x * 2).reshape(32, 32).exp()
            y.sum().backward()

    prof = recorded(work, profile_memory=True)
    sizes = {e.name: e.self_cpu_memory_usage for e in prof.events()}
    assert (sizes["mul"], sizes["exp"], sizes["reshape"], sizes["sum"]) == (4096, 4096, 0, 4)
    assert (sizes["ExpBackward"], sizes["MulBackward"], sizes["ReshapeBackward"]) == (4096, 4096, 0)
    region = one(prof, "region")
    assert region.self_cpu_memory_usage == 0
    assert region.cpu_memory_usage == sum(sizes.values())
    titles, rows = read_table(prof.key_averages().table(sort_by="self_cpu_memory_usage"))
    assert titles == [*COLUMNS, "CPU Mem", "Self CPU Mem", "# of Calls"]
    assert rows[0][7] == "4.00 KB"
    assert all(e.cpu_memory_usage == 0 for e in recorded(work).events())


ACTIONS = ["NONE", "WARMUP", "RECORD", "RECORD_AND_SAVE"]
PLANS = [
    {"wait": wait, "warmup": warmup, "active": active, "repeat": repeat, "skip_first": skip, "skip_first_wait": early}
    for wait in (0, 1, 3)
    for warmup in (0, 2)
    for active in (1, 3)
    for repeat in (0, 1, 2)
    for skip, early in ((0, 0), (2, 0), (2, 1))
]


@pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")
@pytest.mark.parametrize("steps", [0, 1, 7, 20])
def test_schedules_do_what_pytorchs_do(steps):
    torch_profiler = pytest.importorskip("torch").profiler
    for plan in PLANS[:: 1 if steps == 20 else 5]:
        ours, theirs = schedule(**plan), torch_profiler.schedule(**plan)
        assert [ours(k).name for k in range(40)] == [theirs(k).name for k in range(40)]


def run_schedule(plan, steps):
    """The steps that ``on_trace_ready`` is called in, and the steps it finds."""
    found = []

    def ready(prof):
        found.append((prof.step_num, [e.name for e in prof.events() if e.name.startswith("ProfilerStep#")]))
        assert {e.key for e in prof.key_averages() if "Step" in e.key} == {"ProfilerStep*"}

    with profile(activities=CPU, schedule=schedule(**plan), on_trace_ready=ready) as prof:
        for k in range(steps):
            gg.ones(2).exp()
            assert prof.step_num == k
            prof.step()
    return found


def test_each_recording_holds_its_steps():
    found = run_schedule({"wait": 1, "warmup": 1, "active": 2, "repeat": 2}, 12)
    assert found == [(4, ["ProfilerStep#2", "ProfilerStep#3"]), (8, ["ProfilerStep#6", "ProfilerStep#7"])]
    found = run_schedule({"wait": 0, "warmup": 1, "active": 1, "skip_first": 2}, 7)
    assert found == [(4, ["ProfilerStep#3"]), (6, ["ProfilerStep#5"]), (7, ["ProfilerStep#7"])]
    with pytest.warns(UserWarning, match="won't be using warmup"):
        found = run_schedule({"wait": 0, "warmup": 0, "active": 2}, 3)
    # The last recording is cut short, in its second step, which has just begun.
    assert found == [(2, ["ProfilerStep#0", "ProfilerStep#1"]), (3, ["ProfilerStep#2", "ProfilerStep#3"])]


@pytest.mark.filterwarnings("ignore")
def test_traces_are_ready_when_pytorchs_are():
    torch = pytest.importorskip("torch")
    for plan in PLANS[::7]:
        times = []
        options = {"activities": [torch.profiler.ProfilerActivity.CPU], "schedule": torch.profiler.schedule(**plan)}
        with torch.profiler.profile(
            **options, on_trace_ready=lambda prof, times=times: times.append(prof.step_num)
        ) as p:
            for _ in range(9):
                p.step()
        ours = []
        options = {"activities": CPU, "schedule": schedule(**plan)}
        with profile(**options, on_trace_ready=lambda prof, ours=ours: ours.append(prof.step_num)) as p:
            for _ in range(9):
                p.step()
        assert ours == times, plan


def test_a_schedule_of_ones_own_that_breaks_off_warns():
    actions = iter([ProfilerAction.RECORD, ProfilerAction.NONE, ProfilerAction.WARMUP, ProfilerAction.NONE])
    ready = []
    prof = profile(activities=CPU, schedule=lambda step: next(actions), on_trace_ready=ready.append)
    prof.start()
    with pytest.warns(UserWarning, match="RECORD followed by NONE"):
        prof.step()
    prof.step()
    with pytest.warns(UserWarning, match="WARMUP followed by NONE"):
        prof.step()
    prof.stop()
    assert not ready


def test_start_stop_and_steps_without_a_schedule():
    calls = []
    prof = profile(activities=CPU, on_trace_ready=calls.append)
    prof.step()
    prof.start()
    gg.ones(2).exp()
    prof.step()
    gg.ones(2).log()
    prof.stop()
    assert names(prof) == ["exp", "log"]
    assert calls == [prof]
    assert prof.step_num == 2
    gg.ones(2).sin()
    prof.start()
    gg.ones(2).cos()
    prof.stop()
    assert names(prof) == ["cos"]


def test_events_of_all_recordings_are_kept_if_asked():
    plan = schedule(wait=0, warmup=1, active=1)
    for keep, count in ((False, 1), (True, 3)):
        with profile(activities=CPU, schedule=plan, acc_events=keep) as prof:
            for _ in range(6):
                gg.ones(2).exp()
                prof.step()
        assert names(prof).count("exp") == count
        starts = [e.time_range.start for e in prof.events()]
        assert starts == sorted(starts)


@pytest.mark.parametrize(
    "wrong", [{"active": 0}, {"active": -1}, {"wait": -1}, {"warmup": -1}, {"repeat": -1}, {"skip_first": -1}]
)
def test_impossible_schedules_are_refused(wrong):
    with pytest.raises(AssertionError, match=r"Invalid profiler schedule arguments.*active=.* \(need > 0\)"):
        schedule(**{"wait": 1, "warmup": 1, "active": 1, **wrong})
    with pytest.raises(AssertionError, match="non-negative"):
        schedule(wait=1, warmup=1, active=1)(-1)


def test_what_makes_no_sense_is_an_error(tmp_path):
    prof = profile(activities=CPU)
    for ask in (prof.events, prof.key_averages, lambda: prof.export_chrome_trace(str(tmp_path / "t"))):
        with pytest.raises(AssertionError, match="nothing was recorded yet"):
            ask()
    assert not list(tmp_path.iterdir())
    with pytest.raises(AssertionError, match=r"call start\(\) first"):
        prof.stop()
    with pytest.raises(AssertionError, match="call prepare_trace"):
        prof.start_trace()
    with prof, pytest.raises(AssertionError, match="still recording"):
        prof.key_averages()
    with profile(activities=CPU), pytest.raises(RuntimeError, match="a profiler runs already"), profile():
        pass
    with pytest.raises(AssertionError, match="No valid profiler activities"):
        profile(activities=[])
    with pytest.raises(TypeError, match="but got 'cpu'"):
        profile(activities=["cpu"])
    with pytest.raises(TypeError, match=r"but got \{<"):
        profile(activities=[{ProfilerActivity.CPU: []}])
    with pytest.raises(NotImplementedError, match="execution_trace_observer"):
        profile(execution_trace_observer=object())
    with pytest.warns(UserWarning, match="with_flops has no effect"):
        profile(activities=CPU, with_flops=True)
    with pytest.warns(FutureWarning, match="use_cuda"):
        assert profile(use_cuda=False).activities == set(CPU)
    with pytest.raises(AttributeError, match="no attribute 'speed'"):
        _ = recorded(gg.ones(2).exp).events()[0].speed


def test_cuda_is_left_out_with_a_warning_where_there_is_none(monkeypatch):
    found = backend_cuda.diagnose()
    monkeypatch.setattr(backend_cuda, "diagnose", lambda: type("No", (), {"usable": False, "message": found.message}))
    assert profiler.supported_activities() == set(CPU)
    with pytest.warns(UserWarning, match="CUDA is not available"):
        prof = profile(activities=[*CPU, ProfilerActivity.CUDA])
    with prof:
        gg.ones(2).exp()
    assert names(prof) == ["exp"]


def test_the_older_names():
    older = gg.autograd.profiler
    assert older.record_function is record_function
    with older.profile(record_shapes=True) as prof:
        assert str(prof) == "<unfinished profiler>"
        gg.ones(2).exp()
    assert [e.key for e in prof.key_averages()] == ["exp"] == [e.key for e in prof.function_events]
    assert prof.table(sort_by="cpu_time_total") == str(prof)
    assert prof.total_average().count == 1
    assert prof.self_cpu_time_total > 0
    with older.profile(enabled=False):
        assert profiling.recorder is None
    with pytest.raises(ValueError, match="use_device"):
        older.profile(use_device="xpu")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        older.profile(use_cuda=True)
    assert seen[0].category is FutureWarning


def test_time_on_the_device_is_measured(cuda, tmp_path):
    training = Training(cuda)
    training.step()
    with profile(record_shapes=True, profile_memory=True) as prof:
        with record_function("region"):
            training.step()
        gg.ones(2).exp()
        gg.ones(2, device=cuda).add_(1)
    assert prof.activities == {*CPU, ProfilerActivity.CUDA}
    region = one(prof, "region")
    for name in ("relu", "ReluBackward", "cross_entropy", "Optimizer.step#Adam.step"):
        event = one(prof, name)
        assert event.device_time_total > 0
        assert event.cuda_time == event.device_time
        assert event.device_range.elapsed_us() == pytest.approx(event.device_time_total)
    assert region.device_range is None
    assert region.self_device_time_total == 0
    assert region.device_time_total == pytest.approx(sum(child.device_time_total for child in region.cpu_children))
    assert one(prof, "exp").device_time_total == 0
    assert one(prof, "exp").self_cpu_memory_usage == 8
    inside = one(prof, "add").device_time_total
    assert one(prof, "add_").self_device_time_total == pytest.approx(one(prof, "add_").device_time_total - inside)
    assert one(prof, "relu").self_device_memory_usage == 5 * 8 * 4
    titles, rows = read_table(prof.key_averages().table(sort_by="cuda_time_total"))
    more = ["Self CUDA", "Self CUDA %", "CUDA total", "CUDA time avg", "CPU Mem", "Self CPU Mem"]
    assert titles == [*COLUMNS, *more, "CUDA Mem", "Self CUDA Mem", "# of Calls"]
    assert rows[0][0] == "region"
    assert sum(float(row[7].rstrip("%")) for row in rows) == pytest.approx(100, abs=0.1)
    assert "Self CUDA time total: " in str(prof.key_averages())
    trace = read_trace(prof, tmp_path / "trace.json")
    (row,) = (e["tid"] for e in trace if e["ph"] == "M" and e["args"]["name"].startswith("CUDA device"))
    on_device = [e for e in trace if e["ph"] == "X" and e["tid"] == row]
    assert {e["cat"] for e in on_device} == {"kernel,forward", "kernel,backward", "kernel,optimizer"}
    assert [e["name"] for e in on_device] == [e.name for e in prof.events() if e.device_range]


def test_only_the_device_can_be_profiled(cuda):
    x = gg.ones(3, device=cuda)
    with profile(activities=[ProfilerActivity.CUDA]) as prof:
        gg.ones(2).exp()
        x.log()
    assert names(prof) == ["log"]
    with profile(activities=CPU, profile_memory=True) as prof:
        x.exp()
    assert one(prof, "exp").device_range is None
    assert one(prof, "exp").self_device_memory_usage == 12


def test_a_captured_step_is_one_event_for_each_run(cuda):
    training = Training(cuda)
    plain = Training(cuda)
    step = gg.compile(training.step)
    with profile(on_trace_ready=None) as prof:
        losses = [step().item() for _ in range(6)]
    assert losses == [plain.step().item() for _ in range(6)]
    runs = [e for e in prof.events() if e.name == "CUDA graph of step"]
    assert len(runs) == 4
    assert all(e.device_time_total > 0 and not e.cpu_children for e in runs)
    # Two calls ran as they are, and one was captured, in which nothing runs on the device.
    relus = [e for e in prof.events() if e.name == "relu"]
    assert [e.device_range is None for e in relus] == [False, False, True]
