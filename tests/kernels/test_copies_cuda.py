"""The copies on a CUDA device, and the kernel's machine code where there is none."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

import kernels  # noqa: E402
from kernels import batched_memcpy, reference  # noqa: E402
from tests.support.random_caches import paged, random_bytes  # noqa: E402

COMPILE = """
import triton, triton.language as tl
from triton.backends.compiler import GPUTarget
from kernels.triton_copy import copy_chunks
pointers = dict.fromkeys(("addresses", "block_strides", "blocks", "rows"), "*i64")
numbers = {"slabs": "i64", "row_stride": "i32", "chunks": "i32", "words": "i32"}
constants = {"WORD": tl.int64, "BYTES": 8, "ALIGN": 16, "TILE": 2048, "TO_SLABS": True}
signature = {**pointers, **numbers, **dict.fromkeys(constants, "constexpr")}
source = triton.compiler.ASTSource(
    copy_chunks, signature, constants, attrs={(7,): [["tt.divisibility", 16]]}
)
print(triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["ptx"])
"""


@pytest.mark.slow
def test_the_kernel_compiles_to_loads_and_stores_of_16_bytes():
    pytest.importorskip("triton")
    command = [sys.executable, "-W", "ignore", "-c", COMPILE]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("ld.global.v2.b64") >= 8
    assert done.stdout.count("st.global.v2.b64") >= 8


LONG = [2, 4, 3, kernels.MEMCPY_CHUNK]
CASES = {
    "short chunks": {"dims": [3, 9, 2, 40], "order": [0, 2, 1, 3], "pads": [0, 1, 0, 1]},
    "long chunks": {"dims": LONG, "order": [0, 1, 2, 3]},
    "one chunk a block": {"dims": LONG, "order": [1, 0, 2, 3]},
}


@pytest.mark.gpu
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("variant", ["chosen", "plain", "triton", "staged", "unpinned", "device"])
def test_a_device_and_its_host_agree_with_the_reference(name, variant):
    from kernels import triton_copy

    host, ids, rows = paged(**CASES[name]), [3, 0, 1], [0, 2, 3]
    cache = host.to("cuda")
    shape = (4, cache.layout.block_bytes)
    expected = torch.zeros(shape, dtype=torch.uint8)
    reference.gather(host.layout, host.tensors, ids, expected, rows)
    slabs = torch.zeros(shape, dtype=torch.uint8, pin_memory=variant not in ("unpinned", "device"))
    slabs = slabs.cuda() if variant == "device" else slabs
    module = {"chosen": kernels, "plain": batched_memcpy}.get(variant, triton_copy)
    staging = torch.empty_like(slabs, device="cuda")
    options = {"staging": staging} if variant == "staged" else {}
    with torch.cuda.stream(torch.cuda.Stream()):
        torch.cuda.current_stream().wait_stream(torch.cuda.default_stream())
        module.gather(cache.layout, cache.tensors, ids, slabs, rows, **options)
        torch.cuda.current_stream().synchronize()
        assert torch.equal(slabs.cpu(), expected)
        before = cache.buffers[0].clone()
        noise = random_bytes(*shape).cuda()
        triton_copy.scatter(cache.layout, cache.tensors, ids, noise, rows)
        module.scatter(cache.layout, cache.tensors, ids, slabs, rows, **options)
        torch.cuda.current_stream().synchronize()
    assert torch.equal(cache.buffers[0], before)


@pytest.mark.gpu
def test_long_chunks_are_copied_plainly_and_short_ones_by_triton():
    for name, expected in (("short chunks", "triton_copy"), ("long chunks", "batched_memcpy")):
        cache = paged(**CASES[name]).to("cuda")
        assert kernels._variant(cache.layout, cache.tensors).__name__ == f"kernels.{expected}"
