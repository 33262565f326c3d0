"""The journal of a search."""

from keras_srt.tuning.journal import Journal


def test_a_journal_ends_at_its_first_damaged_line(tmp_path, caplog):
    path = tmp_path / "journal.jsonl"
    journal = Journal(path)
    for number in range(3):
        journal.add({"event": number})
    assert [event["event"] for event in journal.read()] == [0, 1, 2]
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert [event["event"] for event in journal.read()] == [0]
    assert "damaged after 1 events" in caplog.text
    journal.add({"event": 3})
    assert [event["event"] for event in journal.read()] == [0, 3]
