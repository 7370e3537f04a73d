# SPDX-License-Identifier: Apache-2.0
"""The machine that a running Linux is on, read from a tree of /sys and /proc.

The firmware's tables (MADT, SRAT) and its memory map tell of the whole machine,
but only root can read them; what Linux shows to everybody is second best.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pydantic import ValidationError

from popcorn import cpulist
from popcorn.config.machine import FIRST_MIB, Cpu, Device, Machine, Node, Range
from popcorn.config.sizes import GIB, MIB
from popcorn.config.toml import model_error
from popcorn.errors import HostError
from popcorn.plan.acpi import Affinities, affinities, enabled_apic_ids

# Everything that is read, as patterns below the root of the tree.
SOURCES = (
    "proc/cpuinfo",
    "proc/iomem",
    "sys/bus/pci/devices/*/class",
    "sys/bus/pci/devices/*/device",
    "sys/bus/pci/devices/*/vendor",
    "sys/class/dmi/id/product_name",
    "sys/devices/system/cpu/cpu[0-9]*/topology/core_id",
    "sys/devices/system/cpu/cpu[0-9]*/topology/die_id",
    "sys/devices/system/cpu/cpu[0-9]*/topology/physical_package_id",
    "sys/devices/system/memory/block_size_bytes",
    "sys/devices/system/memory/memory[0-9]*/phys_index",
    "sys/devices/system/node/node[0-9]*/cpulist",
    "sys/devices/system/node/node[0-9]*/memory[0-9]*/phys_index",
    "sys/firmware/acpi/tables/APIC",
    "sys/firmware/acpi/tables/SRAT",
    "sys/firmware/memmap/*/end",
    "sys/firmware/memmap/*/start",
    "sys/firmware/memmap/*/type",
)

_PCI_BRIDGE = 0x06
_MEMMAP_LINE = re.compile(r"([0-9a-f]+)-([0-9a-f]+) : System RAM")
Span = tuple[int, int]


def probe(root: Path, name: str = "probed") -> Machine:
    """Describe a machine from a tree that holds ``SOURCES`` (``/``, for the one that this runs on).

    Raises:
        HostError: the tree does not say enough, or contradicts itself.
    """
    apic_ids = _apic_ids(root)
    srat = _bytes(root / "sys/firmware/acpi/tables/SRAT")
    close = affinities(srat) if srat is not None else None
    node_cpus = _node_cpus(root, apic_ids, close)
    node_ram = _node_ram(root, len(node_cpus), close)
    node_of = {cpu: node for node, cpus in enumerate(node_cpus) for cpu in cpus}
    cpus = _places(root, apic_ids, node_of)
    low_end = max((end for spans in node_ram for _, end in spans if end <= 4 * GIB), default=0)
    hole_start = -(-low_end // (2 * MIB)) * 2 * MIB
    sockets = len({cpu.socket for cpu in cpus})
    dies = len({cpu.die for cpu in cpus})
    cores = len({cpu.core for cpu in cpus})
    try:
        return Machine(
            name=name,
            description=_text(root / "sys/class/dmi/id/product_name"),
            sockets=sockets,
            dies=-(-dies // sockets),
            cores=-(-cores // dies),
            threads=-(-len(cpus) // cores),
            nodes=tuple(
                Node(
                    cpus=tuple(numbers),
                    memory=sum(end - start for start, end in spans),
                    ram=tuple(Range(start=start, end=end) for start, end in spans),
                )
                for numbers, spans in zip(node_cpus, node_ram, strict=True)
            ),
            pci_hole=Range(start=hole_start, end=4 * GIB) if hole_start < 4 * GIB else None,
            devices=tuple(_devices(root)),
            cpus=tuple(cpus),
        )
    except ValidationError as error:
        raise HostError(
            f"what {root} says about its machine cannot be: {model_error(error, Machine, str(root))}"
        ) from error


def _apic_ids(root: Path) -> list[int]:
    """APIC ids by CPU number: Linux gives 0 to the CPU it booted on, the others follow in the firmware's order."""
    cpuinfo = _cpuinfo(root)
    madt = _bytes(root / "sys/firmware/acpi/tables/APIC")
    if madt is None:
        if sorted(cpuinfo) != list(range(len(cpuinfo))) or not cpuinfo:
            raise HostError(
                f"{root} shows the CPUs {cpulist.format(cpuinfo) or 'none'}, and not what others there are",
                hint="run it as root, so that the firmware's tables can be read",
            )
        return [cpuinfo[cpu] for cpu in sorted(cpuinfo)]
    ids = enabled_apic_ids(madt)
    boot = cpuinfo.get(0)
    if boot in ids:
        ids.remove(boot)
        ids.insert(0, boot)
    return ids


def _cpuinfo(root: Path) -> dict[int, int]:
    """APIC ids of the CPUs that are online."""
    ids: dict[int, int] = {}
    cpu = None
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = (part.strip() for part in line.partition(":"))
        if key == "processor":
            cpu = int(value)
        elif key == "apicid" and cpu is not None:
            ids[cpu] = int(value)
    return ids


