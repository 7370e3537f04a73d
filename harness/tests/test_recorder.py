# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from pathlib import Path

from shared_region import WrittenRegion

from popcorn.machine.recorded import read_log, recorded_events, recorded_logs
from popcorn.machine.recorder import Recorder
from popcorn.machine.timestamps import Entry, LineSplitter, parse_entries


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_lines_carry_the_time_of_their_first_byte() -> None:
    splitter = LineSplitter()
    assert splitter.feed(b"one\r\ntw", 1.0) == [Entry(1.0, "one")]
    assert splitter.feed(b"o\nthree\n", 2.0) == [Entry(1.0, "two"), Entry(2.0, "three")]


def test_a_line_cut_off_by_a_crash_is_passed_over() -> None:
    lines = [Entry(1.0, "whole").to_json(), '{"t": 2.0, "te']
    assert list(parse_entries(lines)) == [Entry(1.0, "whole")]


def test_every_console_is_followed_with_the_hosts_time(tmp_path: Path) -> None:
    written, clock = WrittenRegion(), Clock()
    recorder = Recorder(written.region(), tmp_path, clock=clock)
    written.log(0, b"first\n")
    assert recorder.poll()
    clock.now = 1001.5
    written.log(3, b"from three\nunfini")
    assert recorder.poll()
    written.log(3, b"shed\n")
    clock.now = 1001.6
    recorder.poll()
    recorder.close()
    assert list(read_log(tmp_path, 0)) == [Entry(1000.0, "first")]
    assert list(read_log(tmp_path, 3)) == [Entry(1001.5, "from three"), Entry(1001.5, "unfinished")]
    assert (tmp_path / "console/3.log").read_bytes() == b"from three\nunfinished\n"
    assert recorded_logs(tmp_path) == ["0", "3"]


def test_a_prompt_is_shown_though_its_line_has_not_ended(tmp_path: Path) -> None:
    written, clock = WrittenRegion(), Clock()
    recorder = Recorder(written.region(), tmp_path, clock=clock)
    written.log(0, b"login: ")
    recorder.poll()
    clock.now += 1
    recorder.poll()
    assert list(read_log(tmp_path, 0)) == [Entry(1000.0, "login: ", more=True)]
    recorder.close()


def test_what_was_overwritten_before_it_was_read_is_told(tmp_path: Path) -> None:
    written = WrittenRegion()
    recorder = Recorder(written.region(), tmp_path)
    written.log(1, b"a" * 100 + b"b" * written.log_size)
    recorder.poll()
    recorder.close()
    gap, rest = list(read_log(tmp_path, 1))[:2]
    assert gap.lost == 100
    assert set(rest.text) == {"b"}


def test_what_is_being_overwritten_is_not_taken_for_what_was_there(tmp_path: Path) -> None:
    written = WrittenRegion()
    written.log(1, b"a" * written.log_size)
    written.begin_log(1, b"b" * 100, claimed=256)
    recorder = Recorder(written.region(), tmp_path)
    recorder.poll()
    recorder.close()
    gap, rest = list(read_log(tmp_path, 1))[:2]
    assert gap.lost == 256
    assert rest.text == "a" * (written.log_size - 256)


def test_nothing_is_recorded_before_the_region_is_formatted(tmp_path: Path) -> None:
    written = WrittenRegion()
    written.header.magic = 0
    written.log(0, b"early\n")
    recorder = Recorder(written.region(), tmp_path)
    assert not recorder.poll()
    written.header.magic = written.layout.magic
    assert recorder.poll()
    recorder.close()
    assert [entry.text for entry in read_log(tmp_path, 0)] == ["early"]


def test_changes_of_state_and_stage_become_events(tmp_path: Path) -> None:
    written, clock = WrittenRegion(), Clock()
    recorder = Recorder(written.region(), tmp_path, clock=clock, begin=990.0)
    recorder.poll()
    written.set(2, "started", "trampoline")
    clock.now = 1003.0
    recorder.poll()
    written.set(2, "running", "user").heartbeat = 5
    clock.now = 1004.0
    assert recorder.poll()
    assert not recorder.poll()
    recorder.close()
    events = [event for event in recorded_events(tmp_path) if event["event"] == "kernel"]
    assert [(event["since_start_s"], event["state"], event["stage"]) for event in events] == [
        (13.0, "started", "trampoline"),
        (14.0, "running", "user"),
    ]
    assert recorder.times()["2"]["user_at"] == 1004.0
    assert recorder.times()["2"]["heartbeat_at"] == 1004.0


def test_a_heartbeat_alone_is_no_movement_and_no_event(tmp_path: Path) -> None:
    written = WrittenRegion()
    written.set(0, "running", "user")
    recorder = Recorder(written.region(), tmp_path)
    recorder.poll()
    nr_events = len(recorded_events(tmp_path))
    written.slot(0).heartbeat += 1
    assert not recorder.poll()
    assert len(recorded_events(tmp_path)) == nr_events
    recorder.close()


def test_a_log_head_that_cannot_be_true_does_not_stop_the_recorder(tmp_path: Path) -> None:
    written = WrittenRegion()
    recorder = Recorder(written.region(), tmp_path)
    written.log(0, b"fine\n")
    written.slot(1).log_head = (1 << 64) - 1
    recorder.poll()
    written.slot(1).log_head = 3
    recorder.poll()
    recorder.close()
    assert [entry.text for entry in read_log(tmp_path, 0)] == ["fine"]
    assert any(entry.lost for entry in read_log(tmp_path, 1))


def test_the_serial_port_is_followed_too(tmp_path: Path) -> None:
    (tmp_path / "serial.log").write_bytes(b"SeaBIOS\r\nLinux ver")
    recorder = Recorder(None, tmp_path)
    recorder.poll()
    with (tmp_path / "serial.log").open("ab") as log:
        log.write(b"sion\r\n")
    recorder.poll()
    recorder.close()
    assert [entry.text for entry in read_log(tmp_path, "serial")] == ["SeaBIOS", "Linux version"]


def test_events_are_json_lines(tmp_path: Path) -> None:
    recorder = Recorder(None, tmp_path)
    recorder.event("ended", reason="down")
    recorder.close()
    (line,) = (tmp_path / "events.jsonl").read_text().splitlines()
    assert json.loads(line)["reason"] == "down"
