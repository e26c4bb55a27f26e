import pytest

from aegaeon.errors import UserError
from profiles.catalogue import CONF, load_device, load_model
from profiles.roofline import matrix_parameters

TYPES = sorted(path.stem for path in (CONF / "model").glob("*.yaml"))
DEVICES = sorted(path.stem for path in (CONF / "device").glob("*.yaml"))


def test_catalogue_holds_what_experiments_name():
    assert {"qwen2.5-7b", "yi-1.5-9b", "llama2-13b", "qwen2.5-72b", "tiny"} <= set(TYPES)
    assert {"h800", "h800_pcie4", "h100", "h20", "a100", "a10", "h200"} <= set(DEVICES)


@pytest.mark.parametrize("name", TYPES)
def test_every_model_loads_and_its_count_matches_its_shape(name):
    spec = load_model(name)
    assert spec.type == name
    # What is no projection or FFN is embeddings: none would be negative, none are a majority.
    share = matrix_parameters(spec) / spec.parameters
    assert 0.5 < share < 1.0
    if spec.parameters > 5e9:
        assert share > 0.8


@pytest.mark.parametrize("name", TYPES + DEVICES)
def test_every_file_names_its_source(name):
    (path,) = CONF.glob(f"*/{name}.yaml")
    assert path.read_text().startswith("# Source: ")


@pytest.mark.parametrize("name", DEVICES)
def test_every_device_loads(name):
    device = load_device(name)
    assert device.name == name
    if name == "cpu":
        return
    # A host link is far slower than memory, and a ridge below 100 FLOP/byte is no tensor-core GPU.
    assert device.pcie_bandwidth * 10 < device.memory_bandwidth
    assert 30 < device.peak_flops / device.memory_bandwidth < 300


@pytest.mark.parametrize(
    ("name", "kib", "gigabytes"),
    [("qwen2.5-7b", 56, 15.2), ("yi-1.5-9b", 96, 17.7), ("llama2-13b", 800, 26.0)],
)
def test_sizes_are_those_of_the_paper(name, kib, gigabytes):
    spec = load_model(name)
    assert spec.kv_bytes_per_token == kib * 1024
    assert spec.weight_bytes / 1e9 == pytest.approx(gigabytes, abs=0.05)


def test_two_more_kv_shapes_of_table_1():
    assert load_model("internlm2.5-7b").kv_bytes_per_token == 128 * 1024
    assert load_model("qwen-7b").kv_bytes_per_token == 512 * 1024


def test_unknown_names_list_the_known_ones():
    with pytest.raises(UserError, match=r"conf/model/gpt-9.yaml .*llama2-13b"):
        load_model("gpt-9")
    with pytest.raises(UserError, match=r"conf/device/tpu.yaml .*h800"):
        load_device("tpu")