def _node_cpus(root: Path, apic_ids: Sequence[int], close: Affinities | None) -> list[list[int]]:
    everything = [list(range(len(apic_ids)))]
    if close is not None:
        return [
            [cpu for cpu, apic_id in enumerate(apic_ids) if close.domain_of_apic_id.get(apic_id) == domain]
            for domain in close.domains
        ] or everything
    lists = [_text(path / "cpulist") for path in _numbered(root / "sys/devices/system/node", "node")]
    return [list(cpulist.parse(text)) if text else [] for text in lists] or everything


def _node_ram(root: Path, nr_nodes: int, close: Affinities | None) -> list[list[Span]]:
    """The RAM of each node, by address."""
    ram = _firmware_ram(root) or _iomem_ram(root)
    if close is not None and ram:
        return [
            _joined(_common(ram, [(piece.start, piece.end) for piece in close.memory if piece.domain == domain]))
            for domain in close.domains
        ]
    blocks = _memory_blocks(root)
    if nr_nodes == 1:
        spans = ram or _joined(span for spans in blocks for span in spans)
        if spans:
            return [spans]
    elif len(blocks) == nr_nodes:
        return [_joined(_common(ram, spans) if ram else spans) for spans in blocks]
    raise HostError(
        f"{root} does not say where the memory of its {nr_nodes} nodes is",
        hint="run it as root, so that the firmware's tables can be read",
    )


def _firmware_ram(root: Path) -> list[Span]:
    spans = []
    for entry in _numbered(root / "sys/firmware/memmap", ""):
        if _text(entry / "type") == "System RAM":
            spans.append((int(_text(entry / "start"), 16), int(_text(entry / "end"), 16) + 1))
    return _joined(spans)


def _iomem_ram(root: Path) -> list[Span]:
    """What Linux uses as RAM; to others than root it shows zeros."""
    spans = []
    for line in _text(root / "proc/iomem").splitlines():
        match = _MEMMAP_LINE.fullmatch(line)
        if match and int(match[2], 16):
            spans.append((int(match[1], 16), int(match[2], 16) + 1))
    return _joined(spans)


def _memory_blocks(root: Path) -> list[list[Span]]:
    """The hotplug blocks of each node; without nodes, all of them. Anybody may read these."""
    size_text = _text(root / "sys/devices/system/memory/block_size_bytes")
    if not size_text:
        return []
    size = int(size_text, 16)
    places = list(_numbered(root / "sys/devices/system/node", "node")) or [root / "sys/devices/system/memory"]
    result = []
    for place in places:
        indexes = [int(_text(block / "phys_index"), 16) for block in _numbered(place, "memory")]
        result.append([(index * size, (index + 1) * size) for index in sorted(indexes)])
    return result


def _places(root: Path, apic_ids: Sequence[int], node_of: Mapping[int, int]) -> list[Cpu]:
    """Socket, die and core of each CPU, counted across the machine.

    A kernel that has only some of the CPUs does not show the others' places: then each node is taken for a
    socket of one die, and each CPU for a core.
    """
    keys: list[tuple[int, int, int]] = []
    for cpu in range(len(apic_ids)):
        topology = root / f"sys/devices/system/cpu/cpu{cpu}/topology"
        texts = [_text(topology / name) for name in ("physical_package_id", "die_id", "core_id")]
        if not texts[0] or not texts[2]:
            keys = [(node_of.get(each, 0), 0, each) for each in range(len(apic_ids))]
            break
        keys.append((int(texts[0]), int(texts[1] or 0), int(texts[2])))
    socket, die, core = (_counter() for _ in range(3))
    return [
        Cpu(apic_id=apic_id, socket=socket(key[:1]), die=die(key[:2]), core=core(key))
        for apic_id, key in zip(apic_ids, keys, strict=True)
    ]


def _counter() -> Callable[[tuple[int, ...]], int]:
    """Numbers things in the order in which they are first seen."""
    seen: dict[tuple[int, ...], int] = {}
    return lambda key: seen.setdefault(key, len(seen))


def _devices(root: Path) -> Iterable[Device]:
    """PCI devices that do something of their own; bridges stay with the machine."""
    place = root / "sys/bus/pci/devices"
    for path in sorted(place.iterdir()) if place.is_dir() else ():
        kind, vendor, device = (_text(path / name).removeprefix("0x") for name in ("class", "vendor", "device"))
        if kind and vendor and device and int(kind, 16) >> 16 != _PCI_BRIDGE:
            yield Device(name=path.name, id=f"{vendor}:{device}")


def _common(left: Iterable[Span], right: Iterable[Span]) -> list[Span]:
    others = list(right)
    return [(max(a, c), min(b, d)) for a, b in left for c, d in others if max(a, c) < min(b, d)]


def _joined(spans: Iterable[Span]) -> list[Span]:
    """By address; neighbours become one, and what lies in the first MiB is left out."""
    result: list[Span] = []
    for start, end in sorted(spans):
        if end <= FIRST_MIB:
            continue
        if result and start <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((start, end))
    return result


def _numbered(place: Path, prefix: str) -> list[Path]:
    """The entries ``prefix`` + number, in numerical order."""
    if not place.is_dir():
        return []
    found = [path for path in place.iterdir() if re.fullmatch(re.escape(prefix) + r"\d+", path.name)]
    return sorted(found, key=lambda path: int(path.name.removeprefix(prefix)))


def _bytes(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _text(path: Path) -> str:
    content = _bytes(path)
    return content.decode(errors="replace").strip("\0 \n") if content is not None else ""
