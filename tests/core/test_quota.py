from proxy.core.quota import FORGOTTEN_S, Usage

ANN, BOB = b"a" * 16, b"b" * 16
HIGH = (("x-app-usage", '{"call_count":90}'),)
LOW = (("X-App-Usage", '{"call_count":9}'),)
ACCOUNT = (("X-Ad-Account-Usage", '{"acc_id_util_pct":9.67}'),)
NEWER = (("X-Ad-Account-Usage", '{"acc_id_util_pct":10}'),)


def test_the_newest_is_told() -> None:
    """A reply that Graph did not give now shows what Graph last said, not what it said when the body was fetched."""
    usage = Usage()
    usage.note(ANN, "act_1", (*HIGH, ("ETag", '"e"')), 100)
    assert usage.newest(ANN, "act_1", 101) == HIGH
    usage.note(ANN, "act_1", LOW, 102)
    assert usage.newest(ANN, "act_1", 103) == LOW


def test_silence_is_no_news() -> None:
    """A reply without usage headers leaves the newest known as it is."""
    usage = Usage()
    usage.note(ANN, "act_1", HIGH, 100)
    usage.note(ANN, "act_1", (("ETag", '"e"'),), 101)
    assert usage.newest(ANN, "act_1", 102) == HIGH


def test_usage_is_ones_own() -> None:
    """Nobody sees the usage of another credential, nor one account's on another."""
    usage = Usage()
    usage.note(ANN, "act_1", (*HIGH, *ACCOUNT), 100)
    assert usage.newest(ANN, "act_1", 100) == (*HIGH, *ACCOUNT)
    assert usage.newest(BOB, "act_1", 100) == ()
    assert usage.newest(ANN, "act_2", 100) == HIGH


def test_an_apps_usage_is_told_whatever_was_read() -> None:
    """What Graph said of the app with one object is the newest for every other, and for a call that names none."""
    usage = Usage()
    usage.note(ANN, "111", HIGH, 100)
    usage.note(ANN, "222", LOW, 101)
    assert usage.newest(ANN, "111", 102) == usage.newest(ANN, "", 102) == LOW


def test_old_news_is_forgotten() -> None:
    """A client that sleeps on a high value is not made to sleep on one that has long decayed."""
    usage = Usage()
    usage.note(ANN, "act_1", HIGH, 100)
    assert usage.newest(ANN, "act_1", 100 + FORGOTTEN_S - 1) == HIGH
    assert usage.newest(ANN, "act_1", 100 + FORGOTTEN_S) == ()


def test_memory_is_bounded() -> None:
    """However many accounts are read, only so many usages are remembered: those told longest ago go."""
    usage = Usage()
    for number in range(Usage.PLACES):
        usage.note(ANN, str(number), ACCOUNT, 100)
    usage.note(ANN, "0", NEWER, 101)
    usage.note(ANN, "one more", ACCOUNT, 102)
    assert usage.newest(ANN, "0", 102) == NEWER
    assert usage.newest(ANN, "1", 102) == ()
    assert usage.newest(ANN, "2", 102) == ACCOUNT
