"""Positions of a binlog: their text, what they say of a server's marks, where a reader begins."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc_daemon.model.errors import PreflightRefusal, Stop
from cdc_daemon.sources.mysql.gtid import Gtid, Triple, parse_domains, parse_set
from cdc_daemon.sources.mysql.position import (
    Begun,
    FilePosition,
    FromDomains,
    FromFile,
    FromSet,
    MariadbPosition,
    MysqlPosition,
    Position,
    parse_position,
    true_offset,
)
from cdc_daemon.sources.mysql.xid import Xid

A = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
XID = Xid(1, b"x1", b"")
US = 1_795_805_298_123_456

MYSQL = f"mysql/1 set={A}:1-5:blue:1 last={A}:5@{US} xa=1.7831.@{A}:4"
MARIADB = (
    "mariadb/1 at=0-1-17,7-2-5 last=0-1-17@1795805298 before=0-1-16 file=1@1795805290"
    " xa=1.7831.@0-1-16/0-1-15"
)
BINLOG = f"binlog/1 server={A} at=my%20log.000003:1234 last=1100@1795805298 xa=1.7831.@bin.000002:4"
TEXTS = (
    MYSQL,
    MARIADB,
    BINLOG,
    "mysql/1 set=",
    "mariadb/1 at=",
    f"binlog/1 server={A} at=b.000001:4",
)


@pytest.mark.parametrize("text", TEXTS)
def test_text_is_read_as_it_is_written(text: str) -> None:
    assert str(parse_position(text)) == text


@settings(max_examples=200)
@given(st.sampled_from(TEXTS), st.data())
def test_a_damaged_text_is_refused_in_words(text: str, data: st.DataObject) -> None:
    """Never another position, and never a traceback."""
    place = data.draw(st.integers(0, len(text) - 1))
    letter = data.draw(st.sampled_from(" =,-:/@.%x09éA\n"))
    changed = data.draw(
        st.sampled_from((text[:place] + letter + text[place + 1 :], text[:place], text + letter))
    )
    try:
        found = parse_position(changed)
    except Stop:
        return
    assert str(found) == changed


def test_mysql_reads_on_one_transaction_earlier() -> None:
    """And the first that comes must be the witness."""
    position = MysqlPosition(executed=parse_set(f"{A}:1-4"))
    assert position.start() == FromSet(parse_set(f"{A}:1-4"))  # nothing was streamed yet
    position.advance(Gtid(A, 5), US)
    assert position.start() == FromSet(parse_set(f"{A}:1-4"))
    assert position.start(witness=False) == FromSet(parse_set(f"{A}:1-5"))
    assert (position.last, position.time) == (Gtid(A, 5), US)


def test_mariadb_knows_another_transaction_of_the_same_second_by_its_file() -> None:
    """Times in its log are whole seconds; who writes other transactions began another file."""
    position = MariadbPosition(domains=parse_domains("0-1-16"))
    position.advance(Triple(0, 1, 17), 500, Begun(1, 400))
    witness = position.witness
    assert witness is not None
    witness.confirm(500, Begun(1, 400))
    witness.confirm(500, Begun(2, 500))  # another server: its files are its own
    witness.confirm(500, Begun(1, 600))  # what another server had kept was copied back later
    with pytest.raises(PreflightRefusal, match="a file that was begun later"):
        witness.confirm(500, Begun(1, 500))
    with pytest.raises(PreflightRefusal, match="another time"):
        witness.confirm(501, Begun(1, 501))


def test_mysql_compares_itself_with_a_servers_sets() -> None:
    position = MysqlPosition(executed=parse_set(f"{A}:1-5:blue:1"))
    assert position.covers(parse_set(f"{A}:1-5"))
    assert not position.covers(parse_set(f"{A}:1-5:green:1"))
    assert str(position.beyond(parse_set(f"{A}:1-3:blue:1"))) == f"{A}:4-5"
    assert str(position.missing(parse_set(f"{A}:1-7"))) == f"{A}:6-7"
    assert not position.missing(parse_set(f"{A}:1-5"))


def test_mariadb_reads_on_one_transaction_earlier() -> None:
    position = MariadbPosition(domains=parse_domains("0-1-16,7-2-5"))
    assert position.start() == FromDomains(parse_domains("0-1-16,7-2-5"))
    position.advance(Triple(0, 1, 17), 1_795_805_298)
    assert position.start() == FromDomains(parse_domains("0-1-16,7-2-5"))
    assert position.start(witness=False) == FromDomains(parse_domains("0-1-17,7-2-5"))
    position.advance(Triple(9, 1, 1), 1_795_805_299)
    assert position.start() == FromDomains(parse_domains("0-1-17,7-2-5"))
    assert str(position) == "mariadb/1 at=0-1-17,7-2-5,9-1-1 last=9-1-1@1795805299"


def test_mariadb_compares_itself_with_a_servers_position() -> None:
    position = MariadbPosition(domains=parse_domains("0-1-16,7-2-5"))
    assert position.covers(parse_domains("0-2-16"))
    assert not position.covers(parse_domains("0-2-17"))
    assert not position.covers(parse_domains("0-2-16,8-1-1"))
    assert position.beyond(parse_domains("0-1-12,7-2-5")) == {0: Triple(0, 1, 16)}
    assert position.beyond(parse_domains("0-1-16")) == {7: Triple(7, 2, 5)}


def test_m17_a_prepared_transaction_is_read_again_from_before_it() -> None:
    """Also after a restart: everything that is needed stands in the text."""
    mysql = MysqlPosition(executed=parse_set(f"{A}:1-9"), prepared={XID: Gtid(A, 4)})
    assert reread(mysql) == FromSet(parse_set(f"{A}:1-3:5-9"))
    group = (Triple(0, 1, 4), Triple(0, 1, 3))
    mariadb = MariadbPosition(domains=parse_domains("0-1-9,7-1-2"), prepared={XID: group})
    assert reread(mariadb) == FromDomains(parse_domains("0-1-3,7-1-2"))
    mariadb.prepared[XID] = (Triple(0, 1, 1), None)
    assert reread(mariadb) == FromDomains(parse_domains("7-1-2"))
    place = FromFile("bin.000002", 777)
    file = FilePosition(server=A, at=FromFile("bin.000003", 9), prepared={XID: place})
    assert reread(file) == place


def reread(position: Position) -> object:
    return parse_position(str(position)).again(XID)


def test_a_file_position_reads_on_one_event_earlier() -> None:
    position = FilePosition(server=A, at=FromFile("bin.000003", 500))
    position.advance(FromFile("bin.000003", 900), last=869, time=1_795_805_298)
    assert position.start() == FromFile("bin.000003", 869)
    assert position.start(witness=False) == FromFile("bin.000003", 900)
    position.rotate("bin.000004")
    assert position.start() == FromFile("bin.000004", 4)


def test_file_positions_are_compared_by_number() -> None:
    position = FilePosition(server=A, at=FromFile("bin.999999", 500))
    assert position.covers(FromFile("bin.999999", 500))
    assert not position.covers(FromFile("bin.1000000", 4))
    assert position.beyond(FromFile("bin.999998", 900)) == position.at
    assert position.beyond(FromFile("bin.1000000", 4)) is None


def test_m26_an_offset_beyond_four_gibibytes_is_not_cut() -> None:
    """A header has the lower 32 bits of it only."""
    assert true_offset(100, 200) == 200
    assert true_offset((1 << 32) - 100, 400) == (1 << 32) + 400
    assert true_offset((1 << 32) + 400, 500) == (1 << 32) + 500


def test_the_witness_may_come_behind_others_in_another_domain_or_set() -> None:
    """A replica may have written them in another order."""
    assert MysqlPosition().witness is None
    mysql = MysqlPosition()
    mysql.advance(Gtid(A, 5), US)
    witness = mysql.witness
    assert witness is not None
    assert not witness.meets(Gtid(A, 7))
    assert witness.meets(Gtid(A, 5))
    mariadb = MariadbPosition()
    mariadb.advance(Triple(0, 1, 17), 1_795_805_298)
    assert mariadb.witness is not None
    assert not mariadb.witness.meets(Triple(7, 1, 1))
    assert mariadb.witness.meets(Triple(0, 1, 17))
    mariadb.witness.confirm(1_795_805_298)


def test_another_transaction_in_the_witness_place_is_another_history() -> None:
    mariadb = MariadbPosition()
    mariadb.advance(Triple(0, 1, 17), 1_795_805_298)
    assert mariadb.witness is not None
    with pytest.raises(PreflightRefusal, match=r"up to 0-1-17, and the server has 0-2-17 there"):
        mariadb.witness.meets(Triple(0, 2, 17))
    file = FilePosition(server=A, at=FromFile("bin.000003", 900), last=869, time=9)
    assert file.witness is not None
    assert file.witness.meets(FromFile("bin.000003", 900))
    with pytest.raises(PreflightRefusal, match="snapshot start"):
        file.witness.meets(FromFile("bin.000003", 901))


def test_the_same_number_at_another_time_is_another_history() -> None:
    mysql = MysqlPosition()
    mysql.advance(Gtid(A, 5), US)
    assert mysql.witness is not None
    mysql.witness.confirm(US)
    mysql.witness.confirm(0)  # a server that does not tell it
    with pytest.raises(PreflightRefusal, match="another time"):
        mysql.witness.confirm(US + 1)


def test_numbers_that_go_back_are_another_history() -> None:
    """A server that is reset while its log is read begins anew in the open stream."""
    mysql = MysqlPosition(executed=parse_set(f"{A}:1-5"))
    with pytest.raises(PreflightRefusal, match="again"):
        mysql.advance(Gtid(A, 5), US)
    mariadb = MariadbPosition(domains=parse_domains("0-1-17"))
    with pytest.raises(PreflightRefusal, match="0-1-1"):
        mariadb.advance(Triple(0, 1, 1), 9)
